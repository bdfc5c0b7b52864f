"""Drafts a migration, `python -m migrations 0002 "what changes"`: read it before you keep it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from core.migrations import draft

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        draft(f"sqlite:///{Path(folder) / 'draft.db'}", sys.argv[1], sys.argv[2])
