from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from foretrain.client import ChecksumMismatch, Client
from tests.foretrain.serving import CHECKPOINT, Running

# Says when it is half through, and then waits to be killed.
HALF_A_DOWNLOAD = """
import sys
from pathlib import Path
from foretrain.client import Client

def stop_half_way(received):
    if received > int(sys.argv[5]) // 2:
        print("half", flush=True)
        sys.stdin.read()

with Client(sys.argv[1], sys.argv[2]) as client:
    client.download(sys.argv[3], "model.ckpt", Path(sys.argv[4]), on_bytes=stop_half_way)
"""


class Breaking:
    """A connection that breaks once so many bytes have come."""

    def __init__(self, at: int) -> None:
        self._at = at

    def __call__(self, received: int) -> None:
        if received >= self._at:
            raise ConnectionResetError


def test_a_download_that_broke_off_goes_on_where_it_stopped(
    client: Client, finished_job: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.ckpt"
    with pytest.raises(ConnectionResetError):
        client.download(finished_job, "model.ckpt", path, on_bytes=Breaking(2_000_000))
    assert not path.exists()

    download = client.download(finished_job, "model.ckpt", path)

    assert 2_000_000 <= download.resumed_at < len(CHECKPOINT)
    assert path.read_bytes() == CHECKPOINT
    assert [file.name for file in tmp_path.iterdir()] == ["model.ckpt"]


def test_a_part_that_was_damaged_here_is_thrown_away(
    client: Client, finished_job: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.ckpt"
    with pytest.raises(ConnectionResetError):
        client.download(finished_job, "model.ckpt", path, on_bytes=Breaking(2_000_000))
    [partial] = tmp_path.glob("model.ckpt.*.part")
    partial.write_bytes(bytes(partial.stat().st_size))

    with pytest.raises(ChecksumMismatch):
        client.download(finished_job, "model.ckpt", path)

    assert not path.exists()
    client.download(finished_job, "model.ckpt", path)
    assert path.read_bytes() == CHECKPOINT


def test_what_a_killed_client_has_fetched_is_not_fetched_again(
    running: Running, client: Client, tmp_path: Path
) -> None:
    content = CHECKPOINT * 4
    job_id = running.finish_job(content)
    path = tmp_path / "model.ckpt"
    arguments = [running.url, running.key, job_id, str(path), str(len(content))]
    with subprocess.Popen(
        [sys.executable, "-c", HALF_A_DOWNLOAD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"half\n"
        killed.kill()

    download = client.download(job_id, "model.ckpt", path)

    assert download.resumed_at > len(content) // 3
    assert path.read_bytes() == content


def test_an_empty_file_is_downloaded_too(running: Running, client: Client, tmp_path: Path) -> None:
    download = client.download(running.finish_job(b""), "model.ckpt", tmp_path / "empty")

    assert (download.size_bytes, (tmp_path / "empty").read_bytes()) == (0, b"")
