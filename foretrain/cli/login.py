"""`foretrain login`"""

from __future__ import annotations

from typing import Annotated

import typer

from foretrain.cli.remote import say, speaking_to
from foretrain.refusals import spoken_refusals


def login(
    url: Annotated[str, typer.Option(help="Of the service.", prompt=True)],
    api_key: Annotated[
        str, typer.Option(help="Asked for, unseen, if not given.", prompt=True, hide_input=True)
    ],
) -> None:
    """Keep an address and a key, once they have been tried, in a file that only you can read."""
    with speaking_to(url, api_key) as client:
        client.get_queues()
    with spoken_refusals():
        from foretrain.cli.connection import Connection, keep

        say(f"Kept in {keep(Connection(url.rstrip('/'), api_key))}")
