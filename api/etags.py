"""Weak entity tags for answers that are polled, so that one that has not changed costs no body."""

from __future__ import annotations

import hashlib

from fastapi import Request, Response

from api.ranges import is_listed


def weak_etag(content: str) -> str:
    """The same for the same content, in every process."""
    return f'W/"{hashlib.sha256(content.encode()).hexdigest()[:32]}"'


def polled_response(
    request: Request, body: str, etag: str, headers: dict[str, str] | None = None
) -> Response:
    """`body` (JSON) with its tag, or 304 when the client holds it already."""
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"} | (headers or {})
    if is_listed(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
