"""What can go wrong between a caller and the service.

Exception
├── ServiceProblem      the service said no
├── ServiceUnreachable  nobody answered, not even after the retries
├── AnswerNotUnderstood the service, a later release perhaps, says what this one has no words for
├── ChecksumMismatch    a download is not what the service stored
└── NotEndedInTime      the time allowed for waiting is over, and the job is not (a TimeoutError)
"""

from __future__ import annotations

from typing import Any


class ServiceProblem(Exception):  # named as in RFC 9457
    """The service said no. `code` is stable, `detail` says what to do, `errors` where it went wrong.

    `retry_after_seconds` is what the service asked to wait, where it did.
    """

    def __init__(
        self, status: int, problem: dict[str, Any], retry_after_seconds: float | None = None
    ) -> None:
        self.status = status
        self.code = str(problem.get("code", "unknown"))
        self.detail = str(problem.get("detail") or problem.get("title") or f"HTTP status {status}")
        self.retryable = bool(problem.get("retryable", False))
        self.request_id: str | None = problem.get("request_id")
        self.errors: list[dict[str, Any]] = problem.get("errors") or []
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{self.code}: {self.detail}")


class ServiceUnreachable(Exception):  # named for what was found
    """No answer: the service is down, the address is wrong, or the network is. `__cause__` says more."""


class AnswerNotUnderstood(Exception):  # named for what was found
    """The answer does not fit this release's types: the service is of another one, or is none of ours."""


class ChecksumMismatch(Exception):  # named for what was found
    """A download is not what the service stored."""


class NotEndedInTime(TimeoutError):
    """The job goes on; only the waiting has ended."""
