"""Every operation an application serves, so that a test of all of them cannot forget a new one."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

PUBLIC = {"/livez", "/readyz", "/openapi.json", "/v1/spec/schema", "/v1/errors/{code}"}


@dataclass(frozen=True)
class Operation:
    method: str
    path: str

    def url(self, *, job_id: str = "job_" + "0" * 32, dataset_id: str = "ds_" + "0" * 32) -> str:
        """The path with its parameters filled in."""
        return self.path.format(job_id=job_id, dataset_id=dataset_id, name="model.ckpt", code="in_use")

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
