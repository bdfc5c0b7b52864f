"""A few windows with their forecasts: for the report, and for anyone who wants to repeat them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from trainer.checkpoint import write_whole
from trainer.clock import calendar_names
from trainer.dataset.filling import open_gaps
from trainer.layout import SERIES, TIME_INDEX
from trainer.report.inputs import ExampleForecast
from trainer.windows import WindowSource

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.dataset.series import SeriesData
    from trainer.evaluation.calibration import Calibration
    from trainer.prepare import PreparedRun
    from trainer.split import Windows

IntArray = npt.NDArray[np.int64]

EXAMPLE_TABLE = "example.parquet"
EXAMPLE_SCRIPT_INPUT = "example.json"
SERIES_SHOWN = 4
WINDOWS_AT_ONCE = 32
NEW_SERVER = "a new server"


@dataclass(frozen=True)
class _Cut:
    """Some windows of one source, and what the network forecasts for them."""

    data: SeriesData
    source: WindowSource
    series: IntArray  # (n,)
    origins: IntArray  # (n,)
    known: bool  # whether the network was trained on these series
    x: dict[str, Any]
    raw: npt.NDArray[np.float32]  # (n, horizon, targets, quantiles)
    published: npt.NDArray[np.float32]


class Examples:
    """The last window of some series, spread over the fleet, with the network's float32 forecasts.

    One of them comes twice: the second time as a server that the network does not know by name, with the
    scale of its own history.
    """

    def __init__(self, run: PreparedRun, windows: Windows, calibration: Calibration | None) -> None:
        self._run = run
        self._calibration = calibration
        self._windows = windows
        self.series, self.origins = self._last_windows(SERIES_SHOWN)
        self._known = self._cut(run.series, run.source, self.series, self.origins, known=True)
        self.published = self._known.published
        self._cuts = [self._known, self._as_a_new_server(int(self.series[-1]), int(self.origins[-1]))]

    def _last_windows(self, most: int) -> tuple[IntArray, IntArray]:
        """Series and origin of the last window of so many series, spread over the fleet."""
        count = len(self._windows.series)
        chosen = np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))
        return self._windows.locate(np.cumsum(self._windows.counts)[chosen] - 1)

    def _cut(
        self, data: SeriesData, source: WindowSource, series: IntArray, origins: IntArray, *, known: bool
    ) -> _Cut:
        run = self._run
        x, _ = source.batch(torch.from_numpy(series).to(run.device), torch.from_numpy(origins).to(run.device))
        run.model.eval()
        with torch.inference_mode():
            raw: npt.NDArray[np.float32] = run.model.quantiles(x).cpu().numpy()
        # Sorted, so that quantiles never cross, and calibrated if that was asked for.
        ordered = np.sort(raw, axis=-1)
        published = (
            ordered if self._calibration is None else self._calibration.apply(ordered).astype(np.float32)
        )
        return _Cut(data, source, series, origins, known, x, raw, published)

    def _as_a_new_server(self, series: int, origin: int) -> _Cut:
        """A window of a series, as if the network had never been trained on it."""
        run, data = self._run, self._run.series
        name = NEW_SERVER
        while name in data.series_names:
            name += "*"
        first = int(data.offsets[series])
        rows = slice(first, origin + run.spec.horizon)
        stranger = replace(
            data,
            series_names=[name],
            offsets=np.array([0, rows.stop - first]),
            times=data.times[rows],
            values={column: values[rows] for column, values in data.values.items()},
            observed={column: seen[rows] for column, seen in data.observed.items()},
            categories={column: [name] for column in data.categories},
        )
        here = np.array([origin - first])
        source = WindowSource(
            stranger,
            run.layout,
            run.scaling,
            encoder_length=run.spec.encoder_length,
            horizon=run.spec.horizon,
            device=run.device,
            history_end=here,
        )
        return self._cut(stranger, source, np.array([0]), here, known=False)

    def for_report(self) -> list[ExampleForecast]:
        """One per window and target, in original units."""
        return self._shown(self.series, self.origins, self.published)

    def of_many_series(self, most: int) -> list[ExampleForecast]:
        """The same for more series, forecast anew, a few windows at a time."""
        shown: list[ExampleForecast] = []
        series, origins = self._last_windows(most)
        for start in range(0, len(series), WINDOWS_AT_ONCE):
            part = slice(start, start + WINDOWS_AT_ONCE)
            cut = self._cut(self._run.series, self._run.source, series[part], origins[part], known=True)
            shown += self._shown(series[part], origins[part], cut.published)
        return shown

    def _shown(
        self, series: IntArray, origins: IntArray, published: npt.NDArray[np.float32]
    ) -> list[ExampleForecast]:
        run = self._run
        return [
            ExampleForecast(
                series=run.series.series_names[one],
                target=target,
                history_times=run.series.times[origin - run.spec.encoder_length : origin],
                history=run.series.values[target][origin - run.spec.encoder_length : origin],
                times=run.series.times[origin : origin + run.spec.horizon],
                actual=self._actual(target, slice(origin, origin + run.spec.horizon)),
                quantiles=published[index, :, place],
            )
            for index, (one, origin) in enumerate(zip(series, origins, strict=True))
            for place, target in enumerate(run.layout.targets)
        ]

    def _actual(self, target: str, ahead: slice) -> npt.NDArray[np.floating[Any]]:
        values, observed = self._run.series.values[target], self._run.series.observed[target]
        return np.where(observed[ahead], values[ahead], np.nan)

    def write(self, out_dir: Path) -> list[str]:
        """Write every input under its inner name, and the forecasts as lists; the names of the files.

        Twice: the libraries that stock_example.py may use read no Parquet.
        """
        table = pa.concat_tables(pa.table(self._inputs(cut) | self._forecasts(cut)) for cut in self._cuts)
        about = self._about()
        annotated = table.replace_schema_metadata({"foretrain": json.dumps(about)})
        pq.write_table(annotated, out_dir / EXAMPLE_TABLE)
        columns = {
            name: _plain(table[name].to_pylist()) for name in table.column_names if name != "timestamp"
        }
        content = json.dumps({"about": about, "columns": columns}, allow_nan=False)
        write_whole(out_dir / EXAMPLE_SCRIPT_INPUT, content.encode())
        return [EXAMPLE_TABLE, EXAMPLE_SCRIPT_INPUT]

    def _inputs(self, cut: _Cut) -> dict[str, Any]:
        run, x, length = self._run, cut.x, self._run.spec.encoder_length + self._run.spec.horizon
        rows = cut.origins[:, None] + np.arange(-run.spec.encoder_length, run.spec.horizon)
        first = x["decoder_time_idx"][:, :1].cpu().numpy() - run.spec.encoder_length
        names = [cut.data.series_names[i] for i in cut.series]
        columns: dict[str, Any] = {
            SERIES: np.repeat(names, length),
            "known": np.full(rows.size, cut.known),
            TIME_INDEX: (first + np.arange(length)).ravel(),
            "timestamp": pa.array(cut.data.times[rows.ravel()], pa.timestamp("us", tz="UTC")),
        }
        for name, inside in run.layout.internal_statics.items():
            columns[inside] = np.repeat([cut.data.categories[name][i] for i in cut.series], length)
        cont = torch.cat((x["encoder_cont"], x["decoder_cont"]), dim=1).cpu().numpy().astype(np.float64)
        for position, name in enumerate(calendar_names(run.layout.calendar)):
            columns[name] = cont[..., position].ravel()
        for name, inside in run.layout.internal.items():
            columns[inside] = self._as_seen(cut, name, rows).ravel()
        return columns | self._own_scales(cut, length)

    def _as_seen(self, cut: _Cut, name: str, rows: IntArray) -> npt.NDArray[np.float64]:
        """A numeric column over whole windows (n, t), its gaps as the encoder was shown them."""
        values = cut.data.values[name].astype(np.float64)
        if name in self._run.layout.known:  # known in advance, beyond the end of any gap
            return values[rows]
        gaps = open_gaps(values, cut.data.observed[name], cut.data.offsets, cut.source.neutral(name))
        past = rows[:, : self._run.spec.encoder_length]
        ahead = values[rows[:, self._run.spec.encoder_length :]]
        return np.concatenate([gaps.values_at(values, past, cut.origins), ahead], axis=1)

    def _own_scales(self, cut: _Cut, length: int) -> dict[str, Any]:
        """Centre and scale that stock cannot look up, as it knows the server not; null for known servers."""
        columns: dict[str, Any] = {}
        for name, inside in self._run.layout.internal.items():
            scales = cut.source.scales.get(name)
            if scales is None:
                continue
            for place, part in enumerate(("centre", "scale")):
                values = np.repeat(scales[cut.series, place], length)
                mask = np.full(len(values), cut.known)
                columns[f"{inside}_{part}"] = pa.array(values, pa.float64(), mask=mask)
        return columns

    def _forecasts(self, cut: _Cut) -> dict[str, Any]:
        """Lists of quantiles on the rows of the horizon, null on those of the history."""
        spec = self._run.spec
        steps = np.arange(spec.encoder_length + spec.horizon)
        ahead = np.tile(steps >= spec.encoder_length, len(cut.series))
        columns: dict[str, Any] = {"is_forecast": ahead}
        for place, inside in enumerate(self._run.layout.target_inputs):
            for kind, quantiles in (("raw", cut.raw), ("published", cut.published)):
                lists: list[list[float] | None] = [None] * len(ahead)
                flat = quantiles[:, :, place].reshape(-1, len(spec.quantiles)).tolist()
                for row, values in zip(np.flatnonzero(ahead), flat, strict=True):
                    lists[row] = values
                columns[f"{inside}_{kind}"] = pa.array(lists, pa.list_(pa.float32()))
        return columns

    def _about(self) -> dict[str, Any]:
        run = self._run
        inputs = [
            SERIES,
            TIME_INDEX,
            *run.layout.static_inputs,
            *calendar_names(run.layout.calendar),
            *run.layout.internal.values(),
        ]
        return {
            "quantiles": run.spec.quantiles,
            "inputs": inputs,
            "columns": run.layout.readable,
            "scaled_by_server": [run.layout.internal[name] for name in run.source.scales],
            "targets": {
                inside: {
                    "column": name,
                    "training_std": run.scaling.deviations[index],
                    "floor": float(run.scaling.floors[index]) if run.scaling.per_window else 0.0,
                }
                for index, (name, inside) in enumerate(
                    zip(run.layout.targets, run.layout.target_inputs, strict=True)
                )
            },
        }


def _plain(values: list[Any]) -> list[Any]:
    """With null for what is no number, as JSON wants it."""
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]
