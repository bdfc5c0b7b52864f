"""Times as requests carry them: RFC 3339 with a zone, in UTC from here on."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator
from pydantic_core import PydanticCustomError

_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}")


def _require_rfc3339(value: object) -> object:
    # Left alone, pydantic takes a number for seconds since 1970.
    if not isinstance(value, datetime) and (not isinstance(value, str) or _RFC3339.match(value) is None):
        raise PydanticCustomError("wrong_form", "write it like 2026-11-22T12:00:00Z")
    return value


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("out_of_range", "the time lies outside of the calendar in UTC") from None


Instant = Annotated[AwareDatetime, BeforeValidator(_require_rfc3339), AfterValidator(_to_utc)]
