"""What kind of file an upload is, as its sender says, and what no dataset can be, as its first bytes show."""

from __future__ import annotations

from email.message import Message
from typing import get_args

from core.errors import FieldProblem, InvalidRequest, UnsupportedMedia
from trainer.dataset.schema import DatasetFormat

FORMATS: tuple[DatasetFormat, ...] = get_args(DatasetFormat)

CONTENT_TYPES: dict[str, DatasetFormat] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "application/gzip": "csv.gz",
    "application/x-gzip": "csv.gz",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
    "application/vnd.influx.line-protocol": "influx",
    "text/vnd.influx.line-protocol": "influx",
}
# What clients send when nobody told them the type: says nothing, contradicts nothing.
# JSON may be the answer of a Prometheus, text line protocol: only ?format= can tell.
_VAGUE_TYPES = {
    "application/json",
    "text/plain",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "binary/octet-stream",
}

# A pickle runs code when it is opened; a zip may be a checkpoint or a workbook.
_REFUSED_SIGNATURES = {
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"PK\x03\x04": "a zip archive, such as a checkpoint or an Excel workbook",
    b"\x89HDF": "an HDF5 file",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
}
_CURE = f"Upload {', '.join(FORMATS[:-1])} or {FORMATS[-1]}."


def choose_format(asked: str | None, content_type: str | None, content_encoding: str | None) -> DatasetFormat:
    """The format of `?format=`, else of the headers.

    Raises InvalidRequest for an unknown name, UnsupportedMedia when the headers name something else, or
    nothing, or contradict `asked`.
    """
    named = _named_format(asked)
    announced = _announced_format(content_type, content_encoding)
    if named is None and announced is None:
        raise UnsupportedMedia(
            f"Say what the file is: ?format={'|'.join(FORMATS)}, or Content-Type: text/csv."
        )
    if named is not None and announced is not None and named != announced:
        raise UnsupportedMedia(f"?format= says {named}, the headers say {announced}; make them agree.")
    return named or announced or FORMATS[0]


def _named_format(asked: str | None) -> DatasetFormat | None:
    if asked is None:
        return None
    for known in FORMATS:
        if asked == known:
            return known
    place = "/query/format"
    detail = f"There is no format {asked[:40]!a}. {_CURE}"
    raise InvalidRequest(detail, [FieldProblem("not_allowed", detail, place)])


def _announced_format(content_type: str | None, content_encoding: str | None) -> DatasetFormat | None:
    kind = _essence(content_type)
    encoding = (content_encoding or "identity").strip().lower()
    if kind in _VAGUE_TYPES and encoding == "identity":
        return None
    known = CONTENT_TYPES.get(kind)
    if known == "csv" and encoding in {"gzip", "x-gzip"}:
        return "csv.gz"
    if known is None or encoding != "identity":
        what = kind if encoding == "identity" else f"{kind} with Content-Encoding {encoding[:40]}"
        raise UnsupportedMedia(f"A dataset cannot be {what}. {_CURE} Send the file itself, not a form.")
    return known


def _essence(content_type: str | None) -> str:
    if content_type is None:
        return "application/octet-stream"
    header = Message()
    header["content-type"] = content_type
    return header.get_content_type()


def refuse_signature(first_bytes: bytes) -> None:
    """Raises UnsupportedMedia for a file whose first bytes show that no dataset is in it."""
    for signature, what in _REFUSED_SIGNATURES.items():
        if first_bytes.startswith(signature):
            raise UnsupportedMedia(f"The file is {what}, and is not opened. {_CURE}")
