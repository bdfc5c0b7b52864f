"""How busy this worker's GPUs are, as nvidia-smi says."""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.hardware import Gpu

logger = structlog.get_logger(__name__)

# One call costs a tenth of a second of a core; more often would show nothing that a graph does.
_EVERY_SECONDS = 15.0
_PATIENCE_SECONDS = 5.0
_QUERY = "index,utilization.gpu,memory.used,memory.total"


class GpuReadings:
    """Looks at most every 15 s; without a GPU, never."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self._indices = [gpu.index for gpu in gpus]
        self._looked_at = float("-inf")
        self._latest: dict[str, Any] | None = None

    def latest(self) -> dict[str, Any] | None:
        """For the row of the worker; None where there is nothing to say."""
        if self._indices and time.monotonic() - self._looked_at >= _EVERY_SECONDS:
            self._looked_at = time.monotonic()
            self._latest = _look(self._indices)
        return self._latest


def _look(indices: Sequence[int]) -> dict[str, Any] | None:
    program = shutil.which("nvidia-smi") or "nvidia-smi"
    ids = ",".join(str(index) for index in indices)
    command = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits", f"--id={ids}"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        logger.warning("gpu_readings_failed", exc_info=True)
        return None
    readings = [_parse(line) for line in answer.stdout.splitlines() if line.strip()]
    return {"gpus": [reading for reading in readings if reading is not None]}


def _parse(line: str) -> dict[str, Any] | None:
    """None for a GPU that does not say, as one that is cut into instances."""
    try:
        index, percent, used, total = (int(field) for field in line.split(","))
    except ValueError:
        return None
    return {
        "index": index,
        "utilization": percent / 100,
        "memory_used_bytes": used << 20,
        "memory_bytes": total << 20,
    }
