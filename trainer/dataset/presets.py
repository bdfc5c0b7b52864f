"""What to make of the metrics of well-known exporters, so that nobody need know their formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from trainer.dataset.schema import PresetName

FloatArray = npt.NDArray[np.float64]
Combine = Literal["mean", "sum", "max"]


@dataclass(frozen=True)
class Derivation:
    """One column out of one or more metrics that have the same labels."""

    name: str
    unit: str
    inputs: tuple[str, ...]
    formula: Callable[..., FloatArray]  # of arrays (n,), one for each input
    counters: bool = False  # the inputs grow; the formula sees their growth per second
    where: Mapping[str, str] = field(default_factory=dict)  # only series with these labels
    without: Mapping[str, str] = field(default_factory=dict)  # no series with one of these labels
    prefer: Mapping[str, str] = field(default_factory=dict)  # those with these labels, if there are any
    over: tuple[str, ...] = ()  # labels whose values are combined into one
    combine: Combine = "max"


def preset_units(preset: PresetName | None) -> dict[str, str]:
    """Units by the names of the columns that a preset makes."""
    return {} if preset is None else {rule.name: rule.unit for rule in PRESETS[preset]}


def _as_it_is(values: FloatArray) -> FloatArray:
    return values


def _rest_of_100(values: FloatArray) -> FloatArray:
    return 100.0 - values


def _percent(share: FloatArray) -> FloatArray:
    return 100.0 * share


def _percent_busy(idle_share: FloatArray) -> FloatArray:
    # Two clocks, the kernel's and the sampler's: a share can come out a little above 1.
    return np.clip(100.0 * (1.0 - idle_share), 0.0, 100.0)


def _percent_used(available: FloatArray, total: FloatArray) -> FloatArray:
    return 100.0 * (1.0 - available / total)


def _percent_of_millis(millis_per_second: FloatArray) -> FloatArray:
    return millis_per_second / 10.0


def _same(name: str, unit: str, *metrics: str, **how: Any) -> list[Derivation]:
    """The column is one of these metrics as it is, the first that is there."""
    return [Derivation(name, unit, (metric,), _as_it_is, **how) for metric in metrics]


_FILESYSTEM = ("device", "device_error", "fstype", "mode", "mountpoint", "path")
_NO_LOOPBACK: dict[str, Any] = {"over": ("device",), "combine": "sum", "without": {"device": "lo"}}
_TELEGRAF_NET: dict[str, Any] = {"over": ("interface",), "combine": "sum", "without": {"interface": "lo"}}
_TELEGRAF_CPU: dict[str, Any] = {"over": ("cpu",), "combine": "mean", "prefer": {"cpu": "cpu-total"}}

# Sources: the collectors of https://github.com/prometheus/node_exporter, the input plugins of
# https://docs.influxdata.com/telegraf/v1/plugins/#input-plugins, and the metrics of
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html.
PRESETS: dict[PresetName, list[Derivation]] = {
    "node_exporter": [
        Derivation(
            "cpu_percent",
            "%",
            ("node_cpu_seconds_total",),
            _percent_busy,
            counters=True,
            where={"mode": "idle"},
            over=("cpu", "mode"),
            combine="mean",
        ),
        Derivation(
            "memory_percent",
            "%",
            ("node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes"),
            _percent_used,
        ),
        Derivation(
            "disk_percent",
            "%",
            ("node_filesystem_avail_bytes", "node_filesystem_size_bytes"),
            _percent_used,
            prefer={"mountpoint": "/"},
            over=_FILESYSTEM,
        ),
        Derivation(
            "disk_io_percent",
            "%",
            ("node_disk_io_time_seconds_total",),
            _percent,
            counters=True,
            over=("device",),
        ),
        *_same("load_average", "1", "node_load1"),
        *_same("net_in", "bytes/s", "node_network_receive_bytes_total", counters=True, **_NO_LOOPBACK),
        *_same("net_out", "bytes/s", "node_network_transmit_bytes_total", counters=True, **_NO_LOOPBACK),
    ],
    "telegraf": [
        Derivation("cpu_percent", "%", ("cpu_usage_idle",), _rest_of_100, **_TELEGRAF_CPU),
        Derivation("cpu_percent", "%", ("usage_idle",), _rest_of_100, **_TELEGRAF_CPU),
        *_same("memory_percent", "%", "mem_used_percent"),
        *_same("disk_percent", "%", "disk_used_percent", prefer={"path": "/"}, over=_FILESYSTEM),
        Derivation(
            "disk_io_percent",
            "%",
            ("diskio_io_time",),
            _percent_of_millis,
            counters=True,
            over=("name", "serial"),
        ),
        *_same("load_average", "1", "system_load1"),
        *_same("net_in", "bytes/s", "net_bytes_recv", counters=True, **_TELEGRAF_NET),
        *_same("net_out", "bytes/s", "net_bytes_sent", counters=True, **_TELEGRAF_NET),
        *_same("swap_percent", "%", "swap_used_percent"),
    ],
    "cloudwatch": [
        *_same("cpu_percent", "%", "CPUUtilization", "aws_ec2_cpuutilization_average"),
        Derivation("cpu_percent", "%", ("cpu_usage_idle",), _rest_of_100, **_TELEGRAF_CPU),
        *_same("memory_percent", "%", "mem_used_percent", "MemoryUtilization"),
        *_same("disk_percent", "%", "disk_used_percent", prefer={"path": "/"}, over=_FILESYSTEM),
        *_same("net_in", "bytes", "NetworkIn", "aws_ec2_network_in_average", "aws_ec2_network_in_sum"),
        *_same("net_out", "bytes", "NetworkOut", "aws_ec2_network_out_average", "aws_ec2_network_out_sum"),
        *_same("swap_percent", "%", "swap_used_percent"),
    ],
}
