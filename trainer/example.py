"""A few windows with their forecasts: for the report, and for anyone who wants to repeat them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from trainer.clock import calendar_names
from trainer.layout import SERIES, TIME_INDEX
from trainer.report.inputs import ExampleForecast

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.evaluation.calibration import Calibration
    from trainer.prepare import PreparedRun
    from trainer.split import Windows
    from trainer.windows import Batch

SERIES_SHOWN = 4


class Examples:
    """The last window of some series, spread over the fleet, with the network's float32 forecasts."""

    def __init__(self, run: PreparedRun, windows: Windows, calibration: Calibration | None) -> None:
        self._run = run
        count = len(windows.series)
        chosen = np.unique(np.linspace(0, count - 1, min(SERIES_SHOWN, count)).astype(np.int64))
        last = np.cumsum(windows.counts)[chosen] - 1
        self.series, self.origins = windows.locate(last)
        self.batch: Batch = run.source.batch(
            torch.from_numpy(self.series).to(run.device), torch.from_numpy(self.origins).to(run.device)
        )
        run.model.eval()
        with torch.inference_mode():
            raw = run.model.quantiles(self.batch[0])
        self.raw: npt.NDArray[np.float32] = raw.cpu().numpy()  # (n, horizon, targets, quantiles)
        # Sorted, so that quantiles never cross, and calibrated if that was asked for.
        ordered = np.sort(self.raw, axis=-1)
        self.published = ordered if calibration is None else calibration.apply(ordered).astype(np.float32)

    def for_report(self) -> list[ExampleForecast]:
        """One per window and target, in original units."""
        run, shown = self._run, []
        for index, (series, origin) in enumerate(zip(self.series, self.origins, strict=True)):
            past = slice(origin - run.spec.encoder_length, origin)
            ahead = slice(origin, origin + run.spec.horizon)
            for place, target in enumerate(run.layout.targets):
                values, observed = run.series.values[target], run.series.observed[target]
                shown.append(
                    ExampleForecast(
                        series=run.series.series_names[series],
                        target=target,
                        history_times=run.series.times[past],
                        history=values[past],
                        times=run.series.times[ahead],
                        actual=np.where(observed[ahead], values[ahead], np.nan),
                        quantiles=self.published[index, :, place],
                    )
                )
        return shown

    def write(self, path: Path) -> None:
        """Write example.parquet: every input under its inner name, and the forecasts as lists."""
        table = pa.table(self._inputs() | self._forecasts())
        about = json.dumps(self._about())
        pq.write_table(table.replace_schema_metadata({"foretrain": about}), path)

    def _inputs(self) -> dict[str, Any]:
        run, x = self._run, self.batch[0]
        length = run.spec.encoder_length + run.spec.horizon
        rows = (self.origins[:, None] + np.arange(-run.spec.encoder_length, run.spec.horizon)).ravel()
        first = x["decoder_time_idx"][:, :1].cpu().numpy() - run.spec.encoder_length
        columns: dict[str, Any] = {
            SERIES: np.repeat([run.series.series_names[i] for i in self.series], length),
            TIME_INDEX: (first + np.arange(length)).ravel(),
            "timestamp": pa.array(run.series.times[rows], pa.timestamp("us", tz="UTC")),
        }
        for name, inside in run.layout.internal_statics.items():
            columns[inside] = np.repeat([run.series.categories[name][i] for i in self.series], length)
        cont = torch.cat((x["encoder_cont"], x["decoder_cont"]), dim=1).cpu().numpy().astype(np.float64)
        for position, name in enumerate(calendar_names(run.layout.calendar)):
            columns[name] = cont[..., position].ravel()
        for name, inside in run.layout.internal.items():
            columns[inside] = run.series.values[name][rows].astype(np.float64)
        return columns

    def _forecasts(self) -> dict[str, Any]:
        """Lists of quantiles on the rows of the horizon, null on those of the history."""
        spec = self._run.spec
        ahead = np.tile(
            np.arange(spec.encoder_length + spec.horizon) >= spec.encoder_length, len(self.series)
        )
        columns: dict[str, Any] = {"is_forecast": ahead}
        for place, inside in enumerate(self._run.layout.target_inputs):
            for kind, quantiles in (("raw", self.raw), ("published", self.published)):
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
