"""`foretrain keys …`: over HTTP one's own tenant's, or, with --tenant, on the machine that has the database.

The first key of a tenant can only be made on the machine: over HTTP one needs a key to make another.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from foretrain.cli.remote import (
    ApiKey,
    AsJson,
    Url,
    checked,
    remote_app,
    say,
    say_json,
    say_table,
    speaking_to,
)
from foretrain.refusals import spoken_refusals

app = remote_app("API keys: of a service, or with --tenant on the machine that holds its database.")

Tenant = Annotated[
    str | None,
    typer.Option(help="Work on the database of this machine, for this tenant. Default: over HTTP."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="With --tenant: of `foretrain up`.", envvar="FORETRAIN_DATA_DIR"),
]


@app.command("create")
def create_key(
    tenant: Tenant = None,
    scopes: Annotated[
        str,
        typer.Option(
            help="Separated by commas: jobs:read, jobs:write, datasets:read, datasets:write, admin."
        ),
    ] = "jobs:read,jobs:write,datasets:read,datasets:write",
    expires_in_days: Annotated[int | None, typer.Option(min=1, help="Default: never.")] = None,
    data_dir: DataDir = None,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Make an API key and print it; nobody can read it again. A new tenant is made with its first key."""
    if tenant is not None:
        with spoken_refusals():
            from foretrain.errands import create_api_key

            raise typer.Exit(create_api_key(tenant, scopes.split(","), expires_in_days, data_dir, name))
    with speaking_to(url, api_key) as client:
        from core.access.schemas import ApiKeyCreate

        asked = {"name": name, "scopes": [scope.strip() for scope in scopes.split(",")]}
        if expires_in_days is not None:
            moment = datetime.now(UTC) + timedelta(days=expires_in_days)
            asked["expires_at"] = moment.isoformat()
        made = client.create_api_key(checked(ApiKeyCreate, asked))
        if as_json:
            say_json(made)
        else:
            say(made.secret)


@app.command("list")
def list_keys(
    tenant: Tenant = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """List API keys, revoked and expired ones too, without their secrets."""
    if tenant is not None:
        with spoken_refusals():
            from foretrain.errands import list_api_keys

            raise typer.Exit(list_api_keys(tenant, data_dir))
    with speaking_to(url, api_key) as client:
        found = client.list_api_keys()
        if as_json:
            for key in found:
                say_json(key)
            return
        say_table(
            ["id", "name", "scopes", "expires", "revoked", "last used"],
            (
                [
                    each.id,
                    each.name,
                    ",".join(each.scopes),
                    each.expires_at,
                    each.revoked_at,
                    each.last_used_at,
                ]
                for each in found
            ),
        )


@app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="`key_…`, as the list shows it.")],
    tenant: Tenant = None,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Revoke an API key, for good and at once."""
    if tenant is not None:
        with spoken_refusals():
            from foretrain.errands import revoke_api_key

            raise typer.Exit(revoke_api_key(tenant, key_id, data_dir))
    with speaking_to(url, api_key) as client:
        client.revoke_api_key(key_id)
