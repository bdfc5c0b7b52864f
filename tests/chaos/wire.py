"""A TCP proxy with faults: connections can be cut, refused, held back, slowed down, and let go again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

CHUNK_BYTES = 1 << 16
SLOW_CHUNK_BYTES = 2048
# SO_LINGER with no time to linger: closing sends a reset, as a crashed router or host leaves it.
RESET = struct.pack("ii", 1, 0)
START_SECONDS = 10.0

Upstream = Path | tuple[str, int]


@dataclass
class _Gate:
    """What passes just now; touched in the loop's thread alone."""

    is_open: asyncio.Event
    refuses: bool = False
    bytes_per_second: float | None = None
    writers: set[asyncio.StreamWriter] = field(default_factory=set)


class Wire:
    """One port on this machine that leads to one server. Made by `Exchange.wire`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, upstream: Upstream) -> None:
        self._loop = loop
        self._upstream = upstream
        self._gate: _Gate
        self._server: asyncio.Server
        self.port = 0

    async def open(self) -> None:
        gate_is_open = asyncio.Event()
        gate_is_open.set()
        self._gate = _Gate(gate_is_open)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """In the loop's thread: no new connections, and none of the old."""
        self._server.close()
        self._reset_all()

    def cut(self) -> None:
        """Resets every connection there is; new ones get through."""
        self._act(self._reset_all)

    def refuse(self) -> None:
        """Resets every connection there is and every new one."""

        def act() -> None:
            self._gate.refuses = True
            self._reset_all()

        self._act(act)

    def hold(self) -> None:
        """Nothing gets through either way any more, nothing is lost, nobody is told: a black hole."""
        self._act(self._gate.is_open.clear)

    def slow(self, bytes_per_second: float) -> None:
        """Each direction of each connection carries no more than that."""

        def act() -> None:
            self._gate.bytes_per_second = bytes_per_second

        self._act(act)

    def mend(self) -> None:
        """All is as it should be; what was held is delivered now."""

        def act() -> None:
            self._gate.refuses = False
            self._gate.bytes_per_second = None
            self._gate.is_open.set()

        self._act(act)

    def _act(self, act: Callable[[], None]) -> None:
        done = threading.Event()

        def act_and_tell() -> None:
            act()
            done.set()

        self._loop.call_soon_threadsafe(act_and_tell)
        done.wait(START_SECONDS)

    def _reset_all(self) -> None:
        for writer in self._gate.writers:
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._gate.refuses:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await self._connect()
        except OSError:
            _reset(writer)
            return
        ends = {writer, far_writer}
        self._gate.writers |= ends
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._gate.writers -= ends
            for end in ends:
                end.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._upstream, Path):
            return await asyncio.open_unix_connection(str(self._upstream))
        return await asyncio.open_connection(*self._upstream)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                rate = self._gate.bytes_per_second
                chunk = await reader.read(CHUNK_BYTES if rate is None else SLOW_CHUNK_BYTES)
                await self._gate.is_open.wait()
                if not chunk:
                    break
                if rate is not None:
                    await asyncio.sleep(len(chunk) / rate)
                writer.write(chunk)
                await writer.drain()
        # Half a connection is of no use to any of our protocols: one end's end is the other's.
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_INET:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


class Exchange:
    """All wires, in the loop of one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._wires: list[Wire] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="exchange", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result(START_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    def wire(self, upstream: Upstream) -> Wire:
        """A new way to the server at a Unix socket, or at a host and port."""
        made = Wire(self._loop, upstream)
        self._wires.append(made)
        asyncio.run_coroutine_threadsafe(made.open(), self._loop).result(START_SECONDS)
        return made

    async def _end_all(self) -> None:
        for wire in self._wires:
            wire.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # the closed connections' own last calls
