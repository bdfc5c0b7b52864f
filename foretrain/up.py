"""`foretrain up`: the whole service in one supervisor, with nothing to install beside it."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import structlog
from pydantic import SecretStr

from core.database import connect
from core.queue import make_celery
from core.scheduler import Scheduler
from foretrain.children import Child
from foretrain.data_dir import DataDir, owned
from foretrain.embedded_broker import await_answer, broker_child, broker_url, make_queues, stop_leftover
from foretrain.first_start import bring_up_to_date, kept_session_secret, make_first_key
from foretrain.http_server import HttpServer, listen
from foretrain.logs import hush
from foretrain.refusals import Refusal
from foretrain.setup import open_object_storage, set_up
from foretrain.stopping import Signals
from foretrain.tracing import trace_if_asked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core.settings import Settings

logger = structlog.get_logger(__name__)

_TEND_SECONDS = 0.1
_BROKER_SECONDS = 15.0
_WORKER_MARGIN_SECONDS = 15.0


def run_up(
    data_dir: Path, *, host: str, port: int, devices: str | None = None, end_with_stdin: bool = False
) -> int:
    """Serves until SIGINT, SIGTERM or, if so told, the end of stdin; 0 after a clean stop.

    Raises Refusal when something is in the way.
    """
    signals = Signals()
    if end_with_stdin:
        threading.Thread(target=_stop_with_stdin, name="stdin", daemon=True).start()
    with owned(data_dir.expanduser().absolute()) as directory:
        return _run(directory, signals, host, port, devices)


def _stop_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _run(directory: DataDir, signals: Signals, host: str, port: int, devices: str | None) -> int:
    # The children are configured by variables, as every worker is, and we by the same ones.
    os.environ["FORETRAIN_DATA_DIR"] = str(directory.root)
    embedded = os.environ.setdefault("FORETRAIN_BROKER_URL", broker_url(directory)) == broker_url(directory)
    settings = _with_session_secret(set_up(), directory)
    trace_if_asked("up")
    hush("api.request_context", "uvicorn.error")  # a line per request is for a log, not for a terminal
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        bring_up_to_date(settings.database_url)
        first = _make_key(settings, directory)
        broker = _start_broker(directory, stack) if embedded else None
        if settings.broker_url.startswith("sqla+"):
            make_queues(make_celery(settings))
        worker = Child("worker", _worker_command(devices), os.environ)
        stack.callback(worker.kill)
        worker.start()
        server = stack.enter_context(HttpServer(settings, listener))
        stack.enter_context(_scheduling(settings))
        if server.await_start():
            _publish(directory.url_file, server.url)
            _welcome(directory, server.url, first=first)
            _tend([child for child in (broker, worker) if child is not None], server, signals)
        _stop(server, worker, signals, settings.stop_grace_seconds + _WORKER_MARGIN_SECONDS)
        return 0 if signals.end_wanted else 1


def _with_session_secret(settings: Settings, directory: DataDir) -> Settings:
    if settings.session_secret is not None:
        return settings
    secret = SecretStr(kept_session_secret(directory.session_secret_file))
    return settings.model_copy(update={"session_secret": secret})


def _publish(url_file: Path, url: str) -> None:
    # Whole or not at all: others read it as soon as it is there.
    draft = url_file.with_suffix(".draft")
    draft.write_text(url + "\n")
    draft.replace(url_file)


def _make_key(settings: Settings, directory: DataDir) -> bool:
    db = connect(settings.database_url)
    try:
        return make_first_key(db, directory.api_key_file)
    finally:
        db.dispose()


def _start_broker(directory: DataDir, stack: contextlib.ExitStack) -> Child | None:
    broker = broker_child(directory, os.environ)
    if broker is None:
        return None
    if not stop_leftover(directory.broker_socket, _BROKER_SECONDS):
        raise Refusal(f"A broker that an earlier run left behind on {directory.broker_socket} does not end.")
    stack.callback(_end, broker, _BROKER_SECONDS)
    broker.start()
    if not await_answer(directory.broker_socket, _BROKER_SECONDS):
        raise Refusal(
            f"The embedded broker does not start; {directory.broker_folder}/valkey.log may say why."
        )
    return broker


def _worker_command(devices: str | None) -> list[str]:
    command = [sys.executable, "-P", "-m", "foretrain", "worker", "--end-with-stdin"]
    return command if devices is None else [*command, "--devices", devices]


def _tend(children: list[Child], server: HttpServer, signals: Signals) -> None:
    while not signals.end_wanted and server.is_running():
        for child in children:
            child.tend()
        time.sleep(_TEND_SECONDS)


def _stop(server: HttpServer, worker: Child, signals: Signals, seconds: float) -> None:
    """Lets requests and the running job come to an end, unless a second signal says not to."""
    logger.info("stopping", hint="a running job is saved and queued again; once more to stop at once")
    server.ask_to_end()
    worker.ask_to_end()
    until = time.monotonic() + seconds
    while not worker.wait(_TEND_SECONDS):
        if signals.end_at_once or time.monotonic() > until:
            logger.warning("worker_killed")
            return


def _end(child: Child, seconds: float) -> None:
    child.ask_to_end()
    if not child.wait(seconds):
        child.kill()


@contextlib.contextmanager
def _scheduling(settings: Settings) -> Iterator[None]:
    db = connect(settings.database_url, lock_seconds=settings.lease_seconds)
    stop = threading.Event()
    scheduler = Scheduler(db, make_celery(settings), open_object_storage(settings), settings)
    thread = threading.Thread(target=scheduler.run, args=(stop,), name="scheduler", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        db.dispose()


def _welcome(directory: DataDir, url: str, *, first: bool) -> None:
    key_file = directory.api_key_file
    lines = [
        f"foretrain listens on {url}; its data are in {directory.root}",
        f"In a browser: {url}/ (sign in with the API key)",
    ]
    if key_file.exists():
        job = '{"dataset_id": "ds_…", "training": {"target_metrics": ["cpu_percent"]}}'
        lines += [
            f"API key, {'made just now' if first else 'as before'}: {key_file}",
            "",
            "Upload a file, then submit a job with the id that the answer names:",
            f'  KEY="Authorization: Bearer $(cat {shlex.quote(str(key_file))})"',
            '  curl -H "$KEY" -H "Content-Type: text/csv" --data-binary @metrics.csv \\',
            f'    "{url}/v1/datasets?name=metrics"',
            f"  curl -H \"$KEY\" --json '{job}' {url}/v1/jobs",
        ]
    else:
        lines += ["The first API key is not here any more; `foretrain keys create` makes another."]
    print(*lines, "", "Ctrl-C stops everything.", sep="\n", flush=True)  # noqa: T201  # a command line speaks
