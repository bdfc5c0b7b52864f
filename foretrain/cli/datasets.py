"""`foretrain datasets …`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foretrain.cli.remote import REFUSED, AsJson, checked, remote_app, say, say_json, say_table, speaking

if TYPE_CHECKING:
    from core.datasets.schemas import DatasetRead
    from foretrain.client import Client

app = remote_app("Tables of server metrics, on a service.")
DatasetId = Annotated[str, typer.Argument(help="`ds_…`")]
Name = Annotated[str | None, typer.Option(help="For people.")]


@app.command()
@speaking
def upload(
    client: Client,
    file: Annotated[Path, typer.Argument(help="Server metrics.")],
    name: Name = None,
    format: Annotated[str | None, typer.Option(help="Default: by the file's ending.")] = None,  # noqa: A002
    mapping: Annotated[
        str | None, typer.Option(help="How to read it: the mapping of docs/datasets.md, as JSON or a file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file and print the dataset's id, once it is inspected."""
    from foretrain.data_files import format_of, mapping_of
    from foretrain.transfer_bar import transfer_bar

    chosen = format_of(file, format)
    reading = mapping_of(None, None, None, mapping)
    with transfer_bar(file.name, file.stat().st_size) as advance:
        uploaded = client.upload_dataset(file, chosen, name=name, mapping=reading, on_bytes=advance)
    _say_made(client.await_dataset(uploaded.id), as_json=as_json)


@app.command()
@speaking
def pull(
    client: Client,
    source: Annotated[str, typer.Option(help="The Prometheus server, as the operator allows it.")],
    query: Annotated[list[str], typer.Option(help="column=PromQL; may be repeated.")],
    start: Annotated[str, typer.Option(help="Such as 2026-01-01T00:00:00Z.")],
    end: Annotated[str, typer.Option(help="Likewise.")],
    step: Annotated[str, typer.Option(help="Between points, such as 5min.")] = "5min",
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Make the service pull a range from Prometheus, and print the dataset's id."""
    from core.datasets.schemas import DatasetPull

    asked = {"url": source, "start": start, "end": end, "step": step, "name": name}
    queries = dict(each.partition("=")[::2] for each in query)
    body = checked(DatasetPull, asked | {"queries": queries})
    _say_made(client.await_dataset(client.pull_dataset(body).id), as_json=as_json)


@app.command("list")
@speaking
def list_datasets(client: Client, as_json: AsJson = False) -> None:
    """List datasets, newest first."""
    datasets = client.list_datasets()
    if as_json:
        for dataset in datasets:
            say_json(dataset)
        return
    say_table(
        ["id", "name", "status", "format", "bytes"],
        ([each.id, each.name, each.status, each.format, f"{each.size_bytes:,}"] for each in datasets),
    )


@app.command()
@speaking
def show(client: Client, dataset_id: DatasetId) -> None:
    """Show one dataset, as JSON."""
    say_json(client.get_dataset(dataset_id))


@app.command()
@speaking
def report(client: Client, dataset_id: DatasetId, as_json: AsJson = False) -> None:
    """Say what is odd about the data."""
    found = client.get_dataset_report(dataset_id)
    if as_json:
        say_json(found)
        return
    say(f"{found.row_count:,} rows, {found.series_count:,} series")
    for finding in found.findings:
        say_json(finding)


@app.command()
@speaking
def delete(client: Client, dataset_id: DatasetId) -> None:
    """Remove a dataset that no job needs."""
    client.delete_dataset(dataset_id)


def _say_made(dataset: DatasetRead, *, as_json: bool) -> None:
    if as_json:
        say_json(dataset)
    else:
        say(dataset.id)
    if dataset.status == "rejected":
        raise typer.Exit(REFUSED)
