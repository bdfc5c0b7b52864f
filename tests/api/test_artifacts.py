"""Downloads: whole, in parts, and never damaged to the end."""

from __future__ import annotations

import base64
import hashlib
import json

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import StorageUnavailable
from core.jobs import service
from core.jobs.claim import ClaimedJob
from core.storage import ObjectStorage, artifact_key
from tests.api.conftest import RunningApi
from tests.api.test_problems import is_problem
from tests.factories import claim_job, make_job, make_tenant

# Several of the storage's pieces, and not a whole number of its chunks.
CONTENT = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(80_000)) + b"end"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def store(
    api: RunningApi, run: ClaimedJob, name: str, content: bytes, media_type: str = "application/octet-stream"
) -> str:
    """A published file of the run; its storage key."""
    key = artifact_key(run.tenant_id, run.job_id, run.attempt, run.token, name)
    stored = api.storage.put_bytes(key, content)
    with api.db.sessions.begin() as session:
        service.register_artifact(
            session,
            run.job_id,
            run.token,
            name=name,
            key=key,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            media_type=media_type,
        )
    return key


def a_run(api: RunningApi) -> ClaimedJob:
    with api.db.sessions.begin() as session:
        return claim_job(session, make_job(session, tenant=make_tenant(session)))


@pytest.fixture
def url(stored_api: RunningApi) -> str:
    """A checkpoint's path, once in a folder and once in S3."""
    run = a_run(stored_api)
    store(stored_api, run, "model.ckpt", CONTENT)
    return f"/v1/jobs/{run.job_id}/artifacts/model.ckpt"


def test_a_whole_file_says_what_it_is(stored_api: RunningApi, url: str) -> None:
    answer = stored_api.client.get(url)
    assert answer.status_code == 200
    assert answer.content == CONTENT
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    expected = {
        "content-length": str(len(CONTENT)),
        "content-type": "application/octet-stream",
        "etag": f'"{SHA256}"',
        "repr-digest": f"sha-256=:{digest}:",
        "accept-ranges": "bytes",
        "content-disposition": 'attachment; filename="model.ckpt"',
        "x-content-type-options": "nosniff",
    }
    assert {name: answer.headers[name] for name in expected} == expected


def test_head_tells_the_same_without_reading_the_file(
    stored_api: RunningApi, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = stored_api.client.get(url)

    def refuse(*_: object) -> None:
        raise AssertionError("HEAD reads nothing")

    monkeypatch.setattr(ObjectStorage, "read_range", refuse)
    head = stored_api.client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    same = {"content-length", "content-type", "etag", "repr-digest", "accept-ranges"}
    assert {name: head.headers[name] for name in same} == {name: got.headers[name] for name in same}
    part = stored_api.client.head(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.headers["content-length"]) == (206, "10")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-1048580", 5, 1_048_581),
        ("bytes=1048576-", 1_048_576, len(CONTENT)),
        ("bytes=-3", len(CONTENT) - 3, len(CONTENT)),
        (f"bytes={len(CONTENT) - 1}-{10**12}", len(CONTENT) - 1, len(CONTENT)),
    ],
)
def test_a_part_is_the_part(stored_api: RunningApi, url: str, asked: str, start: int, end: int) -> None:
    answer = stored_api.client.get(url, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(end - start)
    assert "repr-digest" in answer.headers


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(0, len(CONTENT) - 1), size=st.integers(1, len(CONTENT)))
def test_any_part_equals_the_slice(api: RunningApi, served: str, first: int, size: int) -> None:
    answer = api.client.get(served, headers={"Range": f"bytes={first}-{first + size - 1}"})
    assert answer.status_code == 206
    assert answer.content == CONTENT[first : first + size]


@pytest.fixture
def served(api: RunningApi) -> str:
    """A checkpoint's path in a folder."""
    run = a_run(api)
    store(api, run, "model.ckpt", CONTENT)
    return f"/v1/jobs/{run.job_id}/artifacts/model.ckpt"


def test_an_interrupted_download_goes_on_only_if_the_file_is_the_same(api: RunningApi, served: str) -> None:
    etag = api.client.get(served, headers={"Range": "bytes=0-99"}).headers["etag"]
    rest = api.client.get(served, headers={"Range": "bytes=100-", "If-Range": etag})
    assert (rest.status_code, rest.content) == (206, CONTENT[100:])
    for stale in ('"other"', f"W/{etag}", "Sun, 22 Nov 2026 12:00:00 GMT"):
        whole = api.client.get(served, headers={"Range": "bytes=100-", "If-Range": stale})
        assert (whole.status_code, whole.content) == (200, CONTENT)


@pytest.mark.parametrize("asked", ["bytes=a-b", "bytes=0-1,5-6", "rows=0-5"])
def test_a_range_that_is_none_means_the_whole_file(api: RunningApi, served: str, asked: str) -> None:
    answer = api.client.get(served, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_a_range_beyond_the_end_is_a_416_with_the_size(api: RunningApi, served: str) -> None:
    answer = api.client.get(served, headers={"Range": f"bytes={len(CONTENT)}-"})
    is_problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"


def test_a_file_already_held_is_a_304(api: RunningApi, served: str) -> None:
    answer = api.client.get(served, headers={"If-None-Match": f'"{SHA256}"', "Range": "bytes=0-1"})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == f'"{SHA256}"'


def test_an_empty_file_is_served_as_one(stored_api: RunningApi) -> None:
    run = a_run(stored_api)
    store(stored_api, run, "empty.csv", b"", "text/csv")
    url = f"/v1/jobs/{run.job_id}/artifacts/empty.csv"
    answer = stored_api.client.get(url)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    is_problem(stored_api.client.get(url, headers={"Range": "bytes=0-"}), 416, "range_not_satisfiable")


def test_redirect_leads_to_the_bytes_where_the_storage_can(stored_api: RunningApi, url: str) -> None:
    answer = stored_api.client.get(f"{url}?redirect=true", follow_redirects=False)
    if stored_api.settings.storage_url.startswith("file:"):
        assert (answer.status_code, answer.content) == (200, CONTENT)
        return
    assert answer.status_code == 307
    assert answer.headers["cache-control"] == "no-store"
    assert httpx2.get(answer.headers["location"]).content == CONTENT
    assert stored_api.client.head(f"{url}?redirect=true", follow_redirects=False).status_code == 200


def test_files_are_listed_with_size_and_digest(api: RunningApi) -> None:
    run = a_run(api)
    store(api, run, "model.ckpt", b"weights")
    store(api, run, "report.html", b"<html>", "text/html")
    page = api.client.get(f"/v1/jobs/{run.job_id}/artifacts").json()
    assert page["next_cursor"] is None
    assert [item["name"] for item in page["items"]] == ["model.ckpt", "report.html"]
    first = page["items"][0]
    assert first["size_bytes"] == 7
    assert first["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert (first["attempt"], first["complete"]) == (1, False)
    assert api.client.get(first["links"]["self"]).content == b"weights"


def test_a_report_is_a_download_and_never_a_page_of_ours(api: RunningApi) -> None:
    run = a_run(api)
    store(api, run, "report.html", b"<script>", "text/html")
    answer = api.client.get(f"/v1/jobs/{run.job_id}/artifacts/report.html")
    assert answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "name", ["nothing.ckpt", "%2e%2e", ".hidden", "a b", "%00", "x" * 300, "..%2F..%2Fetc%2Fpasswd"]
)
def test_a_file_there_is_not_is_not_found(api: RunningApi, name: str) -> None:
    run = a_run(api)
    answer = api.client.get(f"/v1/jobs/{run.job_id}/artifacts/{name}")
    assert answer.status_code == 404
    assert answer.json()["code"] in {"artifact_not_found", "unknown_path", "not_found"}


def test_a_file_whose_bytes_are_gone_is_not_found_and_logged(stored_api: RunningApi) -> None:
    run = a_run(stored_api)
    stored_api.storage.delete(store(stored_api, run, "model.ckpt", b"weights"))
    answer = stored_api.client.get(f"/v1/jobs/{run.job_id}/artifacts/model.ckpt")
    is_problem(answer, 404, "artifact_not_found")


@pytest.mark.parametrize("damage", [b"weighty", b"weight", b""])
def test_a_damaged_file_never_arrives_whole(api: RunningApi, damage: bytes) -> None:
    run = a_run(api)
    key = store(api, run, "model.ckpt", b"weights")
    path = api.storage.local_path(key)
    assert path is not None
    path.write_bytes(damage)
    answer = api.client.get(f"/v1/jobs/{run.job_id}/artifacts/model.ckpt")
    assert len(answer.content) < int(answer.headers["content-length"])


def test_a_storage_that_is_down_is_a_503(
    api: RunningApi, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageUnavailable("The object storage does not answer as it should.")

    monkeypatch.setattr(ObjectStorage, "read_range", refuse)
    answer = api.client.get(served)
    is_problem(answer, 503, "storage_unavailable")
    assert answer.headers["retry-after"]


def test_a_download_holds_a_transfer_slot_and_gives_it_back(api: RunningApi, served: str) -> None:
    slots = api.app.state.resources.transfers
    slots._count = 1
    assert api.client.get(served).content == CONTENT
    assert not slots._held
    with slots.taken():
        is_problem(api.client.get(served), 503, "overloaded")
        assert api.client.head(served).status_code == 200


def test_the_result_is_shown_as_json(stored_api: RunningApi) -> None:
    run = a_run(stored_api)
    result = {"scored_on": "test", "targets": {"cpu_percent": {"verdict": "better"}}}
    url = f"/v1/jobs/{run.job_id}/result"
    is_problem(stored_api.client.get(url), 404, "artifact_not_found")
    store(stored_api, run, "result.json", json.dumps(result).encode(), "application/json")
    answer = stored_api.client.get(url, headers={"Range": "bytes=0-3"})
    assert (answer.status_code, answer.json()) == (200, result)
    assert answer.headers["content-type"] == "application/json"
    assert "content-disposition" not in answer.headers
    held = {"If-None-Match": answer.headers["etag"]}
    assert stored_api.client.get(url, headers=held).status_code == 304
