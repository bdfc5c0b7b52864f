"""A name server for one name, whose addresses change: what Docker's is for the services of a compose file."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ADDRESS, _INTERNET = 1, 1
_NO_ERROR, _IS_ANSWER, _NO_SUCH_NAME = 0, 0x8180, 3
_HEADER_BYTES = 12


class Names:
    """`addresses` are the A records of `name`, from one answer to the next."""

    def __init__(self, name: str) -> None:
        self.addresses: list[str] = []
        self._name = name
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    @contextmanager
    def served(self) -> Iterator[Names]:
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", self.port))
            thread.join()
            self._socket.close()

    def _serve(self) -> None:
        while True:
            asked, caller = self._socket.recvfrom(512)
            if not asked:
                return
            self._socket.sendto(self._answer(asked), caller)

    def _answer(self, asked: bytes) -> bytes:
        labels, place = [], _HEADER_BYTES
        while length := asked[place]:
            labels.append(asked[place + 1 : place + 1 + length].decode())
            place += 1 + length
        question = asked[_HEADER_BYTES : place + 5]
        known = self.addresses if ".".join(labels) == self._name else []
        status = _IS_ANSWER | (_NO_ERROR if known else _NO_SUCH_NAME)
        header = asked[:2] + struct.pack(">HHHHH", status, 1, len(known), 0, 0)
        record = struct.pack(">HHHIH", 0xC000 | _HEADER_BYTES, _ADDRESS, _INTERNET, 600, 4)
        return header + question + b"".join(record + socket.inet_aton(address) for address in known)
