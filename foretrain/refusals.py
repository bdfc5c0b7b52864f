"""How a command says no: one sentence on stderr and exit code 2."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS_MISTAKE_EXIT = 2
_OUR_PACKAGES = {"api", "core", "foretrain", "migrations", "trainer", "worker"}


class Refusal(Exception):  # a sentence for the user, not a fault of ours
    """What is in the way, and what to do about it."""


@contextmanager
def spoken_refusals() -> Iterator[None]:
    """Turns a Refusal, or a package that is not installed, into a sentence and exit code 2."""
    try:
        yield
    except Refusal as refusal:
        _refuse(str(refusal))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OUR_PACKAGES:
            raise
        _refuse(
            f"this command needs the package {error.name}; "
            "pip install 'foretrain[api,embedded,trainer]' brings all there is to it"
        )


def _refuse(sentence: str) -> NoReturn:
    print(f"foretrain: {sentence}", file=sys.stderr)  # noqa: T201  # a command line speaks
    raise SystemExit(USERS_MISTAKE_EXIT)
