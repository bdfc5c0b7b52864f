"""The pages. Each is a frame for its script, which asks the API with the session's cookie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import URL

from api.dependencies import Service
from api.pages.assets import load_assets
from api.session_cookie import signed_in
from core.access.service import authenticate
from core.errors import NotFound, Unauthenticated

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_FOR_GOOD = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class PageFrame:
    """A page's title, its script in static/, and the entry of the menu it belongs to."""

    title: str
    script: str
    section: str
    plots: bool = False


FRAMES = {
    "/jobs": PageFrame("Jobs", "jobs.js", "jobs"),
    "/jobs/new": PageFrame("New job", "new_job.js", "jobs"),
    "/jobs/compare": PageFrame("Compare jobs", "compare.js", "jobs", plots=True),
    "/jobs/{job_id}": PageFrame("Job", "job.js", "jobs", plots=True),
    "/jobs/{job_id}/result": PageFrame("Result", "result.js", "jobs", plots=True),
    "/datasets": PageFrame("Datasets", "datasets.js", "datasets"),
    "/datasets/{dataset_id}": PageFrame("Dataset", "dataset.js", "datasets", plots=True),
    "/keys": PageFrame("API keys", "keys.js", "keys"),
    "/webhooks": PageFrame("Webhooks", "webhooks.js", "webhooks"),
}

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _is_signed_in(request: Request, resources: Service) -> bool:
    """With a key that is usable now: one that was revoked ends its sessions."""
    session = signed_in(request)
    if session is None:
        return False
    try:
        authenticate(resources.db, session)
    except Unauthenticated:
        return False
    return True


IsSignedIn = Annotated[bool, Depends(_is_signed_in)]


@router.get("/")
def open_front_page() -> Response:
    """The jobs."""
    return RedirectResponse("/jobs", 303)


@router.get("/login")
def show_login() -> Response:
    """Takes a key and leads to the page that was asked for."""
    return _page("login.html.jinja", title="Sign in")


def _show_page(request: Request, is_signed_in: IsSignedIn) -> Response:
    frame = FRAMES[request.scope["route"].path]
    if not is_signed_in:
        wanted = URL(path=request.url.path, query=request.url.query)
        return RedirectResponse(URL("/login").include_query_params(next=str(wanted)), 303)
    return _page("page.html.jinja", title=frame.title, frame=frame, ids=request.path_params)


for _path in FRAMES:
    router.add_api_route(_path, _show_page, methods=["GET"], name=_path)


def _page(template: str, **content: object) -> Response:
    assets = load_assets()
    html = _templates.get_template(template).render(asset=assets.path, **content)
    return HTMLResponse(html, headers=HEADERS)


@router.get("/static/{digest}/{name}")
def get_asset(request: Request, digest: str, name: str) -> Response:
    """A script or style sheet; of another release there is none."""
    assets = load_assets()
    asset = assets.files.get(name)
    if asset is None or digest != assets.digest:
        raise NotFound("There is no such file.")
    headers = {"Cache-Control": _FOR_GOOD, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            asset.compressed, headers=headers | {"Content-Encoding": "gzip"}, media_type=asset.media_type
        )
    return Response(asset.content, headers=headers, media_type=asset.media_type)
