"""Around every request: whether its caller asks too often, and a note that its key was used."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem_response
from api.resources import Resources
from api.session_cookie import COOKIE
from core.access.rates import WINDOW_SECONDS, Rates
from core.access.secrets import parse_key_text

# Supervisors ask, and must not be told to wait for what somebody else at their address has done.
_NEVER_LIMITED = {"/livez", "/readyz"}
_MAX_KNOWN_KEYS = 10_000
_UNAUTHORIZED = 401


class Callers:
    """Limits the requests of each key, and the bad keys that come from each address.

    A key's requests are counted by its hash before anything is looked up: nobody can use up a key's share
    without the key. From an address that has sent too many bad keys no other is tried, but for those that
    were good in this process before: guessing costs no look-up, and who shares the address with a guesser
    goes on working.
    """

    def __init__(self, app: ASGIApp, per_minute: int | None, failures_per_minute: int | None) -> None:
        self._app = app
        self._per_minute = per_minute
        self._failures_per_minute = failures_per_minute
        self._known: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _NEVER_LIMITED:
            await self._app(scope, receive, send)
            return
        resources: Resources = scope["app"].state.resources
        request = Request(scope)
        rates, key = resources.rates, _key_of(request, resources)
        place = _place_of(scope["state"]["address"]) if _tries_a_key(request) else None
        fields: list[tuple[str, str]] = []
        if self._is_shut_out(rates, key, place):
            detail = "Too many requests with bad keys came from this address."
            await self._refuse(scope, receive, send, rates, detail, self._failures(rates, place))
            return
        if key is not None and self._per_minute is not None:
            count = rates.add(f"key:{key}")
            fields = _limit_fields("default", self._per_minute, count, rates.seconds_left)
            if count > self._per_minute:
                detail = f"This key has made its {self._per_minute} requests of this minute."
                await self._refuse(scope, receive, send, rates, detail, fields)
                return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = self._note(resources, scope, message["status"], key, place)
                headers = MutableHeaders(scope=message)
                for name, value in more or fields:
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, watch)

    def _is_shut_out(self, rates: Rates, key: str | None, place: str | None) -> bool:
        if place is None or self._failures_per_minute is None or key in self._known:
            return False
        return rates.count(place) >= self._failures_per_minute

    def _failures(self, rates: Rates, place: str | None) -> list[tuple[str, str]]:
        if place is None or self._failures_per_minute is None:
            return []
        return _limit_fields("failures", self._failures_per_minute, rates.count(place), rates.seconds_left)

    def _note(
        self, resources: Resources, scope: Scope, status: int, key: str | None, place: str | None
    ) -> list[tuple[str, str]]:
        """What the answer shows of its caller; the headers of one that was not let in."""
        key_id = scope["state"].get("key_id")
        if key_id is not None:
            resources.key_use.note(key_id)
            if key is not None:
                if len(self._known) >= _MAX_KNOWN_KEYS:
                    self._known.clear()
                self._known.add(key)
        elif status == _UNAUTHORIZED:
            self._known.discard(key or "")
            if place is not None:
                resources.rates.add(place)
            return self._failures(resources.rates, place)
        return []

    async def _refuse(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        rates: Rates,
        detail: str,
        fields: Iterable[tuple[str, str]],
    ) -> None:
        headers = {"Retry-After": str(rates.seconds_left), **dict(fields)}
        await problem_response(scope, "rate_limited", detail, headers=headers)(scope, receive, send)


def _tries_a_key(request: Request) -> bool:
    """Whether the answer tells if a key is good; a session's cookie is known without the database."""
    is_sign_in = request.method == "POST" and request.url.path == "/session"
    return is_sign_in or "authorization" in request.headers


def _key_of(request: Request, resources: Resources) -> str | None:
    """A name for the key that a request carries, whether there is such a key or not; None without one.

    On the pages, for whoever has signed in with a key, one beside the key's own.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    text = parse_key_text(token.strip()) if scheme.lower() == "bearer" else None
    if text is not None:
        return text.sha256[:32]
    ticket = request.cookies.get(COOKIE)
    session = None if ticket is None else resources.tickets.read(ticket)
    return None if session is None else f"page:{session.public_id}"


def _place_of(address: str | None) -> str | None:
    """What counts as one address: of IPv6 the /64 that a single machine can move in."""
    if address is None:
        return None
    parsed = ip_address(address)
    return (
        f"from:{ip_network((address, 64), strict=False)}"
        if isinstance(parsed, IPv6Address)
        else f"from:{address}"
    )


def _limit_fields(name: str, quota: int, count: int, seconds_left: int) -> list[tuple[str, str]]:
    """As draft-ietf-httpapi-ratelimit-headers has them."""
    return [
        ("RateLimit-Policy", f'"{name}";q={quota};w={WINDOW_SECONDS}'),
        ("RateLimit", f'"{name}";r={max(0, quota - count)};t={seconds_left}'),
    ]
