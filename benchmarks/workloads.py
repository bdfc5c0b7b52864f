"""What the speed benchmarks train on: W, the workload of the targets, and three variations of it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.fleet import Fleet, read_fleet
from foretrain.sample_data import write_sample

TARGETS = ("cpu_percent", "memory_percent")
SERVERS = 200


@dataclass(frozen=True)
class Workload:
    """The shape of the windows and of the network."""

    encoder_length: int = 48
    horizon: int = 12
    hidden: int = 32
    copies: int = 1  # of the servers


WORKLOADS = {
    "W": Workload(),
    "servers10": Workload(copies=10),
    "hidden128": Workload(hidden=128),
    # Few such windows fit into a day: copies, so that an epoch has steps enough.
    "long": Workload(encoder_length=168, horizon=24, copies=10),
}


def fleet_of(data: Path | None, workload: Workload) -> Fleet:
    """200 servers, or copies of them under other names; without a file those of `foretrain sample-data`."""
    with tempfile.TemporaryDirectory() as folder:
        path = data or write_sample(Path(folder) / "fleet.parquet", fleet=SERVERS).path
        fleet = read_fleet(
            path,
            TARGETS,
            servers=SERVERS,
            new=0,
            test=0.0,
            encoder_length=workload.encoder_length,
            horizon=workload.horizon,
        )
    names = tuple(f"{name}-{copy}" for copy in range(workload.copies) for name in fleet.servers)
    times, table = (np.concatenate([part] * workload.copies) for part in (fleet.times, fleet.table))
    return replace(fleet, servers=names, seen=len(names), times=times, table=table)
