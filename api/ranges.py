"""Conditional and partial downloads: entity tags, digests, Range and If-Range (RFC 9110, RFC 9530)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

_RANGES = re.compile(r"bytes[ \t]*=(.*)", re.IGNORECASE | re.DOTALL)
_FIRST_LAST = re.compile(r"([0-9]{1,19})-([0-9]{1,19})?")
_SUFFIX = re.compile(r"-([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` up to, not including, `end`; never empty."""

    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.start

    def content_range(self, total_bytes: int) -> str:
        return f"bytes {self.start}-{self.end - 1}/{total_bytes}"


class UnsatisfiableRangeError(ValueError):
    """The range lies wholly outside the file: the answer is 416."""


def parse_range(header: str | None, total_bytes: int) -> ByteRange | None:
    """The one range a client asks for, or None when the whole file is the right answer.

    As RFC 9110 allows, a header that is malformed, names another unit or lists several ranges is
    ignored. Raises UnsatisfiableRangeError when nothing of the range lies in the file.
    """
    match = _RANGES.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    asked = match[1].strip(" \t")
    if suffix := _SUFFIX.fullmatch(asked):
        return _clip(total_bytes - int(suffix[1]), total_bytes, total_bytes)
    bounds = _FIRST_LAST.fullmatch(asked)
    if bounds is None:
        return None
    first = int(bounds[1])
    if bounds[2] is None:
        return _clip(first, total_bytes, total_bytes)
    last = int(bounds[2])
    return None if last < first else _clip(first, last + 1, total_bytes)


def _clip(start: int, end: int, total_bytes: int) -> ByteRange:
    start, end = max(start, 0), min(end, total_bytes)
    if start >= end:
        raise UnsatisfiableRangeError
    return ByteRange(start, end)


def range_applies(if_range: str | None, etag: str) -> bool:
    """Whether the file is still the one the client holds a part of.

    Only a strong entity tag proves that; a weak one or a date never does.
    """
    return if_range is None or if_range.strip() == etag


def strong_etag(sha256: str) -> str:
    """The entity tag of a file whose SHA-256 is `sha256` (hex)."""
    return f'"{sha256}"'


def repr_digest(sha256: str) -> str:
    """`sha256` (hex) as a Repr-Digest field; it covers the whole file, also beside a part of it."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode('ascii')}:"


def is_listed(if_none_match: str | None, etag: str) -> bool:
    """Whether If-None-Match names `etag`, by weak comparison, as it is defined for this field."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return any(_opaque(tag) == _opaque(etag) for tag in if_none_match.split(","))


def _opaque(etag: str) -> str:
    return etag.strip().removeprefix("W/")
