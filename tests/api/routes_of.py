"""Every operation an application serves, so that a test of all of them cannot forget a new one."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from api.pages import routes as pages
from api.routes import session

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
# For browsers: tests/api/test_pages.py, tests/api/test_session.py.
FOR_BROWSERS = {route.path for route in iter_route_contexts([*pages.router.routes, *session.router.routes])}


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
    """Those for programs, by path and method."""
    served = {
        Operation(method, route.path or "")
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if route.path not in FOR_BROWSERS
    }
    assert len(served) >= 20
    return sorted(served, key=lambda operation: (operation.path, operation.method))
