"""Datasets that are there: listed, and deleted unless a job needs them."""

from __future__ import annotations

from typing import Any

from core.datasets.lifecycle import DatasetStatus
from tests.api.conftest import RunningApi, fleet_csv
from tests.api.test_datasets import upload
from tests.api.test_problems import is_problem
from tests.factories import make_dataset, make_job, make_tenant


def test_a_deleted_dataset_is_gone_with_its_bytes(any_api: RunningApi) -> None:
    location = upload(any_api, fleet_csv()).headers["location"]
    answer = any_api.client.delete(location)
    assert answer.status_code == 204
    assert answer.content == b""
    is_problem(any_api.client.get(location), 404, "not_found")
    is_problem(any_api.client.delete(location), 404, "not_found")
    assert any_api.client.get("/v1/datasets").json()["items"] == []
    assert list(any_api.storage.list("tenants")) == []
    assert upload(any_api, fleet_csv()).status_code == 201


def test_a_dataset_that_a_job_needs_is_not_deleted(any_api: RunningApi) -> None:
    with any_api.db.sessions.begin() as session:
        tenant = make_tenant(session)
        dataset = make_dataset(session, tenant)
        job = make_job(session, tenant=tenant, dataset=dataset)
    is_problem(any_api.client.delete(f"/v1/datasets/{dataset.id}"), 409, "in_use")
    any_api.client.post(f"/v1/jobs/{job.id}/cancel")
    assert any_api.client.delete(f"/v1/datasets/{dataset.id}").status_code == 204


def test_datasets_come_page_by_page_newest_first(any_api: RunningApi) -> None:
    with any_api.db.sessions.begin() as session:
        made = [make_dataset(session, make_tenant(session), DatasetStatus.READY).id for _ in range(5)]
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    for _ in range(3):
        page = any_api.client.get("/v1/datasets", params={"limit": 2, **cursor}).json()
        seen += [item["id"] for item in page["items"]]
        cursor = {"cursor": page["next_cursor"]}
    assert page["next_cursor"] is None
    assert sorted(seen) == sorted(made)
    assert seen == sorted(made, reverse=True)
