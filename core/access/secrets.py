"""The text of an API key: `ft_<public id>_<secret and checksum>`, all base62. Pure."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass

ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits
PUBLIC_LENGTH = 8
SECRET_LENGTH = 32
CHECKSUM_LENGTH = 6
_TOKEN = re.compile(
    rf"ft_(?P<public_id>[A-Za-z0-9]{{{PUBLIC_LENGTH}}})"
    rf"_(?P<secret>[A-Za-z0-9]{{{SECRET_LENGTH}}})(?P<checksum>[A-Za-z0-9]{{{CHECKSUM_LENGTH}}})"
)


@dataclass(frozen=True)
class KeyText:
    """`public_id` finds the row; `token` is all of it and goes to the customer alone."""

    public_id: str
    token: str

    @property
    def sha256(self) -> str:
        """What is stored. A plain hash is enough: 190 random bits cannot be guessed."""
        return hashlib.sha256(self.token.encode()).hexdigest()


def make_key_text() -> KeyText:
    """A new key."""
    public_id, secret = _random(PUBLIC_LENGTH), _random(SECRET_LENGTH)
    return KeyText(public_id, f"ft_{public_id}_{secret}{_checksum(public_id, secret)}")


def parse_key_text(token: str) -> KeyText | None:
    """None for what cannot be a key: a typing mistake is known without asking the database."""
    match = _TOKEN.fullmatch(token)
    if match is None or _checksum(match["public_id"], match["secret"]) != match["checksum"]:
        return None
    return KeyText(match["public_id"], token)


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _checksum(public_id: str, secret: str) -> str:
    number = zlib.crc32(f"{public_id}_{secret}".encode())
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
