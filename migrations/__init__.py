"""Alembic's scripts. `core.migrations` runs them; `python -m migrations` drafts a new one."""
