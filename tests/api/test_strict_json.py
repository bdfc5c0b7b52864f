"""What the parser takes and what it refuses, and where it points."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.strict_json import JsonTroubleError, parse_json

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(value=VALUES, ascii_only=st.booleans())
def test_every_proper_value_comes_back_as_it_was(value: object, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(data=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    sentence = "."
    try:
        parse_json(data)
    except JsonTroubleError as trouble:
        sentence = trouble.detail
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("data", "code", "pointer"),
    [
        (b"", "syntax", ""),
        (b"{", "syntax", ""),
        (b'{"a":1} {}', "syntax", ""),
        (b"\xff\xfe{\x00}\x00", "encoding", ""),
        (b'\xef\xbb\xbf{"a":1}', "syntax", ""),
        (b'{"a":NaN}', "not_finite", "/a"),
        (b'{"a":[1,-Infinity]}', "not_finite", "/a/1"),
        (b'{"a":{"b/c":1e999}}', "not_finite", "/a/b~1c"),
        (b'{"a":{"x":1,"x":2}}', "duplicate_name", "/a"),
        (b"[" * 33 + b"]" * 33, "too_deep", ""),
        (b"[" * 100_000, "too_deep", ""),
        (b'{"a":' * 100_000, "too_deep", ""),
        (b'{"a":"\\u0000"}', "invalid_character", "/a"),
        (b'{"\\u0000":1}', "invalid_character", ""),
        (b'["\\ud83d"]', "invalid_character", "/0"),
        (b"1" * 5000, "number_too_large", ""),
    ],
)
def test_what_is_not_quite_json_is_refused_with_its_place(data: bytes, code: str, pointer: str) -> None:
    with pytest.raises(JsonTroubleError) as caught:
        parse_json(data)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


def test_brackets_within_text_do_not_count_as_depth() -> None:
    assert parse_json(b'{"a":"' + b"[{" * 100 + b'\\""}') == {"a": "[{" * 100 + '"'}
