from __future__ import annotations

import base64
import hashlib
import json
import socket
from io import BytesIO
from pathlib import Path

import pytest

from core.jobs.schemas import JobCreate
from foretrain.client import AnswerNotUnderstood, Client, ServiceProblem, ServiceUnreachable, exchange
from tests.foretrain.client.scripted_service import HANGS_UP, Says, Scripted, problem, scripted
from tests.foretrain.serving import Running
from trainer.spec import TrainingSpec

JOB = JobCreate(dataset_id="ds_1")
QUEUES = Says(body=b'{"queues": []}')


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "FIRST_PAUSE_SECONDS", 0.001)


def client_of(service: Scripted) -> Client:
    return Client(service.url, "key")


@pytest.mark.parametrize(
    "trouble",
    [
        HANGS_UP,
        Says(body=b'{"que', cut=True),
        problem(429, "rate_limited", Retry_After="0"),
        problem(503, "overloaded"),
        Says(502, b"<html>bad gateway</html>"),
    ],
    ids=["hangs up", "breaks off", "429", "503", "a proxy's 502"],
)
def test_what_passes_is_tried_again(trouble: Says) -> None:
    with scripted(trouble, trouble, QUEUES) as service, client_of(service) as client:
        assert client.get_queues().queues == []

    assert service.paths() == ["GET /v1/queue"] * 3


@pytest.mark.parametrize(
    "refusal", [problem(404, "not_found"), problem(500, "internal"), problem(502, "source_failed")]
)
def test_what_stays_is_not_tried_again(refusal: Says) -> None:
    with scripted(refusal, QUEUES) as service, client_of(service) as client:
        with pytest.raises(ServiceProblem):
            client.get_queues()

        assert len(service.asked) == 1


def test_a_wait_longer_than_a_caller_expects_is_the_callers_to_decide() -> None:
    with scripted(problem(429, "quota_exceeded", Retry_After="3600")) as service:
        with client_of(service) as client, pytest.raises(ServiceProblem) as refused:
            client.submit(JOB)

        assert refused.value.retry_after_seconds == 3600
        assert len(service.asked) == 1


def test_a_repeated_post_carries_the_same_key_and_the_next_one_another() -> None:
    end = problem(422, "invalid_spec")
    with scripted(HANGS_UP, HANGS_UP, end, end) as service, client_of(service) as client:
        for _ in range(2):
            with pytest.raises(ServiceProblem):
                client.submit(JOB)

    first, second, third, other = service.headers("Idempotency-Key")
    assert first == second == third
    assert first
    assert other not in {first, None}


def test_a_repeated_upload_sends_the_whole_file_again() -> None:
    source = BytesIO(b"timestamp,cpu_percent\n")
    trouble, refusal = problem(503, "overloaded"), problem(422, "invalid_dataset")
    with (
        scripted(trouble, refusal) as service,
        client_of(service) as client,
        pytest.raises(ServiceProblem),
    ):
        client.upload_dataset(source, "csv")

    assert [body for *_, body in service.asked] == [b"timestamp,cpu_percent\n"] * 2


def test_a_change_whose_answer_was_lost_is_not_repeated() -> None:
    with scripted(HANGS_UP, QUEUES) as service, client_of(service) as client:
        with pytest.raises(ServiceUnreachable):
            client.change_job("job_1", revision=1, priority=1)

        assert len(service.asked) == 1


def test_nobody_there_is_said_with_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

    with Client(url, "key") as client, pytest.raises(ServiceUnreachable, match=url):
        client.get_queues()


def test_a_download_that_breaks_off_is_resumed_within_the_call(tmp_path: Path) -> None:
    content = bytes(range(200))
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    names = {"ETag": '"one"', "Repr-Digest": f"sha-256=:{digest}:"}
    script = [
        Says(body=content, headers=names),
        Says(body=content[:120], headers=names, cut=True),
        Says(206, content[120:], names),
    ]
    with scripted(*script) as service, client_of(service) as client:
        download = client.download("job_1", "model.ckpt", tmp_path / "model.ckpt")

    assert download.resumed_at == 120
    assert service.headers("Range") == [None, None, "bytes=120-"]
    assert service.headers("If-Range") == [None, None, '"one"']


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>welcome</html>", "Invalid JSON"),
        (b'{"queues": [{"name": 5}]}', "queues.0.name"),
        (b"[]", "Queues as this release"),
    ],
)
def test_an_answer_of_something_else_is_named_in_a_sentence(body: bytes, says: str) -> None:
    with (
        scripted(Says(body=body)) as service,
        client_of(service) as client,
        pytest.raises(AnswerNotUnderstood, match=says),
    ):
        client.get_queues()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>welcome</html>",
        b"[]",
        b'{"a": 1}',
        b'{"items": 5, "next_cursor": null}',
        b'{"items": [{"id": 5}], "next_cursor": null}',
        b'{"items": [], "next_cursor": 7}',
    ],
)
def test_a_list_of_something_else_is_named_in_a_sentence(body: bytes) -> None:
    with (
        scripted(Says(body=body)) as service,
        client_of(service) as client,
        pytest.raises(AnswerNotUnderstood),
    ):
        list(client.list_jobs())


def test_a_status_of_a_later_release_is_a_word_like_others(running: Running) -> None:
    with Client(running.url, running.key) as client:
        job = client.get_job(running.add_job())
    news = {"status": "archived", "fault": "weather"}
    later = job.model_copy(update=news).model_dump_json().encode()
    with scripted(Says(body=later)) as service, client_of(service) as client:
        read = client.get_job(job.id)
    assert (read.status, read.fault) == ("archived", "weather")


def test_keys_of_a_later_release_are_left_out(running: Running) -> None:
    with Client(running.url, running.key) as client:
        job = client.get_job(running.add_job())
    later = json.loads(job.model_dump_json())
    later["mood"] = "good"
    later["spec"] |= {"dream_length": 8, "epochs": 7}
    later["adjustments"] = [{"field": "epochs", "reason": "short", "since": "today"}]
    pages = [{"items": [later, later], "next_cursor": None}, later]
    answers = (Says(body=json.dumps(page).encode()) for page in pages)
    with scripted(*answers) as service, client_of(service) as client:
        listed, read = list(client.list_jobs()), client.get_job(job.id)

    assert listed == [read, read]
    assert isinstance(read.spec, TrainingSpec)
    assert read.spec.epochs == 7
    assert read.adjustments[0].reason == "short"


def test_a_spec_that_says_something_new_is_shown_as_it_is(running: Running) -> None:
    with Client(running.url, running.key) as client:
        job = client.get_job(running.add_job())
    later = json.loads(job.model_dump_json())
    later["spec"] |= {"dream_length": 8, "precision": "fp3"}
    with scripted(Says(body=json.dumps(later).encode())) as service, client_of(service) as client:
        assert client.get_job(job.id).spec == later["spec"]


def test_a_new_kind_of_value_is_named(running: Running) -> None:
    with Client(running.url, running.key) as client:
        job = client.get_job(running.add_job())
    later = json.loads(job.model_dump_json()) | {"mood": "good", "revision": "seven"}
    with (
        scripted(Says(body=json.dumps(later).encode())) as service,
        client_of(service) as client,
        pytest.raises(AnswerNotUnderstood, match="revision"),
    ):
        client.get_job(job.id)
