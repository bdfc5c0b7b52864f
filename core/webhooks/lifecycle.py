"""What becomes of a delivery, and when it is tried again. Pure."""

from __future__ import annotations

import random
from enum import StrEnum


class DeliveryStatus(StrEnum):
    """`failed`: given up, after the last try or because its webhook was disabled."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Outcome(StrEnum):
    """How one attempt ended."""

    DELIVERED = "delivered"
    HTTP_ERROR = "http_error"
    REDIRECTED = "redirected"
    GONE = "gone"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    BLOCKED = "blocked"


class DisabledCode(StrEnum):
    """Why a webhook is not sent to."""

    BY_OWNER = "by_owner"
    GONE = "gone"
    FAILING = "failing"


# The schedule that the Standard Webhooks specification proposes: ten attempts in 76 hours.
WAITS_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
# An endpoint that fails is left alone for a while, whatever waits for it: 5 s, doubled up to five minutes.
FIRST_REST_SECONDS = 5.0
LONGEST_REST_SECONDS = 300.0
# Longer than this no Retry-After is heeded.
LONGEST_ASKED_SECONDS = 86_400.0


def seconds_to_next_try(tries: int, asked: float | None) -> float | None:
    """Wait after this many tries, a fifth more or less; None where it is given up.

    `asked`: what the endpoint said in Retry-After; it is waited at least so long.
    """
    if tries > len(WAITS_SECONDS):
        return None
    wait = WAITS_SECONDS[tries - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
    return max(wait, _heeded(asked))


def rest_seconds(failures: int, asked: float | None) -> float:
    """How long an endpoint is left alone after this many failures in a row."""
    rest = FIRST_REST_SECONDS * 2.0 ** (min(failures, 10) - 1)
    return max(min(rest, LONGEST_REST_SECONDS), _heeded(asked))


def _heeded(asked: float | None) -> float:
    return min(asked or 0.0, LONGEST_ASKED_SECONDS)
