"""Which service a command speaks to, and with which key.

The options come first, then FORETRAIN_URL and FORETRAIN_API_KEY, then what `foretrain login` has kept, then a
`foretrain up` of this machine. A key that was found beside an address is never sent to another.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from foretrain.refusals import Refusal

DEFAULT_DATA_DIR = "~/.local/share/foretrain"


@dataclass(frozen=True)
class Connection:
    """An address and a key for it."""

    url: str
    api_key: str


def find_connection(url: str | None, api_key: str | None) -> Connection:
    """Raises Refusal where an address or its key is missing."""
    url, api_key = url or os.environ.get("FORETRAIN_URL"), api_key or os.environ.get("FORETRAIN_API_KEY")
    if url and api_key:
        return Connection(url.rstrip("/"), api_key)
    for known in (_kept(), _running_here()):
        if known is not None and (url is None or url.rstrip("/") == known.url):
            return Connection(known.url, api_key or known.api_key)
    if url:
        raise Refusal(f"there is no key for {url}; give one with --api-key or FORETRAIN_API_KEY")
    raise Refusal(
        "no service is known here; name one with --url and --api-key, with FORETRAIN_URL and "
        "FORETRAIN_API_KEY, or once and for all with `foretrain login`"
    )


def keep(connection: Connection) -> Path:
    """Writes it to a file of its owner alone, whose path it returns."""
    file = _profile_file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        json.dump({"url": connection.url, "api_key": connection.api_key}, opened)
    draft.replace(file)
    return file


def _profile_file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "foretrain" / "login.json"


def _kept() -> Connection | None:
    file = _profile_file()
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return Connection(kept["url"], kept["api_key"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{file} cannot be read; `foretrain login` writes it anew") from error


def _running_here() -> Connection | None:
    folder = Path(os.environ.get("FORETRAIN_DATA_DIR") or DEFAULT_DATA_DIR).expanduser()
    try:
        url, key = (folder / "run" / "url").read_text(), (folder / "api_key").read_text()
    except OSError:
        return None
    return Connection(url.strip(), key.strip())
