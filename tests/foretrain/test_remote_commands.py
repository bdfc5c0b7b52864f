"""Commands that speak to a service, in this process: what they print, and what their exit codes say."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog.testing
from typer.testing import CliRunner

from core.jobs.lifecycle import JobStatus
from foretrain.cli import app
from foretrain.cli.connection import find_connection
from foretrain.client import exchange
from foretrain.refusals import Refusal
from tests.foretrain.client.scripted_service import Says, scripted
from tests.foretrain.client.test_calls import CSV
from tests.foretrain.serving import CHECKPOINT, Running

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No address and no key but those of the test."""
    for name in ("FORETRAIN_URL", "FORETRAIN_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("FORETRAIN_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture(autouse=True)
def silent_service() -> Iterator[None]:
    """It runs in this process: its log would stand between a command's lines."""
    with structlog.testing.capture_logs():
        yield


def run(*arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def command(running: Running, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("FORETRAIN_URL", running.url)
    monkeypatch.setenv("FORETRAIN_API_KEY", running.key)
    return run


def test_from_a_file_to_a_job_that_is_listed_and_cancelled(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(CSV)

    _, dataset_id, _ = command("datasets", "upload", str(file), "--name", "two weeks")
    assert dataset_id.startswith("ds_"), dataset_id
    spec = json.dumps({"training": {"epochs": 2, "horizon": 6}})
    options = [
        "--dataset",
        dataset_id.strip(),
        "--label",
        "env:cli",
        "--encoder-length",
        "24",
        "--epochs",
        "1",
    ]
    code, printed, errors = command("jobs", "submit", "--spec", "-", *options, stdin=spec)
    assert code == 0, errors
    job_id = printed.strip()
    _, listed, _ = command("jobs", "list", "--label", "env:cli", "--json")
    [job] = [json.loads(line) for line in listed.splitlines()]

    assert job["id"] == job_id
    assert {name: job["spec"][name] for name in ("epochs", "horizon", "encoder_length")} == {
        "epochs": 1,
        "horizon": 6,
        "encoder_length": 24,
    }
    assert command("jobs", "cancel", job_id)[:2] == (0, f"{job_id} cancelled\n")


def test_files_are_downloaded_and_checked(command: Command, finished_job: str, tmp_path: Path) -> None:
    code, printed, _ = command("jobs", "download", finished_job, "--folder", str(tmp_path / "out"))

    assert code == 0
    assert (tmp_path / "out" / "model.ckpt").read_bytes() == CHECKPOINT
    assert "sha256" in printed


def test_how_a_job_ended_is_the_exit_code(command: Command, running: Running, finished_job: str) -> None:
    ended = {
        0: finished_job,
        1: running.add_job(JobStatus.FAILED),
        5: running.add_job(JobStatus.CANCELLED),
    }

    assert [command("jobs", "wait", job_id)[0] for job_id in ended.values()] == list(ended)
    assert [command("jobs", "watch", job_id)[0] for job_id in ended.values()] == list(ended)
    assert command("jobs", "wait", running.add_job(), "--timeout", "0.1")[0] == 6


def test_a_refusal_and_silence_are_told_apart(command: Command) -> None:
    refused = command("jobs", "show", "job_" + "0" * 32)
    wrong_key = command("jobs", "list", "--api-key", "nonsense")

    assert (refused[0], refused[2].startswith("foretrain: ")) == (3, True)
    assert "not_found" in refused[2]
    assert wrong_key[0] == 3
    assert command("jobs", "list", "--url", "http://127.0.0.1:1")[0] == 4


def test_log_and_metrics_are_printed(command: Command, finished_job: str) -> None:
    assert command("jobs", "logs", finished_job)[1] == "reading the dataset\n"
    _, printed, _ = command("jobs", "metrics", finished_job, "--name", "train_loss", "--json")
    assert [point["step"] for point in json.loads(printed)["points"]] == [1, 2, 3, 4]


def test_a_key_is_made_listed_and_revoked_over_http(command: Command) -> None:
    _, secret, _ = command("keys", "create", "--scopes", "jobs:read", "--name", "grafana")
    seen = command("jobs", "list", "--api-key", secret.strip())
    _, listed, _ = command("keys", "list", "--json")
    [key] = [each for line in listed.splitlines() if (each := json.loads(line))["name"] == "grafana"]
    revoked = command("keys", "revoke", key["id"])
    unseen = command("jobs", "list", "--api-key", secret.strip())

    assert (seen[0], revoked[0], unseen[0]) == (0, 0, 3)


def test_an_unknown_scope_is_named_beside_the_known_ones(command: Command) -> None:
    code, _, errors = command("keys", "create", "--scopes", "jobs:read,jobs:sing")

    assert code == 2
    assert "jobs:sing" in errors
    assert "datasets:write" in errors


def test_a_label_without_a_colon_does_not_list_every_job(command: Command) -> None:
    code, printed, errors = command("jobs", "list", "--label", "edge")

    assert (code, printed) == (2, "")
    assert "key:value" in errors
    assert "'edge'" in errors


def test_a_webhook_is_made_changed_tested_rotated_and_removed(command: Command) -> None:
    code, made, errors = command(
        "webhooks", "create", "https://hooks.example.org/a", "--event", "job.succeeded", "--name", "pager"
    )
    assert code == 0, errors
    webhook_id, secret = made.split()
    _, listed, _ = command("webhooks", "list", "--json")
    assert [json.loads(line)["id"] for line in listed.splitlines()] == [webhook_id]
    _, delivery_id, _ = command("webhooks", "test", webhook_id)
    _, replayed_id, _ = command("webhooks", "replay", delivery_id.strip())
    _, sent, _ = command("webhooks", "deliveries", webhook_id, "--json")
    assert {delivery_id.strip(), replayed_id.strip()} == {
        json.loads(line)["id"] for line in sent.splitlines()
    }
    _, rotated, _ = command("webhooks", "rotate", webhook_id, "--overlap-seconds", "0")
    assert rotated.strip() not in ("", secret)
    _, changed, _ = command("webhooks", "update", webhook_id, "--disable")
    shown = json.loads(command("webhooks", "show", webhook_id)[1])
    assert json.loads(changed) == shown
    assert (shown["enabled"], shown["name"], shown["event_types"]) == (False, "pager", ["job.succeeded"])

    assert command("webhooks", "delete", webhook_id)[0] == 0
    assert command("webhooks", "show", webhook_id)[0] == 3


def test_an_unknown_event_type_is_refused_before_it_is_sent(command: Command) -> None:
    code, _, errors = command("webhooks", "create", "https://hooks.example.org/a", "--event", "job.sang")

    assert code == 2
    assert "job.sang" in errors


def test_a_login_is_kept_for_its_owner_alone_and_for_its_address_only(
    running: Running, tmp_path: Path
) -> None:
    code, _, errors = run("login", "--url", running.url, "--api-key", running.key)
    file = tmp_path / "config" / "foretrain" / "login.json"

    assert code == 0, errors
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run("jobs", "list", "--json")[0] == 0
    with pytest.raises(Refusal, match="no key for http://elsewhere"):
        find_connection("http://elsewhere", None)


def test_a_wrong_key_is_not_kept(running: Running, tmp_path: Path) -> None:
    assert run("login", "--url", running.url, "--api-key", "nonsense")[0] == 3
    assert not (tmp_path / "config").exists()


def test_a_service_of_this_machine_is_found_by_its_folder(running: Running, tmp_path: Path) -> None:
    (tmp_path / "data" / "run").mkdir(parents=True)
    (tmp_path / "data" / "run" / "url").write_text(running.url + "\n")
    (tmp_path / "data" / "api_key").write_text(running.key + "\n")

    assert run("jobs", "list")[0] == 0


def test_without_an_address_the_command_says_how_to_give_one() -> None:
    code, _, errors = run("jobs", "list")

    assert code == 2
    assert "foretrain login" in errors


def test_something_else_that_answers_has_an_exit_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(Says(body=b"<html>welcome</html>")) as service:
        monkeypatch.setenv("FORETRAIN_URL", service.url)
        monkeypatch.setenv("FORETRAIN_API_KEY", "ft_aaaaaaaa_" + "b" * 38)
        code, _, said = run("jobs", "show", "job_" + "0" * 32)

    assert code == 7
    assert "no JobRead as this release of foretrain knows it" in said
