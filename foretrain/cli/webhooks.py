"""`foretrain webhooks …`"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretrain.cli.remote import AsJson, checked, remote_app, say, say_json, say_table, speaking

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.webhooks.schemas import DeliveryRead
    from foretrain.client import Client

app = remote_app("Addresses that are sent the events of jobs, and what was sent to them.")
WebhookId = Annotated[str, typer.Argument(help="Of the webhook, as `list` shows it.")]
Events = Annotated[
    list[str] | None, typer.Option("--event", help="Only this type, such as job.succeeded; may be repeated.")
]
Name = Annotated[str | None, typer.Option(help="For people.")]


@app.command("list")
@speaking
def list_webhooks(client: Client, as_json: AsJson = False) -> None:
    """List webhooks, newest first."""
    webhooks = client.list_webhooks()
    if as_json:
        for webhook in webhooks:
            say_json(webhook)
        return
    say_table(
        ["id", "name", "enabled", "events", "url"],
        (
            [each.id, each.name, "yes" if each.enabled else "no", ",".join(each.event_types), each.url]
            for each in webhooks
        ),
    )


@app.command()
@speaking
def create(
    client: Client,
    address: Annotated[str, typer.Argument(help="https://…, where events are POSTed.")],
    event: Events = None,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Send events to an address from now on. Prints the id and the secret that signs, which is shown once."""
    from core.webhooks.schemas import WebhookCreate

    asked = {"url": address, "event_types": event or None, "name": name}
    made = client.create_webhook(checked(WebhookCreate, _given(asked)))
    if as_json:
        say_json(made)
    else:
        say(f"{made.id} {made.secret}")


@app.command()
@speaking
def show(client: Client, webhook_id: WebhookId) -> None:
    """Show one webhook, as JSON."""
    say_json(client.get_webhook(webhook_id))


@app.command()
@speaking
def update(
    client: Client,
    webhook_id: WebhookId,
    address: Annotated[str | None, typer.Option(help="Where to from now on.")] = None,
    event: Events = None,
    name: Name = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Disabling gives up what waits to be sent.")
    ] = None,
) -> None:
    """Change what is given, and show the webhook, as JSON."""
    from core.webhooks.schemas import WebhookChange

    asked = {"url": address, "event_types": event or None, "name": name, "enabled": enabled}
    say_json(client.change_webhook(webhook_id, checked(WebhookChange, _given(asked))))


@app.command()
@speaking
def delete(client: Client, webhook_id: WebhookId) -> None:
    """Remove a webhook with the log of its deliveries."""
    client.delete_webhook(webhook_id)


@app.command("test")
@speaking
def send_test(client: Client, webhook_id: WebhookId, as_json: AsJson = False) -> None:
    """Send it an event that says nothing, and print the delivery's id."""
    _say_sent(client.test_webhook(webhook_id), as_json=as_json)


@app.command()
@speaking
def deliveries(
    client: Client,
    webhook_id: WebhookId,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List what was sent and what waits to be, newest first."""
    found = islice(client.list_deliveries(webhook_id), limit)
    if as_json:
        for delivery in found:
            say_json(delivery)
        return
    say_table(
        ["id", "event", "job", "status", "attempts", "created"],
        (
            [
                each.id,
                each.event_type,
                each.job_id,
                each.status,
                len(each.attempts),
                f"{each.created_at:%Y-%m-%d %H:%M}",
            ]
            for each in found
        ),
    )


@app.command()
@speaking
def replay(
    client: Client,
    delivery_id: Annotated[str, typer.Argument(help="Of the delivery, as `deliveries` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Send a delivery's event once more, and print its id."""
    _say_sent(client.replay_delivery(delivery_id), as_json=as_json)


@app.command()
@speaking
def rotate(
    client: Client,
    webhook_id: WebhookId,
    overlap_seconds: Annotated[
        int | None, typer.Option(help="So long the old secret signs, too. Default: a day.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a new secret, which is shown once."""
    from core.webhooks.schemas import SecretRotation

    asked = _given({"overlap_seconds": overlap_seconds})
    rotated = client.rotate_webhook_secret(webhook_id, checked(SecretRotation, asked))
    if as_json:
        say_json(rotated)
    else:
        say(rotated.secret)


def _given(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in asked.items() if value is not None}


def _say_sent(delivery: DeliveryRead, *, as_json: bool) -> None:
    if as_json:
        say_json(delivery)
    else:
        say(delivery.id)
