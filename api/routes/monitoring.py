"""What Prometheus scrapes."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr

from api.dependencies import Service
from api.openapi import answers
from api.strict_route import strict_router
from core.errors import Unauthenticated

router = strict_router("health")
_EXPOSITION = {
    "description": "Samples in Prometheus' text format.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}


@router.get(
    "/metrics",
    response_class=Response,
    operation_id="scrape_metrics",
    summary="Read the service's metrics",
    responses=answers("unauthenticated", with_key=False, ok_200=_EXPOSITION),
)
def scrape_metrics(request: Request, resources: Service) -> Response:
    """For Prometheus: what the database knows, the same from every replica, and what this process counts.

    Asks for `Authorization: Bearer` with `FORETRAIN_METRICS_TOKEN`. Where no token is set, only programs on
    this very machine may read. API keys do not open it: the numbers are those of all tenants.
    """
    _require_reader(request, resources.settings.metrics_token)
    return Response(generate_latest(resources.exported), media_type=CONTENT_TYPE_LATEST)


def _require_reader(request: Request, token: SecretStr | None) -> None:
    """Raises Unauthenticated."""
    if token is None:
        if not _is_local(request):
            raise Unauthenticated(
                "No FORETRAIN_METRICS_TOKEN is set: metrics are for programs on this machine alone."
            )
        return
    _, _, sent = request.headers.get("authorization", "").partition(" ")
    if not hmac.compare_digest(sent.encode(), token.get_secret_value().encode()):
        raise Unauthenticated("Send FORETRAIN_METRICS_TOKEN: Authorization: Bearer <token>.")


def _is_local(request: Request) -> bool:
    # Behind a proxy on the same machine every request comes from there; proxies say so.
    if request.client is None or {"forwarded", "x-forwarded-for"} & set(request.headers):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False
