"""Refuses what is not the format it claims to be, by its first and last bytes."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

from trainer.dataset.errors import problem

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.dataset.schema import DatasetFormat

_HEAD_BYTES = 4096
_PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"
_FOREIGN = {
    _PARQUET: "a Parquet file; send it with format=parquet",
    _GZIP: "gzip-compressed; send it with format=csv.gz if it holds CSV",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook; export it as CSV or Parquet",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; export it as CSV or Parquet",
    b"SQLite format 3": "an SQLite database; export the table as CSV or Parquet",
    b"\x89HDF": "an HDF5 file; export it as Parquet",
    b"ARROW1": "an Arrow or Feather file; export it as Parquet",
    b"Obj\x01": "an Avro file; export it as Parquet",
    b"ORC": "an ORC file; export it as Parquet",
    b"BZh": "bzip2-compressed; use gzip",
    b"\xfd7zXZ": "xz-compressed; use gzip",
    b"\x28\xb5\x2f\xfd": "zstd-compressed; use gzip",
    b"%PDF": "a PDF",
    b"\x93NUMPY": "a NumPy array; export it as CSV or Parquet",
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_LAST_PICKLE_PROTOCOL = 5


def check_magic(path: Path, claimed: DatasetFormat) -> None:
    """Raise DatasetError unless the file's bytes can be of the `claimed` format. Reads a few kilobytes."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise problem("empty_file", "The file is empty; send a file with a header and at least two rows.")
    _refuse_pickle(head)
    if claimed == "parquet":
        _check_parquet(path, head)
    elif claimed == "csv.gz":
        _check_text(_first_text_of_gzip(path, head), "csv")
    else:
        _check_text(head, claimed)


def _refuse_pickle(head: bytes) -> None:
    # Protocols 2 to 5 open with 0x80 and their number; unpickling runs code, so none is ever read.
    if head[0] == 0x80 and len(head) > 1 and head[1] <= _LAST_PICKLE_PROTOCOL:
        raise problem(
            "unsupported_format",
            "The file is a Python pickle, which is never read because it can run code; send CSV or Parquet.",
        )


def _check_parquet(path: Path, head: bytes) -> None:
    if not head.startswith(_PARQUET):
        raise problem("unsupported_format", "The file is not Parquet: it does not begin with PAR1.")
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(_PARQUET)))
        tail = file.read()
    if tail != _PARQUET or size <= 2 * len(_PARQUET):
        raise problem(
            "unreadable_file",
            "The Parquet file is truncated: it does not end with PAR1. Write or upload it again in full.",
        )


def _first_text_of_gzip(path: Path, head: bytes) -> bytes:
    if not head.startswith(_GZIP):
        raise problem("unsupported_format", "The file is not gzip-compressed; send it with format=csv.")
    try:
        with gzip.open(path) as file:
            text = file.read(_HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise problem("unreadable_file", "The gzip data are damaged or cut off; send them again.") from error
    if not text:
        raise problem("empty_file", "The compressed file is empty; send a header and at least two rows.")
    _refuse_pickle(text)
    return text


def _check_text(head: bytes, claimed: DatasetFormat) -> None:
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise problem("unsupported_format", f"The file is not {claimed} but {what}.")
    if head.startswith(_UTF16):
        raise problem("unreadable_file", "The file is UTF-16; save it as UTF-8.")
    if b"\0" in head:
        raise problem("unsupported_format", f"The file is binary, not {claimed}.")
    _check_first_character(head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1], claimed)


def _check_first_character(first: bytes, claimed: DatasetFormat) -> None:
    is_json = first in (b"{", b"[")
    if not first and claimed != "csv":
        raise problem("empty_file", "The file holds no rows.")
    if claimed in ("ndjson", "victoriametrics") and first != b"{":
        raise problem("unsupported_format", f"The file is not {claimed}: send one JSON object a line.")
    if claimed == "prometheus" and not is_json:
        raise problem(
            "unsupported_format", "The file is not what Prometheus answers to query_range: no JSON."
        )
    if claimed in ("csv", "influx") and is_json:
        raise problem(
            "unsupported_format",
            f"The file holds JSON, not {claimed}; send it with format=ndjson, prometheus or victoriametrics.",
        )
