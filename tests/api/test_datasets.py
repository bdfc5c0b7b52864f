"""Uploads: what is taken, what is refused, and that nothing is left of what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from core.errors import StorageUnavailable
from core.storage import ObjectStorage
from tests.api.conftest import NOTHING, RunningApi, fleet_csv, running
from tests.api.test_problems import is_problem
from tests.conftest import make_settings
from tests.trainer.dataset.monitoring import as_influx, as_prometheus, as_victoriametrics

CSV = {"Content-Type": "text/csv"}


def upload(api: RunningApi, data: bytes, **params: str) -> Any:
    return api.client.post("/v1/datasets", params={"format": "csv"} | params, content=data)


def as_parquet(data: bytes) -> bytes:
    table = pa.csv.read_csv(io.BytesIO(data))
    sink = io.BytesIO()
    pa.parquet.write_table(table, sink)
    return sink.getvalue()


def as_ndjson(data: bytes) -> bytes:
    rows = pa.csv.read_csv(io.BytesIO(data)).to_pylist()
    return "".join(json.dumps(row, default=str) + "\n" for row in rows).encode()


def rows_of(data: bytes) -> list[dict[str, Any]]:
    """As the exports of monitoring systems are made of."""
    rows: list[dict[str, Any]] = pa.csv.read_csv(io.BytesIO(data)).to_pylist()
    return [row | {"timestamp": row["timestamp"].isoformat()} for row in rows]


def test_an_upload_is_stored_inspected_and_ready(any_api: RunningApi) -> None:
    data = fleet_csv()
    answer = any_api.client.post("/v1/datasets?name=fleet", content=data, headers=CSV)
    assert answer.status_code == 201
    dataset = answer.json()
    assert answer.headers["location"] == f"/v1/datasets/{dataset['id']}"
    assert dataset["status"] == "ready"
    assert dataset["name"] == "fleet"
    assert dataset["size_bytes"] == len(data)
    assert dataset["sha256"] == hashlib.sha256(data).hexdigest()
    assert dataset["schema"]["group_columns"] == ["server"]
    assert dataset["schema"]["frequency_seconds"] == 300.0
    assert any_api.client.get(answer.headers["location"]).json() == dataset
    assert any_api.client.get("/v1/datasets").json() == {"items": [dataset], "next_cursor": None}
    key = next(any_api.storage.list("tenants"))
    assert b"".join(any_api.storage.read_range(key, 0, len(data))) == data


@pytest.mark.parametrize(
    ("format_", "encode"),
    [
        ("csv", bytes),
        ("csv.gz", gzip.compress),
        ("parquet", as_parquet),
        ("ndjson", as_ndjson),
        ("prometheus", lambda data: as_prometheus(rows_of(data)).encode()),
        ("victoriametrics", lambda data: as_victoriametrics(rows_of(data)).encode()),
        ("influx", lambda data: as_influx(rows_of(data)).encode()),
    ],
)
def test_each_format_is_taken(api: RunningApi, format_: str, encode: Any) -> None:
    answer = upload(api, encode(fleet_csv()), format=format_)
    assert answer.status_code == 201, answer.text
    assert answer.json()["schema"]["series_count"] == 3


@pytest.mark.slow
def test_either_storage_takes_an_upload_of_several_parts(stored_api: RunningApi) -> None:
    # More than one of the pieces in which storage is written, so that S3 sees a multipart upload.
    data = fleet_csv(servers=40, steps=6000)
    answer = upload(stored_api, data)
    assert answer.status_code == 201, answer.text
    assert answer.json()["sha256"] == hashlib.sha256(data).hexdigest()
    assert answer.json()["schema"]["row_count"] == 240_000


def test_a_mapping_says_how_to_read_the_file(api: RunningApi) -> None:
    mapping = {"time_column": "timestamp", "columns": {"cpu_percent": {"name": "cpu", "unit": "%"}}}
    answer = upload(api, fleet_csv(), mapping=json.dumps(mapping))
    assert answer.status_code == 201
    names = {column["name"]: column["unit"] for column in answer.json()["schema"]["columns"]}
    assert names["cpu"] == "%"
    assert answer.json()["mapping"]["time_column"] == "timestamp"


def test_the_same_bytes_read_the_same_way_are_one_dataset(any_api: RunningApi) -> None:
    first = upload(any_api, fleet_csv())
    again = upload(any_api, fleet_csv(), name="another name")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    other_reading = upload(any_api, fleet_csv(), mapping='{"time_column":"timestamp"}')
    assert other_reading.status_code == 201
    assert other_reading.json()["id"] != first.json()["id"]
    assert any_api.leftovers() == NOTHING | {"datasets": 2, "objects": 2}


def test_the_same_bytes_of_another_tenant_are_another_dataset(api: RunningApi) -> None:
    mine = upload(api, fleet_csv()).json()
    answer = api.client_of("rival").post("/v1/datasets", params={"format": "csv"}, content=fleet_csv())
    assert answer.status_code == 201
    assert answer.json()["id"] != mine["id"]


def test_an_idempotency_key_brings_the_same_dataset_again(any_api: RunningApi) -> None:
    def send(data: bytes) -> Any:
        headers = CSV | {"Idempotency-Key": "night-1"}
        return any_api.client.post("/v1/datasets", content=data, headers=headers)

    first, again = send(fleet_csv()), send(fleet_csv())
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    is_problem(send(fleet_csv(servers=2)), 422, "idempotency_mismatch")
    assert any_api.leftovers() == NOTHING | {"datasets": 1, "objects": 1, "idempotency_keys": 1}


def test_an_idempotency_key_may_be_used_again_once_its_upload_was_refused(api: RunningApi) -> None:
    headers = CSV | {"Idempotency-Key": "night-2"}
    is_problem(
        api.client.post("/v1/datasets", content=b"a,b\n1,2\n", headers=headers), 422, "invalid_dataset"
    )
    assert api.leftovers() == NOTHING
    assert api.client.post("/v1/datasets", content=fleet_csv(), headers=headers).status_code == 201


def rows(header: str, *lines: str) -> bytes:
    return "\n".join([header, *lines, ""]).encode()


TWO_TIMES = rows(
    "started,ended,cpu_percent",
    *(f"2026-01-01T00:{n:02}:00Z,2026-01-02T00:{n:02}:00Z,{n}" for n in range(40)),
)
BAD_TIME = fleet_csv().replace(b"2026-01-01T01:00:00+00:00,web-1", b"yesterday,web-1")
BAD_FILES = {
    "empty file": ("csv", b"", "empty_file"),
    "header alone": ("csv", b"timestamp,cpu_percent\n", "empty_file"),
    "no time column": ("csv", rows("server,cpu_percent", *(f"a,{n}" for n in range(40))), "no_time_column"),
    "no numeric column": (
        "csv",
        rows("timestamp,note", *(f"2026-01-01T00:{n:02}:00Z,text" for n in range(40))),
        "no_numeric_column",
    ),
    "ambiguous time column": ("csv", TWO_TIMES, "ambiguous_time_column"),
    "truncated parquet": ("parquet", as_parquet(fleet_csv())[:-40], "unreadable_file"),
    "truncated gzip": ("csv.gz", gzip.compress(fleet_csv())[:-40], "unreadable_file"),
    "a time that is none": ("csv", BAD_TIME, "bad_time_value"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_file_is_refused_with_its_place_and_leaves_nothing(api: RunningApi, what: str) -> None:
    format_, data, code = BAD_FILES[what]
    problem = is_problem(upload(api, data, format=format_), 422, "invalid_dataset")
    assert problem["retryable"] is False
    assert [error["code"] for error in problem["errors"]] == [code]
    assert len(problem["errors"][0]["detail"]) > 20
    assert api.leftovers() == NOTHING


@pytest.mark.parametrize(
    ("format_", "data"), [("csv.gz", fleet_csv()), ("ndjson", fleet_csv()), ("parquet", b"x" * 99)]
)
def test_a_file_of_another_format_than_it_is_said_to_be_is_a_415(
    api: RunningApi, format_: str, data: bytes
) -> None:
    problem = is_problem(upload(api, data, format=format_), 415, "unsupported_media_type")
    assert problem["errors"][0]["code"] == "unsupported_format"
    assert api.leftovers() == NOTHING


def test_a_value_that_is_wrong_is_shown_by_column_and_row(api: RunningApi) -> None:
    error = upload(api, BAD_TIME).json()["errors"][0]
    assert error["column"] == "timestamp"
    assert error["row"] == 60 + 12 + 1


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_is_refused_unopened(stored_api: RunningApi, protocol: int) -> None:
    answer = upload(stored_api, pickle.dumps({"cpu_percent": [1.0]}, protocol))
    assert "pickle" in is_problem(answer, 415, "unsupported_media_type")["detail"]
    assert stored_api.leftovers() == NOTHING


@pytest.mark.parametrize(
    ("params", "headers", "status", "code", "pointer"),
    [
        ({}, {}, 415, "unsupported_media_type", None),
        ({}, {"Content-Type": "multipart/form-data; boundary=x"}, 415, "unsupported_media_type", None),
        ({"format": "parquet"}, CSV, 415, "unsupported_media_type", None),
        ({"format": "excel"}, {}, 422, "invalid_request", "/query/format"),
        ({"format": "prometheus"}, CSV, 415, "unsupported_media_type", None),
        ({"mapping": '{"preset":"zabbix"}'}, CSV, 422, "invalid_request", "/query/mapping/preset"),
        (
            {"mapping": '{"columns":{"cpu":{"unit":"bytes","convert_to":"%"}}}'},
            CSV,
            422,
            "invalid_request",
            "/query/mapping/columns/cpu",
        ),
        ({"fromat": "csv"}, CSV, 422, "invalid_request", "/query/fromat"),
        ({"name": "a\nb"}, CSV, 422, "invalid_request", "/query/name"),
        ({"name": ""}, CSV, 422, "invalid_request", "/query/name"),
        ({"mapping": "{"}, CSV, 422, "invalid_request", "/query/mapping"),
        ({"mapping": "[]"}, CSV, 422, "invalid_request", "/query/mapping"),
        ({"mapping": '{"time_colum":"t"}'}, CSV, 422, "invalid_request", "/query/mapping/time_colum"),
        ({"mapping": '{"frequency":"5 minutes"}'}, CSV, 422, "invalid_request", "/query/mapping/frequency"),
        (
            {"mapping": '{"group_columns":["a","b","c","d"]}'},
            CSV,
            422,
            "invalid_request",
            "/query/mapping/group_columns",
        ),
        ({"mapping": '{"time_column":"a","time_column":"b"}'}, CSV, 422, "invalid_request", "/query/mapping"),
    ],
)
def test_a_request_that_is_wrong_is_refused_before_its_body_is_stored(
    api: RunningApi,
    params: dict[str, str],
    headers: dict[str, str],
    status: int,
    code: str,
    pointer: str | None,
) -> None:
    answer = api.client.post("/v1/datasets", params=params, headers=headers, content=fleet_csv())
    problem = is_problem(answer, status, code)
    assert pointer is None or problem["errors"][0]["pointer"] == pointer
    assert api.leftovers() == NOTHING


def test_a_misspelt_parameter_is_told_its_name(api: RunningApi) -> None:
    answer = api.client.post("/v1/datasets?fromat=csv", content=fleet_csv())
    assert "did you mean 'format'" in answer.json()["detail"]


def test_a_column_that_the_mapping_names_and_the_file_lacks_is_refused(api: RunningApi) -> None:
    problem = is_problem(upload(api, fleet_csv(), mapping='{"time_column":"ts"}'), 422, "invalid_dataset")
    assert problem["errors"][0]["code"] == "unknown_column"
    assert problem["errors"][0]["column"] == "ts"
    assert api.leftovers() == NOTHING


@pytest.mark.parametrize("has_length", [True, False])
def test_a_file_over_the_limit_is_a_413(sqlite_url: str, tmp_path: Path, has_length: bool) -> None:
    data = b"x" * 1_000_001
    body: Any = data if has_length else iter([data[:600_000], data[600_000:]])
    with running(make_settings(tmp_path, database_url=sqlite_url, max_upload_bytes=1_000_000)) as started:
        api = started.signed_in()
        answer = api.client.post("/v1/datasets", content=body, headers=CSV)
        assert "1000000" in is_problem(answer, 413, "too_large")["detail"]
        assert answer.headers["connection"] == "close"
        assert api.leftovers() == NOTHING


def test_an_inspection_that_takes_long_goes_on_after_the_answer(sqlite_url: str, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, database_url=sqlite_url, inspection_wait_seconds=0.01)
    with running(settings) as started:
        api = started.signed_in()
        answer = upload(api, fleet_csv())
        assert answer.status_code == 201
        assert answer.json()["status"] == "inspecting"
        assert answer.json()["schema"] is None
        location = answer.headers["location"]
        is_problem(api.client.get(f"{location}/report"), 409, "dataset_not_ready")
        assert becomes(api, location, "ready")["schema"]["series_count"] == 3


def test_a_file_found_bad_after_the_answer_stays_as_rejected_with_the_reason(
    sqlite_url: str, tmp_path: Path
) -> None:
    settings = make_settings(tmp_path, database_url=sqlite_url, inspection_wait_seconds=0.01)
    with running(settings) as started:
        api = started.signed_in()
        answer = upload(api, BAD_FILES["no time column"][1])
        assert answer.status_code == 201
        dataset = becomes(api, answer.headers["location"], "rejected")
        assert dataset["problem"]["code"] == "no_time_column"
        refused = api.client.post("/v1/jobs", json={"dataset_id": dataset["id"]})
        assert refused.status_code in {409, 422}
        assert refused.json()["errors"][0]["pointer"] == "/dataset_id"


def becomes(api: RunningApi, location: str, status: str) -> dict[str, Any]:
    """The dataset once it has the status; the child takes a second or so."""
    for _ in range(3000):
        dataset: dict[str, Any] = api.client.get(location).json()
        if dataset["status"] != "inspecting":
            break
    assert dataset["status"] == status
    return dataset


def test_two_uploads_of_the_same_bad_bytes_hear_the_same_and_leave_nothing(api: RunningApi) -> None:
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(upload(api, BAD_FILES["no time column"][1])))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [422] * 3
    assert api.leftovers() == NOTHING


def test_a_storage_that_breaks_while_it_takes_an_upload_leaves_nothing(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_off(_storage: ObjectStorage, _key: str, chunks: Any, _max_bytes: int) -> None:
        async for _ in chunks:
            raise StorageUnavailable("The object storage does not answer as it should.")

    monkeypatch.setattr(ObjectStorage, "put_stream_async", break_off)
    answer = upload(api, fleet_csv())
    is_problem(answer, 503, "storage_unavailable")
    assert answer.headers["retry-after"]
    assert api.leftovers() == NOTHING


def test_more_transfers_than_allowed_are_turned_away(sqlite_url: str, tmp_path: Path) -> None:
    with running(make_settings(tmp_path, database_url=sqlite_url, max_streams=1)) as started:
        api = started.signed_in()
        with started.app.state.resources.transfers.taken():
            answer = upload(api, fleet_csv())
            is_problem(answer, 503, "overloaded")
            assert answer.headers["retry-after"]
        assert upload(api, fleet_csv()).status_code == 201


def test_the_report_tells_what_is_odd(api: RunningApi) -> None:
    lines = fleet_csv(servers=2).splitlines(keepends=True)
    del lines[20:24]
    dataset = upload(api, b"".join(lines)).json()
    report = api.client.get(f"/v1/datasets/{dataset['id']}/report").json()
    assert report["dataset_id"] == dataset["id"]
    assert report["row_count"] == len(lines) - 1
    assert "gaps" in {finding["code"] for finding in report["findings"]}


def test_a_bad_line_of_an_export_is_shown_with_its_place(api: RunningApi) -> None:
    line = b"cpu,host=a usage_idle=%s 176722560%d000000000\n"
    data = b"".join(line % (b"1.5", place) for place in range(5)) + line % (b"fast", 9)
    problem = is_problem(upload(api, data, format="influx"), 422, "invalid_dataset")
    assert problem["errors"][0]["column"] == "cpu_usage_idle"
    assert problem["errors"][0]["row"] == 6
    assert api.leftovers() == NOTHING


@pytest.mark.parametrize("format_", ["prometheus", "victoriametrics"])
def test_a_bomb_of_nesting_is_refused_in_time(api: RunningApi, format_: str) -> None:
    data = b'{"metric":{"__name__":"up"},"values":' + b"[" * 2_000_000
    is_problem(upload(api, data, format=format_), 422, "invalid_dataset")
    assert api.leftovers() == NOTHING
