"""A typed client of the service. Needs an HTTP client and pydantic: no server's packages, no torch.

`Client` answers, `AsyncClient` is awaited; their calls are the same, and written once. Calls raise
ServiceProblem for a refusal and ServiceUnreachable for no answer; what they repeat by themselves does no harm
twice. Whatever is listed is read page by page, as one asks for more.
"""

from __future__ import annotations

from typing import Self

import httpx2

from foretrain.client import datasets, downloads, fleet, following, jobs, keys, webhooks
from foretrain.client.downloads import Download
from foretrain.client.offers import Awaiting, Blocking, Listing, Offer
from foretrain.client.problems import (
    AnswerNotUnderstood,
    ChecksumMismatch,
    NotEndedInTime,
    ServiceProblem,
    ServiceUnreachable,
)
from foretrain.client.wire import AwaitingWire, BlockingWire

__all__ = [
    "AnswerNotUnderstood",
    "AsyncClient",
    "ChecksumMismatch",
    "Client",
    "Download",
    "NotEndedInTime",
    "ServiceProblem",
    "ServiceUnreachable",
]


class _Calls:
    """All that either client offers."""

    upload_dataset = Offer(datasets.upload_dataset)
    pull_dataset = Offer(datasets.pull_dataset)
    get_dataset = Offer(datasets.get_dataset)
    await_dataset = Offer(datasets.await_dataset)
    list_datasets = Listing(datasets.list_datasets)
    get_dataset_report = Offer(datasets.get_dataset_report)
    delete_dataset = Offer(datasets.delete_dataset)

    submit = Offer(jobs.submit)
    validate = Offer(jobs.validate)
    estimate = Offer(jobs.estimate)
    list_jobs = Listing(jobs.list_jobs)
    get_job = Offer(jobs.get_job)
    change_job = Offer(jobs.change_job)
    delete_job = Offer(jobs.delete_job)
    cancel = Offer(jobs.cancel)
    pause = Offer(jobs.pause)
    resume = Offer(jobs.resume)
    retry = Offer(jobs.retry)

    wait = Offer(following.wait)
    watch = Listing(following.watch)
    follow_events = Listing(following.follow_events)
    list_attempts = Listing(jobs.list_attempts)
    list_events = Listing(jobs.list_events)
    read_log = Listing(jobs.read_log)
    read_metrics = Offer(jobs.read_metrics)

    get_result = Offer(jobs.get_result)
    list_artifacts = Listing(jobs.list_artifacts)
    download = Offer(downloads.download)

    create_api_key = Offer(keys.create_api_key)
    list_api_keys = Listing(keys.list_api_keys)
    get_api_key = Offer(keys.get_api_key)
    revoke_api_key = Offer(keys.revoke_api_key)

    create_webhook = Offer(webhooks.create_webhook)
    list_webhooks = Listing(webhooks.list_webhooks)
    get_webhook = Offer(webhooks.get_webhook)
    change_webhook = Offer(webhooks.change_webhook)
    delete_webhook = Offer(webhooks.delete_webhook)
    rotate_webhook_secret = Offer(webhooks.rotate_webhook_secret)
    test_webhook = Offer(webhooks.test_webhook)
    list_deliveries = Listing(webhooks.list_deliveries)
    get_delivery = Offer(webhooks.get_delivery)
    replay_delivery = Offer(webhooks.replay_delivery)

    get_capabilities = Offer(fleet.get_capabilities)
    get_queues = Offer(fleet.get_queues)
    get_spec_schema = Offer(fleet.get_spec_schema)


class Client(_Calls, Blocking):
    """One service, one key; every call returns when it is done."""

    def __init__(self, url: str, api_key: str, *, timeout_seconds: float = 60.0) -> None:
        self._wire = BlockingWire(
            httpx2.Client(base_url=url, headers=_headers(api_key), timeout=timeout_seconds)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives its connections back."""
        self._wire.http.close()


class AsyncClient(_Calls, Awaiting):
    """One service, one key; every call is awaited, every list read with `async for`. asyncio or trio."""

    def __init__(self, url: str, api_key: str, *, timeout_seconds: float = 60.0) -> None:
        self._wire = AwaitingWire(
            httpx2.AsyncClient(base_url=url, headers=_headers(api_key), timeout=timeout_seconds)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Gives its connections back."""
        await self._wire.http.aclose()


def _headers(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"}
