"""Whether a process of a deployment lives: for the health checks of the compose file."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Literal

from core.settings import load_settings
from foretrain.pulse import Pulse

_SECONDS = 3
_OK = 200


def check_health(role: Literal["api", "scheduler", "worker"], port: int) -> int:
    """0 while it lives, 1 otherwise. An outage of database, broker or storage is no reason to die."""
    alive = (
        _answers(f"http://127.0.0.1:{port}/livez")
        if role == "api"
        else Pulse(load_settings().data_dir, role).is_fresh()
    )
    return 0 if alive else 1


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310  # our own, above
            return bool(answer.status == _OK)
    except (OSError, urllib.error.URLError):
        return False
