"""Downloads that go on where they stopped, and are checked against the digest that the service names."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2

from foretrain.client.exchange import TRIES, exchange, fetch, pause_seconds
from foretrain.client.problems import ChecksumMismatch, ServiceUnreachable
from foretrain.client.wire import Answer, Request, Wire

# A proxy that compresses would make byte ranges, sizes and digests those of something else.
_AS_STORED = {"Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Download:
    """A file that was fetched whole, and checked. `resumed_at`: the byte the last request started at."""

    path: Path
    size_bytes: int
    sha256: str
    resumed_at: int


@dataclass(frozen=True)
class _Stored:
    """The file as the service has it."""

    url: str
    etag: str
    size_bytes: int
    sha256: str


async def download(
    wire: Wire,
    job_id: str,
    name: str,
    path: Path,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Download:
    """Fetches an artifact to `path`, going on where an earlier, interrupted call for that path stopped.

    A connection that breaks is made anew. `on_bytes` gets the number of bytes there are so far; what it
    raises interrupts the download. Raises ChecksumMismatch, leaving nothing, unless the bytes have the
    SHA-256 that the service names.
    """
    stored = await _look_up(wire, f"/v1/jobs/{job_id}/artifacts/{name}")
    # The version is in the name: of a newer file no older half is kept.
    partial = path.with_name(f"{path.name}.{stored.sha256[:12]}.part")
    partial.touch()
    begun_at = await _complete(wire, stored, partial, on_bytes)
    if await wire.aside(lambda: _file_sha256(partial)) != stored.sha256:
        partial.unlink()
        raise ChecksumMismatch(f"{name} did not arrive as it was stored; download it again.")
    partial.replace(path)
    return Download(path, stored.size_bytes, stored.sha256, resumed_at=begun_at)


async def _look_up(wire: Wire, url: str) -> _Stored:
    headers = (await fetch(wire, Request("HEAD", url, headers=_AS_STORED))).headers
    encoded = headers["Repr-Digest"].removeprefix("sha-256=:").removesuffix(":")
    return _Stored(url, headers["ETag"], int(headers["Content-Length"]), base64.b64decode(encoded).hex())


async def _complete(wire: Wire, stored: _Stored, partial: Path, on_bytes: Callable[[int], None]) -> int:
    """Appends what is missing; the byte that the last request began at."""
    begun_at = had = _size(partial)
    tries = 0
    while had < stored.size_bytes:
        try:
            begun_at = await _append(wire, stored, partial, had, on_bytes)
        except ServiceUnreachable:
            tries = 1 if _size(partial) > had else tries + 1
            if tries == TRIES:
                raise
            await wire.pause(pause_seconds(tries))
        had = _size(partial)
    return begun_at


async def _append(
    wire: Wire, stored: _Stored, partial: Path, start: int, on_bytes: Callable[[int], None]
) -> int:
    """The byte it began at, which is 0 when the service sent the whole file."""

    async def write(answer: Answer) -> int:
        begins = start if answer.response.status_code == httpx2.codes.PARTIAL_CONTENT else 0
        with partial.open("ab") as file:
            file.truncate(begins)
            async for piece in answer.pieces():
                file.write(piece)
                on_bytes(file.tell())
        return begins

    resumption = {"Range": f"bytes={start}-", "If-Range": stored.etag} if start else {}
    # Not repeatable as it is: after a break there is less to ask for.
    return await exchange(
        wire, Request("GET", stored.url, headers=_AS_STORED | resumption, is_repeatable=False), write
    )


def _size(path: Path) -> int:
    return path.stat().st_size


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
