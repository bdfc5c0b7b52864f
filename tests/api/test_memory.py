"""Transfers pass through; they are never held."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.load_http import fetch, request, send_file
from benchmarks.load_rows import open_populated
from benchmarks.load_servers import run_api

FILE_BYTES = 160 * 1024**2
MORE_AT_MOST_BYTES = 100 * 1000**2


def peak_bytes(pid: int) -> int:
    """The most that was resident so far."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.slow
def test_neither_an_upload_nor_a_download_is_held_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "model.ckpt"
    row = b"2026-01-05T00:00:00Z,server-1,much\n"
    file.write_bytes(b"time,server,cpu_percent\n" + row * (FILE_BYTES // len(row)))
    url = f"sqlite:///{tmp_path / 'foretrain.db'}"
    with open_populated(url, tmp_path) as place, run_api(url, tmp_path) as server:
        key = {"Authorization": f"Bearer {place.key}"}
        path = f"/v1/jobs/{place.running.job_id}/artifacts/{place.store_artifact(file)}"
        asyncio.run(fetch(server.port, request("GET", "/livez")))
        before = peak_bytes(server.pid)

        size_bytes, _ = asyncio.run(fetch(server.port, request("GET", path, key)))
        csv = key | {"Content-Type": "text/csv"}
        refusal, _ = asyncio.run(send_file(server.port, "POST", "/v1/datasets", csv, file))

        # The body came in whole; only its inspection, a process of its own, finds no number in it.
        assert (size_bytes, refusal.status) == (file.stat().st_size, 422)
        assert peak_bytes(server.pid) - before < MORE_AT_MOST_BYTES
