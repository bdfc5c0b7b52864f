"""`foretrain sample-data`: what was written, in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foretrain.refusals import Refusal
from foretrain.sample_data import write_sample

if TYPE_CHECKING:
    from pathlib import Path


def write(file: Path, trace: str, seconds: int, fleet: int | None) -> int:
    """Raises Refusal for a trace, step or file name there is not."""
    try:
        summary = write_sample(file, trace, seconds, fleet)
    except (ValueError, OSError) as error:
        raise Refusal(str(error)) from error
    kind = "synthetic" if summary.synthetic else "real"
    lines = [
        f"{summary.path}: {summary.rows:,} rows of {summary.servers} {kind} server(s),",
        f"every {summary.seconds} s from {summary.starts_at} to {summary.ends_at}",
        f"columns: {', '.join(summary.columns)}",
        f"source: {summary.source}",
    ]
    print(*lines, sep="\n")  # noqa: T201  # a command line speaks
    return 0
