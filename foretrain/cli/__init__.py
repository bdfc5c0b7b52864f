"""The command line. A command imports what it needs when it runs: `--help` needs neither server nor torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from foretrain.cli import datasets, jobs, keys, login, webhooks
from foretrain.refusals import spoken_refusals

app = typer.Typer(
    rich_markup_mode=None,  # its frames cost half of what `--help` takes
    context_settings={"max_content_width": 110},
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Training as a service for the Temporal Fusion Transformer on server metrics.",
)
storage_app = typer.Typer(no_args_is_help=True, help="The object storage.")
app.add_typer(jobs.app, name="jobs")
app.add_typer(datasets.app, name="datasets")
app.command("login")(login.login)
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(storage_app, name="storage")

DEFAULT_DATA_DIR = Path("~/.local/share/foretrain")

Devices = Annotated[
    str | None, typer.Option(help="GPUs the worker owns, such as 0 or 0,1. Default: the first one, if any.")
]
EndWithStdin = Annotated[
    bool, typer.Option("--end-with-stdin", help="End as soon as standard input does.", hidden=True)
]


@app.command()
def up(
    data_dir: Annotated[
        Path, typer.Option(help="Where everything is kept.", envvar="FORETRAIN_DATA_DIR")
    ] = DEFAULT_DATA_DIR,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    devices: Devices = None,
    end_with_stdin: EndWithStdin = False,
) -> None:
    """Run the whole service on this machine until Ctrl-C: API, scheduler, broker and worker."""
    with spoken_refusals():
        from foretrain.up import run_up

        code = run_up(data_dir, host=host, port=port, devices=devices, end_with_stdin=end_with_stdin)
        raise typer.Exit(code)


@app.command()
def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on; else FORETRAIN_HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Else FORETRAIN_PORT.")] = None,
) -> None:
    """Serve HTTP, configured by FORETRAIN_* variables."""
    with spoken_refusals():
        from foretrain.http_server import run_api

        raise typer.Exit(run_api(host, port))


@app.command()
def scheduler() -> None:
    """Run the scheduler, configured by FORETRAIN_* variables. Several at once do no harm."""
    with spoken_refusals():
        from foretrain.services import run_scheduler

        raise typer.Exit(run_scheduler())


@app.command()
def worker(
    devices: Devices = None,
    name: Annotated[str | None, typer.Option(help="Default: host name and process id.")] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Run one job and end, as batch schedulers want it.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="With --once: how long to wait for a job.")
    ] = 0.0,
    end_with_stdin: EndWithStdin = False,
) -> None:
    """Run training jobs, one at a time, configured by FORETRAIN_* variables.

    With --once the exit code says what became of it: 0 it is done with, 4 no job came, 5 the job failed, 6 it
    was given back to the queue.
    """
    with spoken_refusals():
        from foretrain.services import run_worker

        within = wait if once else None
        code = run_worker(devices=devices, name=name, once_within=within, end_with_stdin=end_with_stdin)
        raise typer.Exit(code)


@app.command()
def healthcheck(
    role: Annotated[Literal["api", "scheduler", "worker"], typer.Argument(help="Which process.")],
    port: Annotated[int, typer.Option(help="Of the API.")] = 8000,
) -> None:
    """Exit with 0 if that process lives here, else with 1."""
    with spoken_refusals():
        from foretrain.health import check_health

        raise typer.Exit(check_health(role, port))


@app.command()
def migrate() -> None:
    """Bring the database to the schema of this release."""
    with spoken_refusals():
        from foretrain.errands import migrate_database

        raise typer.Exit(migrate_database())


@storage_app.command("create-bucket")
def create_bucket() -> None:
    """Make the bucket of FORETRAIN_STORAGE_URL, unless it is there."""
    with spoken_refusals():
        from foretrain.errands import create_storage_bucket

        raise typer.Exit(create_storage_bucket())


@app.command("sample-data")
def sample_data(
    file: Annotated[Path, typer.Argument(help="To write: .csv, .csv.gz, .parquet or .ndjson.")],
    trace: Annotated[
        Literal["alibaba2018", "google2019", "azurev2"], typer.Option(help="The data centre it was taken in.")
    ] = "alibaba2018",
    seconds: Annotated[int, typer.Option(help="Between two rows.")] = 300,
    fleet: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="So many synthetic one-day series instead of the real one."),
    ] = None,
) -> None:
    """Write real server metrics, or a synthetic fleet, to try the trainer on."""
    with spoken_refusals():
        from foretrain.samples import write

        raise typer.Exit(write(file, trace, seconds, fleet))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def train(context: typer.Context) -> None:
    """Train on a file without a server."""
    from foretrain.train import build_command

    # Its options are the fields of TrainingSpec, read only now.
    build_command()(context.args, prog_name="foretrain train")


@app.command()
def predict(
    bundle: Annotated[
        Path, typer.Argument(help="Folder with model.safetensors and model.json, as training leaves it.")
    ],
    file: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Recent metrics, in any format that can be trained on."),
    ],
    out: Annotated[Path, typer.Option(help="File to write: .csv or .parquet.")],
    time_column: Annotated[str | None, typer.Option(help="Default: as in training.")] = None,
    group_column: Annotated[
        list[str] | None,
        typer.Option(help="Column that names a server; one for each of the training's. Default: as there."),
    ] = None,
    frequency: Annotated[
        str | None, typer.Option(help="Step between rows, such as 5min, which is the training's.")
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        str | None, typer.Option(help="What the file is, such as prometheus. Default: by its ending.")
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option(help="How to read the file, as JSON or a file that holds it. Default: as in training."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: all cores.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Forecast the next steps of each server in a file, also of servers the model has never seen."""
    with spoken_refusals():
        from foretrain.data_files import mapping_of
        from foretrain.predict import run_prediction

        reading = mapping_of(time_column, group_column, frequency, mapping)
        raise typer.Exit(
            run_prediction(bundle, file, out, reading, threads=threads, force=force, asked_format=format)
        )


@app.command()
def doctor(
    train: Annotated[
        bool, typer.Option("--train", help="Train a small model with each feature, and with all together.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="With --train: this feature alone; may be repeated.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="With --train: a new folder for the runs, which else are removed.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="File for the findings.", metavar="FILE")] = None,
) -> None:
    """Check this machine, and with --train every feature; exit with 1 where something is wrong."""
    with spoken_refusals():
        from foretrain.doctor.command import run_doctor

        raise typer.Exit(run_doctor(train=train, only=only or [], keep=keep, json_file=json))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo's files go; emptied at its start.")] = Path(
        "demo-run"
    ),
) -> None:
    """Show the whole path on real data: upload, training, download, forecast with the stock library."""
    with spoken_refusals():
        from foretrain.demo import run_demo

        raise typer.Exit(run_demo(folder))
