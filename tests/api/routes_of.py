"""Every operation an application serves, so that a test of all of them cannot forget a new one."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

PUBLIC = {"/livez", "/readyz", "/openapi.json", "/v1/spec/schema", "/v1/errors/{code}"}
# What fills in a path where a test has no thing of its own.
NOBODYS = {
    "job_id": "job_" + "0" * 32,
    "dataset_id": "ds_" + "0" * 32,
    "webhook_id": "wh_" + "0" * 32,
    "delivery_id": "dlv_" + "0" * 32,
    "key_id": "key_" + "0" * 32,
    "name": "model.ckpt",
    "code": "in_use",
}


@dataclass(frozen=True)
class Operation:
    method: str
    path: str

    def url(self, **ids: str) -> str:
        """The path with its parameters filled in: with `ids`, and with names that nothing has."""
        return self.path.format_map(NOBODYS | ids)

    @property
    def is_public(self) -> bool:
        return self.path in PUBLIC

    @property
    def is_about_one_thing(self) -> bool:
        return "{" in self.path


def operations_of(app: FastAPI) -> list[Operation]:
    """By path and method."""
    served = {
        Operation(method, route.path or "")
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
    }
    assert len(served) >= 20
    return sorted(served, key=lambda operation: (operation.path, operation.method))
