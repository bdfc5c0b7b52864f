"""The folder in which `foretrain up` keeps everything, and the lock that keeps a second one out."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from foretrain.refusals import Refusal

# sun_path is 108 bytes on Linux and 104 on macOS, with a zero at the end.
_LONGEST_SOCKET_PATH = 100


@dataclass(frozen=True)
class DataDir:
    """Paths below the folder; everything in it is for its owner alone."""

    root: Path
    runtime: Path

    @property
    def database(self) -> Path:
        return self.root / "foretrain.db"

    @property
    def api_key_file(self) -> Path:
        return self.root / "api_key"

    @property
    def session_secret_file(self) -> Path:
        return self.root / "session_secret"

    @property
    def url_file(self) -> Path:
        """Where the service listens, for as long as it does."""
        return self.root / "run" / "url"

    @property
    def broker_folder(self) -> Path:
        return self.runtime / "broker"

    @property
    def broker_socket(self) -> Path:
        return self.runtime / "broker.sock"


@contextmanager
def owned(root: Path) -> Iterator[DataDir]:
    """Makes the folder if need be and holds it while this lasts. Raises Refusal."""
    os.umask(0o077)
    run = root / "run"
    run.mkdir(parents=True, exist_ok=True)
    root.chmod(0o700)
    with (run / "lock").open("a+") as lock:
        _lock(lock.fileno(), root, run / "url")
        with _runtime(run) as runtime:
            directory = DataDir(root, runtime)
            directory.url_file.unlink(missing_ok=True)
            try:
                yield directory
            finally:
                directory.url_file.unlink(missing_ok=True)


def _lock(descriptor: int, root: Path, url_file: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        where = f" on {url_file.read_text().strip()}" if url_file.exists() else ""
        raise Refusal(
            f"foretrain already runs{where} with the data in {root}; "
            "stop it, or name another folder with --data-dir."
        ) from error


@contextmanager
def _runtime(run: Path) -> Iterator[Path]:
    """`run` itself, or a folder with a shorter name where `run` cannot hold a socket."""
    path = str(run / "broker.sock")
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH and not any(letter.isspace() for letter in path):
        yield run
        return
    folder = Path(tempfile.mkdtemp(prefix="foretrain-", dir=os.environ.get("XDG_RUNTIME_DIR")))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
