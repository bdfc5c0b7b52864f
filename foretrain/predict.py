"""`foretrain predict BUNDLE DATA --out FILE`: forecasts from what training left, without the service."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console

from foretrain.data_files import format_of, refusal_of
from foretrain.forecast_table import check_can_be_written, forecast_table, write_table
from foretrain.refusals import Refusal
from trainer.bundle import InvalidBundle, read_bundle
from trainer.dataset.errors import DatasetError, listed
from trainer.future import look_ahead, read_history
from trainer.loading import quick_imports
from trainer.threads import let_threads_sleep

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from trainer.bundle import Bundle
    from trainer.dataset.schema import DatasetMapping
    from trainer.future import Future

MOST_NAMED = 10


def run_prediction(
    folder: Path,
    file: Path,
    out: Path,
    overrides: DatasetMapping,
    *,
    threads: int | None,
    force: bool,
    asked_format: str | None = None,
) -> int:
    """Forecast every series of the file that has enough history; 0 when done. Raises Refusal."""
    started_at = time.monotonic()
    console = Console(highlight=False, soft_wrap=True)
    check_can_be_written(out, force=force)
    data_format = format_of(file, asked_format)
    try:
        bundle = read_bundle(folder)
        with console.status("Reading the data"):
            future = look_ahead(read_history(bundle, file, data_format, overrides), bundle)
    except InvalidBundle as error:
        raise Refusal(str(error)) from error
    except DatasetError as error:
        raise refusal_of(file, error) from error
    _warn_of_the_left_out(bundle, future)
    if not future.seen.any():
        raise Refusal(
            f"{file}: no series can be forecast; each needs {bundle.spec.encoder_length} steps of history"
        )
    with console.status("Forecasting"):
        write_table(_forecast(bundle, future, threads), out)
    targets, new = bundle.layout.targets, int((~future.known).sum())
    console.print(
        f"{len(future.known):,} series ({new:,} new to the model), {bundle.spec.horizon} steps of "
        f"{', '.join(targets)} in {time.monotonic() - started_at:.1f} s: {out}"
    )
    return 0


def _forecast(bundle: Bundle, future: Future, threads: int | None) -> pa.Table:
    let_threads_sleep()
    with quick_imports():
        import torch  # seconds of imports, after the quick refusals

        from trainer.predict import forecast_future

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return forecast_table(bundle, future, forecast_future(bundle, future))
    except InvalidBundle as error:
        raise Refusal(str(error)) from error


def _warn_of_the_left_out(bundle: Bundle, future: Future) -> None:
    if future.too_short:
        named = listed((f"{name} ({why})" for name, why in future.too_short.items()), MOST_NAMED)
        _warn(f"{len(future.too_short):,} series are too short and left out: {named}")
    for place, target in enumerate(bundle.layout.targets):
        unseen = [
            name
            for name, seen in zip(future.series.series_names, future.seen[:, place], strict=True)
            if not seen
        ]
        if unseen:
            _warn(
                f"{target} has no value in the last {bundle.spec.encoder_length} steps of {len(unseen):,} "
                f"series and is not forecast there: {listed(unseen, MOST_NAMED)}"
            )


def _warn(sentence: str) -> None:
    print(f"foretrain: {sentence}", file=sys.stderr)  # noqa: T201  # a command line speaks
