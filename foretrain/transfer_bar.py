"""Bytes that come or go, as a bar on stderr."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def transfer_bar(name: str, size_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """Takes how many bytes there are so far. Where stderr is no terminal, it shows nothing."""
    console = Console(stderr=True)
    columns = (TextColumn(name, markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(name, total=size_bytes)
        yield lambda received: bar.update(task, completed=received)
