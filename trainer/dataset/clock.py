"""Time columns become epoch microseconds, UTC: ISO 8601, epoch numbers of any unit, Arrow timestamps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.dataset.columns import in_one_piece
from trainer.dataset.errors import problem

if TYPE_CHECKING:
    import numpy.typing as npt

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPELLINGS = (
    (r"^(\d{4})/(\d{2})/(\d{2})", r"\1-\2-\3"),
    (r"^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})", r"\1-\2-\3T\4:\5:\6"),
    (r"(:\d{2}),(\d+)", r"\1.\2"),  # a decimal comma
    (r"(\.\d{6})\d+", r"\1"),  # finer than a microsecond
    (r"\s*(UTC|GMT|z)$", "Z"),
    (r"\s+([+-]\d{2}:?\d{2})$", r"\1"),
)
_ZONED = r"[T ]\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"
_ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}(:\d{2}(:\d{2}(\.\d+)?)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?$"
# An epoch number tells its unit by its size: seconds stay below 1e11 until the year 5138.
_EPOCH_UNITS = ((1e11, 1_000_000.0), (1e14, 1_000.0), (1e17, 1.0), (np.inf, 0.001))
_FIRST, _LAST = np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31", "us")
YEARS_TOLD = "A time lies outside the years 1 to 9999."
_SEEN_AS_EPOCH = 1e8  # 1973; smaller numbers are counters rather than clocks


def to_micros(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.int64]:
    """The column as epoch microseconds, (rows,). Stamps without a zone are UTC.

    Raises DatasetError, naming the first row that is missing or cannot be read.
    """
    values = in_one_piece(column)
    if values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise problem("bad_time_value", "The time is missing.", column=name, row=row + 1)
    if pa.types.is_dictionary(values.type):
        return _from_text(values, name)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        return _in_range(_cast_micros(values, name), name)
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return from_epoch(values.to_numpy(zero_copy_only=False), name)
    raise problem("bad_time_value", "The time column holds neither time stamps nor numbers.", column=name)


def looks_like_a_time(text: str) -> bool:
    """Whether one cell is an ISO 8601 time stamp."""
    return bool(iso_share(pa.array([text])))


def iso_share(texts: pa.Array) -> float:
    """Share of the texts that have the form of an ISO 8601 time stamp."""
    forms = pc.match_substring_regex(_normalised(texts), _ISO)
    return pc.mean(pc.cast(forms, pa.float64())).as_py() or 0.0


def looks_like_an_epoch(values: npt.NDArray[np.float64]) -> bool:
    """Whether all these numbers have the size of an epoch time in some unit."""
    return bool(len(values)) and bool(np.all(np.isfinite(values)) and np.all(values > _SEEN_AS_EPOCH))


def iso(micros: int) -> str:
    """A time as people read it."""
    return as_datetime(micros).isoformat()


def as_datetime(micros: int) -> datetime:
    """Aware UTC."""
    return _EPOCH + timedelta(microseconds=int(micros))


def _normalised(texts: pa.Array) -> pa.Array:
    texts = pc.utf8_trim_whitespace(texts)
    for pattern, replacement in _SPELLINGS:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


def _from_text(values: pa.DictionaryArray, name: str) -> npt.NDArray[np.int64]:
    # Servers share their stamps, so each distinct text is parsed once.
    texts = _normalised(values.dictionary)
    good = pc.match_substring_regex(texts, _ISO).to_numpy(zero_copy_only=False)
    zoned = pc.match_substring_regex(texts, _ZONED).to_numpy(zero_copy_only=False)
    micros = np.zeros(len(texts), np.int64)
    for mask, kind in ((good & zoned, pa.timestamp("us", "UTC")), (good & ~zoned, pa.timestamp("us"))):
        places = np.flatnonzero(mask)
        micros[places], parsed = _parse(texts.take(pa.array(places)), kind)
        good[places] &= parsed
    codes = values.indices.to_numpy()
    if not good.all() and not good[codes].all():
        row = int(np.argmin(good[codes]))
        text = values.dictionary[int(codes[row])].as_py()
        raise problem(
            "bad_time_value",
            f"{text[:60]!r} is not a time; write ISO 8601, such as 2026-01-31T13:05:00Z, or epoch seconds.",
            column=name,
            row=row + 1,
        )
    micros = micros[codes]
    return _in_range(micros, name)


def _parse(texts: pa.Array, kind: pa.DataType) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Epoch microseconds, and which texts were real times: 2026-02-30 has the form but is none."""
    try:
        return pc.cast(pc.cast(texts, kind), pa.int64()).to_numpy(), np.ones(len(texts), np.bool_)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return np.zeros(1, np.int64), np.zeros(1, np.bool_)
    half = len(texts) // 2
    first, second = _parse(texts[:half], kind), _parse(texts[half:], kind)
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])


def _cast_micros(values: pa.Array, name: str) -> npt.NDArray[np.int64]:
    zone = getattr(values.type, "tz", None)
    if values.type == pa.timestamp("us", zone):
        return np.asarray(values.view(pa.int64()).to_numpy())
    try:
        stamps = pc.cast(values, pa.timestamp("us", zone), safe=False)
        return np.asarray(pc.cast(stamps, pa.int64()), np.int64)
    except pa.ArrowInvalid as error:
        raise problem("bad_time_value", YEARS_TOLD, column=name) from error


def from_epoch(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    """Epoch numbers of any unit, told by their size, as epoch microseconds. Raises DatasetError."""
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argmin(finite))
        raise problem("bad_time_value", "The time is missing.", column=name, row=row + 1)
    largest = float(np.abs(values).max(initial=0))
    factor = next(factor for limit, factor in _EPOCH_UNITS if largest < limit)
    if values.dtype == np.int64:
        micros = values // 1000 if factor < 1 else values * np.int64(factor)
    else:
        micros = np.rint(values * factor)
    return _in_range(micros, name)


def in_range(micros: npt.NDArray[Any]) -> bool:
    """Whether all of them are finite and fall into years that a calendar can show."""
    first, last = _FIRST.astype(np.int64), _LAST.astype(np.int64)
    return not len(micros) or bool(micros.min() >= first and micros.max() <= last)


def _in_range(micros: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    if not in_range(micros):
        first, last = _FIRST.astype(np.int64), _LAST.astype(np.int64)
        row = int(np.argmax((micros < first) | (micros > last)))
        raise problem("bad_time_value", YEARS_TOLD, column=name, row=row + 1)
    return micros.astype(np.int64, copy=False)
