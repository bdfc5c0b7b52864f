"""The cookie of who has signed in on the pages, for EventSource and links, which can send no header."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request, Response

from core.access.sessions import SignedIn
from core.errors import Forbidden

COOKIE = "foretrain_session"
_READING = {"GET", "HEAD"}


def signed_in(request: Request) -> SignedIn | None:
    """Whose session the request comes from; None without one. Raises Forbidden for a write from elsewhere."""
    ticket = request.cookies.get(COOKIE)
    session = None if ticket is None else request.app.state.resources.tickets.read(ticket)
    if session is not None and request.method not in _READING:
        require_same_origin(request)
    return session


def require_same_origin(request: Request) -> None:
    """Raises Forbidden unless a page of ours has sent the request: a browser names the page's origin.

    The scheme is left out: behind a proxy that ends TLS it is another one here.
    """
    origin = urlsplit(request.headers.get("origin", ""))
    if not origin.netloc or origin.netloc != request.headers.get("host"):
        raise Forbidden("With a session's cookie, only this service's own pages may write.")


def give_cookie(request: Request, response: Response, ticket: str, seconds: int) -> None:
    """For this host alone, unreadable for scripts, never sent by another site's page."""
    response.set_cookie(
        COOKIE,
        ticket,
        max_age=seconds,
        path="/",
        httponly=True,
        samesite="strict",
        secure=_is_https(request),
    )


def take_cookie(request: Request, response: Response) -> None:
    """The end of the session."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=_is_https(request))


def _is_https(request: Request) -> bool:
    """As the browser sees it. A false header only costs its sender the cookie."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
