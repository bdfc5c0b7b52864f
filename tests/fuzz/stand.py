"""The service under test: served over HTTP, with two tenants that have something of everything."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import structlog

from api.problem_codes import PROBLEM_CODES
from core import migrations
from core.access.scopes import Scope
from core.access.service import create_key
from core.datasets.lifecycle import DatasetStatus
from core.jobs import service as jobs
from core.jobs.lifecycle import JobStatus
from core.jobs.schemas import MetricReport
from core.settings import Settings
from core.tables import Dataset, Tenant
from core.webhooks import service as webhooks
from core.webhooks.schemas import WebhookCreate
from tests.api.conftest import RunningApi, fleet_csv, running
from tests.api.prometheus import serving_prometheus
from tests.api.test_artifacts import store
from tests.api.test_over_the_wire import Wire, served
from tests.factories import claim_job, make_dataset, make_job, make_tenant

TENANTS = ("acme", "rival")
RESULT = {"scored_on": "test", "targets": {"cpu_percent": {"verdict": "better"}}}
Ids = dict[str, list[str]]


@dataclass(frozen=True)
class Stand:
    """Where it listens, each tenant's key, and the ids of what each tenant has, by path parameter."""

    port: int
    prometheus_url: str
    keys: dict[str, str]
    ids: dict[str, Ids]


@contextmanager
def serving(folder: Path, copies: int) -> Iterator[Stand]:
    """A fresh service in `folder`; each tenant has `copies` of each thing."""
    # A line for each refusal is of no use here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    url = f"sqlite:///{folder / 'fuzzed.db'}"
    migrations.upgrade(url)
    with serving_prometheus() as prometheus:
        settings = Settings(
            data_dir=folder,
            database_url=url,
            pull_urls=[prometheus.url],
            pull_networks=[ip_network("127.0.0.0/8")],
            max_webhooks=1_000,
            max_api_keys=10_000,
            requests_per_minute=None,
            failures_per_minute=None,
            event_stream_seconds=0.05,
            max_wait_seconds=1,
        )
        with running(settings) as api, served(api.signed_in()) as wire:
            ids = {name: _seed(api, name, copies) for name in TENANTS}
            keys = {name: api.key(tenant=name) for name in TENANTS}
            for name in TENANTS:
                ids[name]["stored_dataset_id"] = [_upload(wire, keys[name])]
            yield Stand(wire.port, prometheus.url, keys, ids)
    structlog.reset_defaults()


def _upload(wire: Wire, key: str) -> str:
    """A dataset whose bytes are really there."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "text/csv"}
    answer = wire.http.post("/v1/datasets", content=fleet_csv(), headers=headers)
    return str(answer.raise_for_status().json()["id"])


def _seed(api: RunningApi, tenant_name: str, copies: int) -> Ids:
    with api.db.sessions.begin() as session:
        tenant = make_tenant(session, tenant_name)
        hooks = [
            webhooks.create(session, tenant.id, WebhookCreate(url="https://hooks.example.org/"), api.settings)
            for _ in range(3)
        ]
        data = [make_dataset(session, tenant, status) for status in DatasetStatus for _ in range(copies)]
        ready = [one for one in data if one.status is DatasetStatus.READY]
        statuses = [status for status in JobStatus for _ in range(copies)]
        keys = [create_key(session, tenant_name, [Scope.JOBS_READ])[0] for _ in range(copies)]
        started = [make_job(session, status, tenant, ready[0]).id for status in statuses]
    ran = [_finished(api, tenant, ready[-1]) for _ in range(copies)]
    with api.db.readers.begin() as session:
        deliveries = webhooks.list_deliveries(session, tenant.id, hooks[0].id, limit=500).items
    return {
        "job_id": started,
        "finished_job_id": ran,
        "dataset_id": [one.id for one in data],
        "ready_dataset_id": [one.id for one in ready],
        "webhook_id": [hook.id for hook in hooks],
        "key_id": [key.id for key in keys],
        "delivery_id": [delivery.id for delivery in deliveries],
        "name": ["model.ckpt", "result.json"],
        "code": list(PROBLEM_CODES),
    }


def _finished(api: RunningApi, tenant: Tenant, dataset: Dataset) -> str:
    """A job with metrics, a log and files."""
    with api.db.sessions.begin() as session:
        run = claim_job(session, make_job(session, tenant=tenant, dataset=dataset))
        reports = [MetricReport(step=step, epoch=0, values={"val_loss": 1.0 / step}) for step in range(1, 50)]
        jobs.record_metrics(session, run.job_id, run.token, reports)
        jobs.record_log_chunk(session, run.job_id, run.token, "reading\ntraining\n")
    store(api, run, "model.ckpt", b"weights" * 100)
    store(api, run, "result.json", json.dumps(RESULT).encode(), "application/json")
    with api.db.sessions.begin() as session:
        jobs.finish(session, run.job_id, run.token, "completed", {"val_loss": 0.5})
    return run.job_id
