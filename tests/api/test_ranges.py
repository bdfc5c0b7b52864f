"""Range and If-Range against what slicing says."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ranges import (
    UnsatisfiableRangeError,
    is_listed,
    parse_range,
    range_applies,
    repr_digest,
    strong_etag,
)

DATA = bytes(range(256)) * 2
POSITION = st.integers(min_value=0, max_value=2 * len(DATA))


def part_of(data: bytes, header: str) -> bytes:
    asked = parse_range(header, len(data))
    assert asked is not None
    return data[asked.start : asked.end]


@given(size=st.integers(0, len(DATA)), first=POSITION, last=POSITION)
def test_first_to_last_is_the_slice_that_includes_the_last(size: int, first: int, last: int) -> None:
    data = DATA[:size]
    header = f"bytes={first}-{last}"
    if last < first:
        assert parse_range(header, size) is None
    elif first >= size:
        with pytest.raises(UnsatisfiableRangeError):
            parse_range(header, size)
    else:
        assert part_of(data, header) == data[first : last + 1]


@given(size=st.integers(0, len(DATA)), first=POSITION)
def test_first_alone_is_the_slice_to_the_end(size: int, first: int) -> None:
    data = DATA[:size]
    if first >= size:
        with pytest.raises(UnsatisfiableRangeError):
            parse_range(f"bytes={first}-", size)
    else:
        assert part_of(data, f"bytes={first}-") == data[first:]


@given(size=st.integers(0, len(DATA)), count=POSITION)
def test_a_suffix_is_the_last_bytes(size: int, count: int) -> None:
    data = DATA[:size]
    if count == 0 or size == 0:
        with pytest.raises(UnsatisfiableRangeError):
            parse_range(f"bytes=-{count}", size)
    else:
        assert part_of(data, f"bytes=-{count}") == data[-count:]


@pytest.mark.slow
@given(header=st.text(max_size=40))
def test_no_header_breaks_the_parser_or_leaves_the_file(header: str) -> None:
    for text in (header, f"bytes={header}"):
        try:
            asked = parse_range(text, 100)
        except UnsatisfiableRangeError:
            continue
        assert asked is None or 0 <= asked.start < asked.end <= 100


@pytest.mark.parametrize(
    "header",
    ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "lines=0-5", "bytes=0-1,5-6", "bytes=٣-٤", "bytes=5"],
)
def test_what_is_not_one_range_of_bytes_means_the_whole_file(header: str) -> None:
    assert parse_range(header, 100) is None


def test_content_range_counts_from_zero_and_includes_the_last_byte() -> None:
    asked = parse_range("bytes=10-19", 100)
    assert asked is not None
    assert asked.content_range(100) == "bytes 10-19/100"
    assert asked.size_bytes == 10


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (None, True),
        ('"abc"', True),
        ('"abd"', False),
        ('W/"abc"', False),
        ("Sun, 22 Nov 2026 12:00:00 GMT", False),
        ("", False),
    ],
)
def test_only_the_same_strong_tag_lets_a_download_go_on(if_range: str | None, applies: bool) -> None:
    assert range_applies(if_range, '"abc"') is applies


@pytest.mark.parametrize(
    ("if_none_match", "listed"),
    [
        (None, False),
        ("*", True),
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ('"x"', False),
        ("", False),
    ],
)
def test_if_none_match_compares_weakly_and_takes_a_list(if_none_match: str | None, listed: bool) -> None:
    assert is_listed(if_none_match, '"abc"') is listed


def test_tag_and_digest_are_made_of_the_sha256() -> None:
    sha256 = hashlib.sha256(DATA)
    assert strong_etag(sha256.hexdigest()) == f'"{sha256.hexdigest()}"'
    assert repr_digest(sha256.hexdigest()) == f"sha-256=:{base64.b64encode(sha256.digest()).decode()}:"
