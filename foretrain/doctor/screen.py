"""The doctor's findings in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from trainer.spec import NOT_BUILT_YET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from foretrain.doctor.environment import Check
    from foretrain.doctor.matrix import Matrix, Row

STYLES = {
    "ok": "green",
    "warning": "yellow",
    "problem": "bold red",
    "failed": "bold red",
    "not here": "yellow",
}


def environment_table(checks: Sequence[Check]) -> Table:
    """A row for each thing looked at, with the cure below what was found."""
    table = _table("This machine")
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found")
    for check in checks:
        found = Text(check.found)
        if check.cure:
            found.append(f"\n{check.cure}", style="italic")
        table.add_row(_status(check.status), check.name, found)
    return table


def feature_table(matrix: Matrix) -> Table:
    """A row for each feature: what its run took, what was asked for, and what was seen."""
    has_gpu = any(row.run is not None and row.run.peak_gpu_bytes is not None for row in matrix.rows)
    table = _table("Features, each trained for real")
    table.add_column("", no_wrap=True)
    table.add_column("feature", no_wrap=True)
    for heading in ("s", "windows/s", "MiB", *(["GPU MiB"] if has_gpu else []), "val_loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("asked, and seen")
    part = None
    for row in matrix.rows:
        if part not in {None, row.feature.part}:
            table.add_section()
        part = row.feature.part
        told = Text.assemble((row.feature.asked, "bold"))
        told.append(f"\n{row.seen}", style="" if row.status == "ok" else "red")
        table.add_row(_status(row.status), row.feature.name, *_figures(row, has_gpu=has_gpu), told)
    return table


def notes(matrix: Matrix) -> list[str]:
    """How the figures are meant, and what is not among them."""
    before, after = matrix.load_average
    imports = "" if matrix.import_bytes is None else f", which take {matrix.import_bytes >> 20} MiB"
    missing = ", ".join(f"{name} other than {value}" for name, value in NOT_BUILT_YET.items())
    figures = (
        "s: one run from reading the data to the report; windows/s: training alone; MiB: peak resident "
        f"memory above the imported libraries{imports}; val_loss: best, in the metrics' own units, sum over "
        "targets."
    )
    load = f"a load of {before:.1f} before and {after:.1f} after"
    return [
        figures,
        f"{len(matrix.rows)} features in {matrix.seconds:.0f} s, with {load}.",
        f"Not in this version, and refused: {missing}.",
    ]


class MatrixScreen:
    """Shows which feature is being tried; where there is no terminal, a line for each that is done."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self.progress = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self.progress.add_task("", total=total)

    def started(self, name: str) -> None:
        self.progress.update(self._task, description=name)

    def done(self, row: Row) -> None:
        self.progress.advance(self._task)
        if not self._console.is_terminal:
            self._console.print(f"{row.status:<8} {row.feature.name:<18} {row.seconds:6.1f} s", markup=False)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _status(status: str) -> Text:
    return Text(status, style=STYLES[status])


def _figures(row: Row, *, has_gpu: bool) -> list[str]:
    run = row.run
    if run is None:
        return ["-"] * (5 if has_gpu else 4)
    speed, loss = run.windows_per_second, run.val_loss
    figures = [
        f"{run.seconds:.1f}",
        "-" if speed is None else f"{speed:,.0f}",
        _mebibytes(run.peak_bytes),
        *([_mebibytes(run.peak_gpu_bytes)] if has_gpu else []),
    ]
    return [*figures, "-" if loss is None else f"{loss:.4g}"]


def _mebibytes(size: int | None) -> str:
    return "-" if size is None else f"{size >> 20}"
