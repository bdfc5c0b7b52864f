"""Write the secret files that docker-compose.yml mounts: `make secrets`. Never overwrites one.

To a set from an earlier release it adds the files that stand for themselves.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path

FOLDER = Path("secrets")


def main() -> int:
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    existing = {path.name for path in FOLDER.iterdir()}
    together, alone = _that_belong_together(), _that_stand_alone()
    if not existing:
        missing = together | alone
    elif existing >= together.keys():
        missing = {name: content for name, content in alone.items() if name not in existing}
    else:
        # Half a set cannot be completed: the passwords in it belong together.
        missing = {}
    if not missing:
        print(f"{FOLDER}/ already holds {', '.join(sorted(existing))}; nothing written.", file=sys.stderr)
        return 1
    for name, content in missing.items():
        _write(FOLDER / name, content)
    print(f"Wrote {', '.join(missing)} to {FOLDER}/. Keep them out of version control and back them up.")
    return 0


def _that_belong_together() -> dict[str, str]:
    """Content by file name: passwords that a server and its clients must share."""
    postgres_password = secrets.token_urlsafe(32)
    valkey_password = secrets.token_urlsafe(32)
    access_key_id = secrets.token_hex(10)
    secret_access_key = secrets.token_urlsafe(40)
    return {
        "postgres_password": postgres_password,
        "foretrain_database_url": f"postgresql+psycopg://foretrain:{postgres_password}@postgres:5432/foretrain",
        "foretrain_broker_url": f"redis://:{valkey_password}@valkey:6379/0",
        "foretrain_storage_access_key_id": access_key_id,
        "foretrain_storage_secret_access_key": secret_access_key,
        "valkey.conf": _valkey_conf(valkey_password),
        "objects.json": _objects_config(access_key_id, secret_access_key),
    }


def _that_stand_alone() -> dict[str, str]:
    """Content by file name: what no other file repeats, so that it can come later."""
    return {"foretrain_session_secret": secrets.token_urlsafe(32)}


def _write(path: Path, content: str) -> None:
    # Readable to the containers' unprivileged users, who see only the mounted file; on the host the
    # folder's 0700 keeps others out.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    path.chmod(0o644)


def _valkey_conf(password: str) -> str:
    lines = ["bind 0.0.0.0", "dir /data", "appendonly yes", "appendfsync everysec", f"requirepass {password}"]
    return "\n".join(lines) + "\n"


def _objects_config(access_key_id: str, secret_access_key: str) -> str:
    identity = {
        "name": "foretrain",
        "credentials": [{"accessKey": access_key_id, "secretKey": secret_access_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return json.dumps({"identities": [identity]}, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
