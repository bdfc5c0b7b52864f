"""Opens plain and gzipped text; what a gzip file expands to is counted."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import IO, TYPE_CHECKING

from trainer.dataset.errors import problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _typeshed import WriteableBuffer

    from trainer.dataset.limits import ReadLimits

# What reading a damaged or cut off file raises.
DAMAGED = (OSError, EOFError, zlib.error)


def open_text(path: Path, *, gzipped: bool, limits: ReadLimits) -> io.BufferedReader:
    """The file's text as bytes. Reading on past `limits.max_text_bytes` raises DatasetError."""
    if not gzipped:
        return path.open("rb")
    return io.BufferedReader(_Counted(path, limits.max_text_bytes), buffer_size=1 << 20)


def whole_lines(file: IO[bytes], limits: ReadLimits) -> Iterator[tuple[int, bytes]]:
    """Chunks that end at a line's end, each with the number of lines before it. Raises DatasetError."""
    lines, rest = 0, b""
    while block := file.read(limits.max_line_bytes):
        head, newline, tail = block.rpartition(b"\n")
        if newline:
            chunk, rest = rest + head + newline, tail
            yield lines, chunk
            lines += chunk.count(b"\n")
        else:
            rest += block
        if len(rest) > limits.max_line_bytes:
            raise problem("unreadable_file", f"A line is longer than {limits.max_line_bytes:,} bytes.")
    yield lines, rest


class _Counted(io.RawIOBase):
    def __init__(self, path: Path, most_bytes: int) -> None:
        super().__init__()
        self._file = gzip.open(path)  # noqa: SIM115 - closed by close()
        self._left = most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = self._file.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise problem(
                "too_many_rows", "The file is too large once it is decompressed; send a smaller one."
            )
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
