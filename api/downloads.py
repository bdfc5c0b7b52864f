"""Sends stored files, whole or in part, never held in memory, and never a damaged one to its end."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from api.problems import HttpProblem
from api.ranges import (
    ByteRange,
    UnsatisfiableRangeError,
    is_listed,
    parse_range,
    range_applies,
    repr_digest,
    strong_etag,
)
from api.resources import Resources
from api.slots import Slots

# A client that takes nothing for so long is gone; it may come back with a Range.
STALLED_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Where a file lies and what it must be. `sha256` is hex."""

    name: str
    storage_key: str
    size_bytes: int
    sha256: str
    media_type: str


class DamagedFileError(Exception):
    """The bytes in storage are not those that were stored; raised before the last of them is sent."""


async def file_response(
    request: Request, resources: Resources, file: StoredFile, *, in_parts: bool = True
) -> Response:
    """`file` as If-None-Match and, `in_parts`, Range and If-Range ask for it; headers alone for HEAD.

    Raises HttpProblem (416), StorageKeyMissing, StorageUnavailable.
    """
    etag = strong_etag(file.sha256)
    headers = _file_headers(file, etag)
    if is_listed(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    part = _asked_part(request, file, etag) if in_parts else None
    span = part or ByteRange(0, file.size_bytes)
    headers["Content-Length"] = str(span.size_bytes)
    if part is not None:
        headers["Content-Range"] = part.content_range(file.size_bytes)
    status = 200 if part is None else 206
    if request.scope["state"]["is_head"]:
        return Response(status_code=status, headers=headers, media_type=file.media_type)
    chunks = await run_in_threadpool(resources.storage.read_range, file.storage_key, span.start, span.end)
    checked = _checked(chunks, span.size_bytes, file.sha256 if part is None else None)
    return _FileStream(_in_threads(checked), status, headers, file.media_type, slots=resources.transfers)


def _file_headers(file: StoredFile, etag: str) -> dict[str, str]:
    return {
        "ETag": etag,
        "Repr-Digest": repr_digest(file.sha256),
        "Accept-Ranges": "bytes",
        # Always a download: a report opened in place would run with the service's own origin.
        "Content-Disposition": f'attachment; filename="{file.name}"',
        "Cache-Control": "private, no-cache",
    }


def _asked_part(request: Request, file: StoredFile, etag: str) -> ByteRange | None:
    if not range_applies(request.headers.get("if-range"), etag):
        return None
    try:
        return parse_range(request.headers.get("range"), file.size_bytes)
    except UnsatisfiableRangeError:
        raise HttpProblem(
            "range_not_satisfiable",
            f"{file.name} has {file.size_bytes} bytes; the range lies outside.",
            headers={"Content-Range": f"bytes */{file.size_bytes}", "Accept-Ranges": "bytes"},
        ) from None


def _checked(chunks: Iterator[bytes], size_bytes: int, sha256: str | None) -> Iterator[bytes]:
    """`chunks`, the last held back until size and, for a whole file, digest are known to be right.

    Raises DamagedFileError instead of the last chunk: the connection breaks off, and the client sees that
    it holds less than Content-Length.
    """
    digest = hashlib.sha256()
    received_bytes = 0
    held = b""
    for chunk in chunks:
        if held:
            yield held
        received_bytes += len(chunk)
        if sha256 is not None:
            digest.update(chunk)
        held = chunk
    if received_bytes != size_bytes or (sha256 is not None and digest.hexdigest() != sha256):
        raise DamagedFileError("a stored file is damaged")
    if held:
        yield held


async def _in_threads(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while chunk := await run_in_threadpool(next, chunks, b""):
        yield chunk


class _FileStream(StreamingResponse):
    """A stream that holds a transfer slot while it runs, and gives up on a client that takes nothing."""

    def __init__(
        self,
        content: AsyncIterator[bytes],
        status: int,
        headers: dict[str, str],
        media_type: str,
        *,
        slots: Slots,
    ) -> None:
        super().__init__(content, status, headers, media_type)
        self._slots = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_or_give_up(message: Message) -> None:
            with slot.wait(STALLED_SECONDS):
                await send(message)
            slot.moved(len(message.get("body", b"")))

        with self._slots.taken() as slot:
            await super().__call__(scope, receive, send_or_give_up)
