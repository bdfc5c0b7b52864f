"""Weak entity tags for answers that are polled, so that one that has not changed costs no body."""

from __future__ import annotations

import hashlib

from fastapi import Request, Response

from api.ranges import is_listed


def weak_etag(content: str, mark: str = "") -> str:
    """The same for the same content, in every process. `mark` stands in front of it, to be read back."""
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    return f'W/"{mark}.{digest}"' if mark else f'W/"{digest}"'


def polled_response(
    request: Request, body: str, etag: str, headers: dict[str, str] | None = None
) -> Response:
    """`body` (JSON) with its tag, or 304 when the client holds it already."""
    if is_held(request, etag):
        return not_modified(etag, headers)
    return Response(body, headers=_tagged(etag, headers), media_type="application/json")


def is_held(request: Request, etag: str) -> bool:
    """Whether the client has the content of this tag."""
    return is_listed(request.headers.get("if-none-match"), etag)


def not_modified(etag: str, headers: dict[str, str] | None = None) -> Response:
    """The answer to who has it."""
    return Response(status_code=304, headers=_tagged(etag, headers))


def _tagged(etag: str, headers: dict[str, str] | None) -> dict[str, str]:
    return {"ETag": etag, "Cache-Control": "private, no-cache"} | (headers or {})
