"""Prefixed ids that sort by the time they were made: `job_0192…`."""

from __future__ import annotations

from typing import Literal

import uuid_utils

IdPrefix = Literal["job", "ds", "art", "evt", "key", "ten", "tal", "wh", "dlv", "aud"]
ID_LENGTH = 40


def new_id(prefix: IdPrefix) -> str:
    """The prefix, an underscore and a UUIDv7 in hex."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"
