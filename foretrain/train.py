"""`foretrain train FILE`: the service's trainer without the service."""

from __future__ import annotations

import inspect
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from foretrain.refusals import Refusal, spoken_refusals
from foretrain.scores import score_table
from foretrain.training_options import build_spec, spec_parameters
from foretrain.training_screen import TrainingScreen
from trainer.dataset.errors import DatasetError
from trainer.dataset.inspection import inspect as inspect_dataset
from trainer.dataset.schema import DatasetFormat, DatasetMapping
from trainer.errors import TrainerError
from trainer.threads import let_threads_sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from trainer.dataset.schema import DatasetSchema
    from trainer.recipe import DatasetFile, TrainingResult
    from trainer.spec import TrainingSpec

STOPPED_EXIT = 130
ENDINGS: dict[str, DatasetFormat] = {
    ".csv.gz": "csv.gz",
    ".csv": "csv",
    ".parquet": "parquet",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
}

File = Annotated[Path, typer.Argument(help="A table of server metrics: .csv, .csv.gz, .parquet or .ndjson.")]
Out = Annotated[Path, typer.Option(help="Folder for all that training leaves; must not hold files yet.")]
TimeColumn = Annotated[str | None, typer.Option(help="Default: detected.")]
GroupColumn = Annotated[
    list[str] | None,
    typer.Option(help="Column that names a server; may be given up to 3 times. Default: detected."),
]
Frequency = Annotated[
    str | None, typer.Option(help="Step between rows, such as 30s, 5min, 1h. Default: detected.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: all cores.")]


def build_command() -> Callable[..., Any]:
    """The command, with one option per field of TrainingSpec."""

    def command(
        file: Path,
        out: Path,
        time_column: str | None,
        group_column: list[str] | None,
        frequency: str | None,
        threads: int | None,
        **spec_options: Any,
    ) -> None:
        with spoken_refusals():
            mapping = _mapping(time_column, group_column, frequency)
            raise typer.Exit(run_training(file, out, mapping, build_spec(spec_options), threads))

    own = [
        _parameter("file", File),
        _parameter("out", Out, Path("foretrain-out")),
        _parameter("time_column", TimeColumn, None),
        _parameter("group_column", GroupColumn, None),
        _parameter("frequency", Frequency, None),
        _parameter("threads", Threads, None),
    ]
    parameters = [*own, *spec_parameters()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Typer reads it
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = (
        "Train on a file without a server, and leave a checkpoint, scores and a report in a folder."
    )
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    return typer.main.get_command(app)


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def run_training(
    file: Path, out: Path, mapping: DatasetMapping, spec: TrainingSpec, threads: int | None
) -> int:
    """0 when trained, 130 when Ctrl-C stopped it with its checkpoint saved. Raises Refusal."""
    console = Console(highlight=False, soft_wrap=True)
    data_format = _format_of(file)
    _check_is_free(out)
    with console.status("Reading the data"):
        schema = _inspect(file, data_format, mapping)
    step = f"every {schema.frequency_seconds:g} s"
    console.print(
        f"{file}: {schema.row_count:,} rows, {schema.series_count} series, {step}",
        highlight=False,
        soft_wrap=True,
    )
    let_threads_sleep()
    with console.status("Loading torch"):
        from trainer.recipe import DatasetFile  # seconds of imports, after the quick refusals
    with TrainingScreen(console) as screen, _stopping_on_interrupt(console, screen):
        result = _train(spec, DatasetFile(file, data_format, mapping, schema), out, screen, threads)
    return _conclude(console, out, result)


def _mapping(
    time_column: str | None, group_columns: list[str] | None, frequency: str | None
) -> DatasetMapping:
    try:
        return DatasetMapping(time_column=time_column, group_columns=group_columns, frequency=frequency)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise Refusal(
            f"--{str(problem['loc'][0]).replace('_', '-').rstrip('s')}: {problem['msg']}"
        ) from error


def _format_of(file: Path) -> DatasetFormat:
    if file.is_dir():
        raise Refusal(f"{file} is a folder; a folder of files is not supported yet, name one file")
    if not file.is_file():
        raise Refusal(f"there is no file {file}")
    for ending, data_format in ENDINGS.items():
        if file.name.lower().endswith(ending):
            return data_format
    raise Refusal(f"{file.name} has none of the endings {', '.join(ENDINGS)}")


def _check_is_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refusal(f"{out} is there already and not empty; name another folder with --out")


def _inspect(file: Path, data_format: DatasetFormat, mapping: DatasetMapping) -> DatasetSchema:
    try:
        return inspect_dataset(file, data_format, mapping)
    except DatasetError as error:
        problem = error.problem
        places = [
            f"{name} {value}" for name, value in (("column", problem.column), ("row", problem.row)) if value
        ]
        raise Refusal(f"{file}: {problem.detail}" + (f" ({', '.join(places)})" if places else "")) from error


def _train(
    spec: TrainingSpec, data: DatasetFile, out: Path, screen: TrainingScreen, threads: int | None
) -> TrainingResult:
    import torch  # as above

    from trainer.recipe import train

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return train(spec, data, out, screen)
    except TrainerError as error:
        raise Refusal(str(error)) from error


@contextmanager
def _stopping_on_interrupt(console: Console, screen: TrainingScreen) -> Iterator[None]:
    """The first Ctrl-C stops training after its optimizer step; the second has its usual effect."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        screen.wish_to_stop()
        console.print("Stopping after this step; Ctrl-C again to stop at once.")

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _conclude(console: Console, out: Path, result: TrainingResult) -> int:
    if result.result is None:
        weights = out / "last.ckpt"
        kept = f"the weights are in {weights}" if weights.exists() else "there was nothing to save yet"
        console.print(f"Stopped at step {result.step}; {kept}.")
        return STOPPED_EXIT
    console.print(score_table(result.result))
    console.print(
        f"All of it is in {out}; open {out / 'report.html'} in a browser.", highlight=False, soft_wrap=True
    )
    return 0
