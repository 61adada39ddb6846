"""The door: whom a request must be from, what its key may do, and how often it may ask."""

from __future__ import annotations

import ipaddress
import math
import re

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from xdm.serving.keys import Key, KeyRing
from xdm.serving.observe import record_of
from xdm.serving.problems import problem
from xdm.serving.rates import Rate, RateLimiter, parse_rate
from xdm.serving.telemetry import Telemetry

OPEN_PATHS = frozenset(["/health/live", "/health/ready", "/openapi.json", "/docs"])
# (method, first step of the path below /v1): the scope. What is not listed needs "admin", also what does not exist: a
# path that is added later and forgotten here is closed.
SCOPES = {
    ("POST", "recommend"): "read",
    ("POST", "similar"): "read",
    ("GET", "users"): "read",
    ("DELETE", "users"): "write",
    ("POST", "events"): "write",
}
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]+))(?::\d{1,5})?")
NOBODY = ""  # whose requests are counted where no keys are asked for


class Guard:
    """ASGI middleware that lets a request pass or refuses it with a problem document, before its body is read.

    With keys a request carries ``Authorization: Bearer KEY``: 401 without a valid one, 403 where its scopes lack what
    the path needs, 429 above its rate. Without keys (on a loopback address only) the Host header must name a loopback
    address: else a web page could make a browser ask in its name, by a host name that it lets resolve to 127.0.0.1.

    Rates are counted in memory by each worker, for its share: the rate divided by the number of workers. The kernel spreads
    connections, not requests, so a client with few connections may be refused somewhat below its rate.
    """

    def __init__(
        self,
        app: ASGIApp,
        telemetry: Telemetry,
        *,
        keys: KeyRing | None = None,
        rate_limit: str | None = None,
        workers: int = 1,
        limiter: RateLimiter | None = None,
    ) -> None:
        self.app = app
        self._telemetry = telemetry
        self._keys = keys
        self._rate_limit = rate_limit
        self._workers = workers
        self._shares: dict[str, Rate] = {}
        self._limiter = limiter or RateLimiter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served, not {scope['type']}")
        refusal = self._refusal(scope)
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that may not pass."""
        headers = scope["headers"]
        if self._keys is None:
            if not _names_loopback(_one(headers, b"host")):
                return self._refuse("host", 403, HOST_DETAIL)
            return self._too_often(NOBODY, self._rate_limit) if scope["path"] not in OPEN_PATHS else None
        if scope["path"] in OPEN_PATHS:
            return None
        token = _bearer(_one(headers, b"authorization"))
        if token is None:
            detail = "this needs a key; send it with the header Authorization: Bearer KEY"
            return self._refuse("key", 401, detail, {"WWW-Authenticate": 'Bearer realm="xdm"'})
        key = self._keys.find(token)
        if key is None:
            detail = "the key is not valid (any more); ask whoever runs the service for one"
            return self._refuse("key", 401, detail, {"WWW-Authenticate": 'Bearer realm="xdm", error="invalid_token"'})
        record_of(scope).key = key.name
        return self._not_allowed(key, needed_scope(scope["method"], scope["path"])) or self._too_often(
            key.name, key.rate_limit or self._rate_limit
        )

    def _not_allowed(self, key: Key, needed: str) -> Response | None:
        if needed in key.scopes:
            return None
        detail = f"the key {key.name!r} has no scope {needed!r}, which this needs; use one that has it"
        challenge = f'Bearer realm="xdm", error="insufficient_scope", scope="{needed}"'
        return self._refuse("scope", 403, detail, {"WWW-Authenticate": challenge})

    def _too_often(self, name: str, rate_limit: str | None) -> Response | None:
        if rate_limit is None:
            return None
        wait = math.ceil(self._limiter.take(name, self._share(rate_limit)))
        if not wait:
            return None
        detail = f"more requests than the allowed {rate_limit}; wait {wait} s, then send it again"
        return self._refuse("rate", 429, detail, {"Retry-After": str(wait)})

    def _share(self, rate_limit: str) -> Rate:
        """This worker's share of the rate, at least one request."""
        if rate_limit not in self._shares:
            whole = parse_rate(rate_limit)
            self._shares[rate_limit] = Rate(math.ceil(whole.amount / self._workers), whole.seconds)
        return self._shares[rate_limit]

    def _refuse(self, reason: str, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
        self._telemetry.refused(reason)
        return problem(status, detail, headers=headers)


HOST_DETAIL = (
    "without keys this service answers only requests whose Host header names a loopback address, as in 127.0.0.1 or "
    "localhost; start it with --keys, or let the proxy before it send such a Host"
)


def needed_scope(method: str, path: str) -> str:
    """The scope that a request needs."""
    if path == "/metrics" and method == "GET":
        return "read"
    steps = path.split("/", 3)
    if len(steps) < 3 or steps[:2] != ["", "v1"]:
        return "admin"
    return SCOPES.get((method, steps[2]), "admin")


def _one(headers: list[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    """The header's value; nothing where it is absent or stands there twice, which is somebody's trick."""
    found = [value for name, value in headers if name == wanted]
    return found[0] if len(found) == 1 else b""


def _bearer(authorization: bytes) -> bytes | None:
    scheme, _, token = authorization.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" and token.strip() else None


def _names_loopback(host: bytes) -> bool:
    """Whether a Host header names a loopback address, with or without a port."""
    found = HOST.fullmatch(host.decode("latin-1").lower())
    name = (found[1] or found[2]) if found else ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
