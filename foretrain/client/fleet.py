"""Calls about what there is to train on, and what waits for it."""

from __future__ import annotations

from typing import Any

from core.jobs.schemas import Queues
from core.workers.schemas import Capabilities
from foretrain.client.exchange import fetch, fetch_as, parsed
from foretrain.client.wire import Request, Wire


async def get_capabilities(wire: Wire) -> Capabilities:
    """Precisions, accelerators and devices that a job can ask for and get now."""
    return await fetch_as(wire, Capabilities, Request("GET", "/v1/capabilities"))


async def get_queues(wire: Wire) -> Queues:
    """Jobs and workers by queue, over all tenants; a job's own place is in the job."""
    return await fetch_as(wire, Queues, Request("GET", "/v1/queue"))


async def get_spec_schema(wire: Wire) -> dict[str, Any]:
    """The JSON Schema of `training`."""
    return parsed((await fetch(wire, Request("GET", "/v1/spec/schema"))).content)
