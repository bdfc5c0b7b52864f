"""`foretrain train FILE`: the service's trainer without the service."""

from __future__ import annotations

import inspect
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from foretrain.data_files import format_of, mapping_of, refusal_of
from foretrain.refusals import Refusal, spoken_refusals
from foretrain.scores import score_table
from foretrain.training_options import build_spec, spec_parameters
from foretrain.training_screen import TrainingScreen
from trainer.dataset.errors import DatasetError
from trainer.dataset.inspection import inspect as inspect_dataset
from trainer.dataset.schema import DatasetFormat, DatasetMapping
from trainer.errors import TrainerError
from trainer.loading import quick_imports
from trainer.threads import let_threads_sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from trainer.dataset.schema import DatasetSchema
    from trainer.recipe import DatasetFile, TrainingResult
    from trainer.spec import TrainingSpec

STOPPED_EXIT = 130
RESUME_STATE = "resume.safetensors"

File = Annotated[
    Path,
    typer.Argument(
        help="Server metrics: .csv, .csv.gz, .parquet, .ndjson, .json (what Prometheus answers), .lp (line "
        "protocol)."
    ),
]
Format = Annotated[
    str | None, typer.Option(help="What the file is, such as victoriametrics. Default: by its ending.")
]
Mapping = Annotated[
    str | None,
    typer.Option(
        help="How to read the file: the mapping of docs/datasets.md as JSON, or a file that holds it."
    ),
]
Out = Annotated[
    Path,
    typer.Option(help="Folder for all that training leaves; without --resume it must not hold files yet."),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with the training that was stopped in the folder; same file and options as before.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be trained and what it takes; write nothing.")
]
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
        resume: bool,
        dry_run: bool,
        time_column: str | None,
        group_column: list[str] | None,
        frequency: str | None,
        format: str | None,  # noqa: A002 - the option's name
        mapping: str | None,
        threads: int | None,
        **spec_options: Any,
    ) -> None:
        with spoken_refusals():
            reading = mapping_of(time_column, group_column, frequency, mapping)
            spec = build_spec(spec_options)
            raise typer.Exit(
                run_training(
                    file, out, reading, spec, threads, resume=resume, dry_run=dry_run, asked_format=format
                )
            )

    own = [
        _parameter("file", File),
        _parameter("out", Out, Path("foretrain-out")),
        _parameter("resume", Resume, False),
        _parameter("dry_run", DryRun, False),
        _parameter("time_column", TimeColumn, None),
        _parameter("group_column", GroupColumn, None),
        _parameter("frequency", Frequency, None),
        _parameter("format", Format, None),
        _parameter("mapping", Mapping, None),
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
    file: Path,
    out: Path,
    mapping: DatasetMapping,
    spec: TrainingSpec,
    threads: int | None,
    *,
    resume: bool,
    dry_run: bool = False,
    asked_format: str | None = None,
) -> int:
    """0 when trained or told what would be, 130 when Ctrl-C stopped it with its state saved.

    Raises Refusal.
    """
    console = Console(highlight=False, soft_wrap=True)
    data_format = format_of(file, asked_format)
    if resume:
        _check_can_go_on(out)
    elif not dry_run:
        _check_is_free(out)
    with console.status("Reading the data"):
        schema = _inspect(file, data_format, mapping)
    step = f"every {schema.frequency_seconds:g} s"
    console.print(
        f"{file}: {schema.row_count:,} rows, {schema.series_count} series, {step}",
        highlight=False,
        soft_wrap=True,
    )
    if dry_run:
        from foretrain.dry_run import show_plan

        show_plan(console, spec, file, data_format, mapping, schema)
        return 0
    let_threads_sleep()
    with console.status("Loading torch"), quick_imports():
        from trainer.recipe import DatasetFile  # seconds of imports, after the quick refusals
    with TrainingScreen(console) as screen, _stopping_on_interrupt(console, screen):
        data = DatasetFile(file, data_format, mapping, schema)
        result = _train(spec, data, out, screen, threads, resume_from=out / RESUME_STATE if resume else None)
    return _conclude(console, out, result)


def _check_is_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        go_on = " or go on with the training in it with --resume" if (out / RESUME_STATE).exists() else ""
        raise Refusal(f"{out} is there already and not empty; name another folder with --out{go_on}")


def _check_can_go_on(out: Path) -> None:
    if not (out / RESUME_STATE).is_file():
        raise Refusal(
            f"there is no training to go on with in {out}: it holds no {RESUME_STATE}; leave out --resume to "
            "start one"
        )


def _inspect(file: Path, data_format: DatasetFormat, mapping: DatasetMapping) -> DatasetSchema:
    try:
        return inspect_dataset(file, data_format, mapping)
    except DatasetError as error:
        raise refusal_of(file, error) from error


def _train(
    spec: TrainingSpec,
    data: DatasetFile,
    out: Path,
    screen: TrainingScreen,
    threads: int | None,
    *,
    resume_from: Path | None,
) -> TrainingResult:
    import torch  # as above

    from trainer.recipe import train

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return train(spec, data, out, screen, resume_from=resume_from)
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
        if (out / RESUME_STATE).exists():
            console.print("To go on, give the same command with --resume.")
        return STOPPED_EXIT
    console.print(score_table(result.result))
    console.print(
        f"All of it is in {out}; open {out / 'report.html'} in a browser.", highlight=False, soft_wrap=True
    )
    return 0
