"""The release after this one, as a fleet that is being upgraded meets it: made of a copy of this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from core import migrations

ROOT = Path(__file__).parents[2]
PARTS = ("api", "core", "worker", "trainer", "foretrain", "migrations", "tests")
SPEC = Path("trainer/spec.py")
LAST_FIELD = "    max_train_windows: int = Field(500_000, ge=1, le=50_000_000)\n"
# What it can be asked for and this one cannot.
NEW_FIELD = "dream_length"
ITS_MIGRATION = '''"""what only the later release reads"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("dreams", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "dreams")
'''


def make_later_release(folder: Path) -> None:
    """A source tree with a new field in the training spec, and with a migration more.

    Raises ValueError where the spec's source reads otherwise by now.
    """
    copy_source(folder)
    spec = (folder / SPEC).read_text()
    if spec.count(LAST_FIELD) != 1:
        raise ValueError(f"{SPEC} does not hold its last field as it is known here")
    (folder / SPEC).write_text(
        spec.replace(LAST_FIELD, f"{LAST_FIELD}    {NEW_FIELD}: int = Field(0, ge=0)\n")
    )
    script = ITS_MIGRATION.format(head=migrations.head())
    (folder / "migrations" / "versions" / "9999_the_later_release.py").write_text(script)


def copy_source(folder: Path) -> None:
    """What runs and what tests it, without what is generated."""
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))


def migrate(folder: Path, database_url: str) -> None:
    """The database, to the head of the release in `folder`. Raises CalledProcessError."""
    subprocess.run(
        [sys.executable, "-m", "foretrain", "migrate"],
        env=os.environ | {"PYTHONPATH": str(folder), "FORETRAIN_DATABASE_URL": database_url},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        check=True,
    )
