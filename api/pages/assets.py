"""The pages' scripts and styles, ours and those that an installed package ships, under one digest."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

OWN = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# youplot's wheel ships uPlot 1.6.31 unchanged: these are the digests of the files in uPlot's own release.
PLOT_PACKAGE = "youplot"
PLOT_FILES = {
    "uPlot.js": (
        "vendor/uplot.iife.min.js",
        "2d27e8ad3d228164525ce213f9dc716f39b4e3aee0cc773fb3491c96cf4921a2",
    ),
    "uPlot.css": (
        "vendor/uplot.min.css",
        "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    ),
}


@dataclass(frozen=True)
class Asset:
    """One file, also compressed; small enough to be held in memory."""

    content: bytes
    compressed: bytes
    media_type: str


@dataclass(frozen=True)
class Assets:
    """All files by name. `digest` stands in their paths, so that a browser may keep them for good."""

    digest: str
    files: dict[str, Asset]

    def path(self, name: str) -> str:
        """Where a page finds the file. Raises KeyError for one that is not there."""
        return f"/static/{self.digest}/{self.files[name] and name}"


@cache
def load_assets() -> Assets:
    """Read once. Raises RuntimeError where the plot library is missing or is not the one we know."""
    contents = {file.name: file.read_bytes() for file in sorted(OWN.iterdir()) if file.suffix in MEDIA_TYPES}
    contents |= _plot_library()
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(name.encode() + b"\0" + content)
    files = {
        name: Asset(content, gzip.compress(content, mtime=0), MEDIA_TYPES[Path(name).suffix])
        for name, content in contents.items()
    }
    return Assets(digest.hexdigest()[:16], files)


def _plot_library() -> dict[str, bytes]:
    """The package's files, without running a line of it: only these two are trusted, by their digests."""
    spec = find_spec(PLOT_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"The pages need the package {PLOT_PACKAGE}: pip install 'foretrain[api]'.")
    folder = Path(spec.submodule_search_locations[0])
    contents = {name: (folder / place).read_bytes() for name, (place, _) in PLOT_FILES.items()}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != PLOT_FILES[name][1]:
            raise RuntimeError(f"{PLOT_PACKAGE} holds another {name} than the one that was looked at.")
    return contents
