"""How much memory the API takes for a large upload and a large download: `python -m benchmarks.transfers`.

One API process over SQLite; objects in a folder, then in S3 (moto's server, a process of its own, which holds
them in its memory). Memory is the process's peak over what it held before. The dataset is a Parquet file of
random numbers, so that the inspection, in a process of its own, reads it whole.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load_http import fetch, request, send_file
from benchmarks.load_rows import open_populated, write_random_parquet
from benchmarks.load_servers import free_port, run_api, run_server
from benchmarks.memory import resident_bytes
from core.storage import create_bucket

CREDENTIALS = {"access_key_id": "any", "secret_access_key": "any"}
MIB = 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    size_mib = parser.parse_args().mib
    print("| objects in | transfer | MiB | seconds | more memory at the peak, MiB |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = write_random_parquet(folder / "upload.parquet", size_mib, seed=1)
        for title, place in (("a folder", _in_folder), ("S3", _in_s3)):
            (folder / title).mkdir()
            with place(folder / title) as settings:
                asyncio.run(_transfer(title, folder / title, settings, file, file.stat().st_size))
    return 0


@contextmanager
def _in_folder(folder: Path) -> Iterator[dict[str, str]]:
    yield {"storage_url": (folder / "objects").as_uri()}


@contextmanager
def _in_s3(folder: Path) -> Iterator[dict[str, str]]:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with run_server(command, port, {}, folder):
        url = f"s3://bucket/prefix?endpoint=http://127.0.0.1:{port}&region=us-east-1&allow_http=true"
        create_bucket(url, **CREDENTIALS)
        secrets = {f"storage_{name}": value for name, value in CREDENTIALS.items()}
        yield {"storage_url": url} | secrets


async def _transfer(title: str, folder: Path, settings: dict[str, str], file: Path, expected: int) -> None:
    """A file of `expected` bytes goes up, is inspected, and comes down through the same process."""
    url = f"sqlite:///{folder / 'foretrain.db'}"
    secrets = CREDENTIALS if "storage_access_key_id" in settings else {}
    with open_populated(url, folder, settings["storage_url"], **secrets) as place:
        artifact = place.store_artifact(file)
        with run_api(url, folder, **settings) as server:
            key = {"Authorization": f"Bearer {place.key}"}
            await fetch(server.port, request("GET", "/livez"))
            before = resident_bytes("VmHWM", server.pid)

            def say(transfer: str, seconds: float) -> None:
                more = (resident_bytes("VmHWM", server.pid) - before) / MIB
                print(
                    f"| {title} | {transfer} | {expected / MIB:.0f} | {seconds:.1f} | {more:.0f} |",
                    flush=True,
                )

            headers = key | {"Content-Type": "application/vnd.apache.parquet"}
            answer, seconds = await send_file(server.port, "POST", "/v1/datasets", headers, file)
            if answer.status not in {201, 202}:
                raise ValueError(f"the upload was answered {answer.status}: {answer.body[:500]!r}")
            say("upload", seconds)
            path = f"/v1/jobs/{place.running.job_id}/artifacts/{artifact}"
            size_bytes, seconds = await fetch(server.port, request("GET", path, key))
            if size_bytes != expected:
                raise ValueError(f"{size_bytes} bytes came, not {expected}")
            say("download", seconds)


if __name__ == "__main__":
    sys.exit(main())
