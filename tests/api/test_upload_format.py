"""What an upload is taken for."""

from __future__ import annotations

import io
import pickle
import zipfile

import pytest

from api.upload_format import choose_format, refuse_signature
from core.errors import InvalidRequest, ServiceError, UnsupportedMedia


@pytest.mark.parametrize(
    ("asked", "content_type", "encoding", "chosen"),
    [
        ("parquet", None, None, "parquet"),
        (None, "text/csv; charset=utf-8", None, "csv"),
        (None, "text/csv", "gzip", "csv.gz"),
        (None, "application/gzip", None, "csv.gz"),
        (None, "application/vnd.apache.parquet", None, "parquet"),
        (None, "application/x-ndjson", None, "ndjson"),
        ("csv", "application/x-www-form-urlencoded", None, "csv"),
        ("csv", "application/octet-stream", "identity", "csv"),
        ("csv", "text/csv", None, "csv"),
        ("prometheus", "application/json", None, "prometheus"),
        ("victoriametrics", "application/json", None, "victoriametrics"),
        ("influx", "text/plain; charset=utf-8", None, "influx"),
        (None, "application/vnd.influx.line-protocol", None, "influx"),
    ],
)
def test_the_query_says_what_a_file_is_or_else_the_headers(
    asked: str | None, content_type: str | None, encoding: str | None, chosen: str
) -> None:
    assert choose_format(asked, content_type, encoding) == chosen


@pytest.mark.parametrize(
    ("asked", "content_type", "encoding", "error"),
    [
        (None, None, None, UnsupportedMedia),
        (None, "application/octet-stream", None, UnsupportedMedia),
        (None, "application/json", None, UnsupportedMedia),
        (None, "multipart/form-data; boundary=x", None, UnsupportedMedia),
        ("csv", "multipart/form-data; boundary=x", None, UnsupportedMedia),
        ("csv", "application/vnd.apache.parquet", None, UnsupportedMedia),
        ("csv", "text/csv", "br", UnsupportedMedia),
        (None, "application/octet-stream", "gzip", UnsupportedMedia),
        ("excel", None, None, InvalidRequest),
        ("CSV", None, None, InvalidRequest),
    ],
)
def test_what_is_unclear_or_contradictory_is_refused(
    asked: str | None, content_type: str | None, encoding: str | None, error: type[ServiceError]
) -> None:
    with pytest.raises(error):
        choose_format(asked, content_type, encoding)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_told_by_its_first_bytes(protocol: int) -> None:
    with pytest.raises(UnsupportedMedia, match="pickle"):
        refuse_signature(pickle.dumps({"a": 1}, protocol)[:8])


def test_a_zip_such_as_a_checkpoint_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"x")
    with pytest.raises(UnsupportedMedia, match="zip"):
        refuse_signature(buffer.getvalue())


@pytest.mark.parametrize(
    "start", [b"timestamp,server", b"\xef\xbb\xbftime", b"PAR1", b"\x1f\x8b\x08", b'{"a":1}', b""]
)
def test_what_a_dataset_begins_with_passes(start: bytes) -> None:
    refuse_signature(start)
