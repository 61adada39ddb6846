"""The server process: where it listens, its workers, how it stops."""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
import uvicorn

from xdm.schema import UsageError
from xdm.serving.keys import KeyRing
from xdm.serving.logs import configure_logging
from xdm.serving.protocol import BoundedConfig
from xdm.serving.settings import ServeSettings

if TYPE_CHECKING:  # what is heavy is imported by the worker that needs it
    from starlette.types import ASGIApp

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
BACKLOG = 2048
HEALTHCHECK_SECONDS = 30  # a worker that is silent for so long is replaced


def run_service(settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: no bundle is set, or the keys cannot be read.
        UsageError: the address is unknown, taken, or open to others without keys.
        BundleError, StoreError, StateError: what is to be served cannot be opened.
    """
    keys = KeyRing(settings.keys) if settings.keys else None
    # The address first: it is the cheapest to be wrong.
    with listen(settings.host, settings.port, has_keys=keys is not None) as listener:
        manifest = check_bundle(settings)
        configure_logging(settings.log_format, access_log=settings.access_log)
        hello = functools.partial(announce, settings, manifest, url_of(listener))
        if settings.workers == 1:
            run_one(settings, listener, hello)
        else:
            from xdm.serving.workers import run_workers

            run_workers(settings, listener, hello)
    click.echo("stopped")


def check_bundle(settings: ServeSettings) -> dict[str, Any]:
    """The manifest of the bundle, which is one for people.

    Raises:
        ConfigError: no bundle is set.
        BundleError: it is no bundle, or a control, which does not read its users' own skips.
    """
    from xdm.bundle.reading import read_manifest
    from xdm.serving.opening import refuse_control

    manifest = read_manifest(settings.bundle_path)
    refuse_control(manifest.get("unclicked_source", "own"))
    return manifest


# --- the address --------------------------------------------------------------------------------------------------------
def listen(host: str, port: int, *, has_keys: bool) -> socket.socket:
    """A listening socket on a loopback address, or on any where keys are asked for.

    Raises:
        UsageError: the address is unknown, open to others without keys, or taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"--host {host!r} is no address of this machine ({error}); 127.0.0.1 always is") from None
    family, _, _, _, address = found[0]
    if not has_keys and not all(ipaddress.ip_address(str(one[4][0])).is_loopback for one in found):
        raise UsageError(
            f"--host {host} can be reached from other machines, and no keys are set: make one with "
            "`xdm keys new --file keys.yaml --name NAME --scopes read,write` and pass --keys keys.yaml, or listen on 127.0.0.1"
        )
    try:
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        reason = f"cannot listen on {host} port {port} ({error.strerror})"
        raise UsageError(f"{reason}; choose another --port, or 0 for a free one") from None


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def announce(settings: ServeSettings, manifest: dict[str, Any], url: str) -> None:
    """Say where the service is, once it takes signals and requests, so that whoever reads that may send either."""
    workers = f"{settings.workers} workers" if settings.workers > 1 else "1 worker"
    key = " -H 'Authorization: Bearer KEY'" if settings.keys else ""
    question = json.dumps({"user_id": "someone", "k": 10})
    click.echo(f"{manifest.get('model')} from {settings.bundle} answers at {url} ({workers})")
    click.echo(f"live events: {_without_password(settings.state)}; documentation: {url}/docs; stop with Ctrl-C")
    click.echo("try:")
    click.echo(f"  curl {url}/v1/recommend{key} -H 'Content-Type: application/json' -d '{question}'")
    sys.stdout.flush()


def _without_password(state: str) -> str:
    scheme, separator, rest = state.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


# --- one process --------------------------------------------------------------------------------------------------------
class _AnnouncingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, announcement: Callable[[], None]) -> None:
        super().__init__(config)
        self._announcement = announcement

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announcement()


def run_one(settings: ServeSettings, listener: socket.socket, announcement: Callable[[], None]) -> None:
    """Serve from this process."""
    os.environ.pop(METRICS_FOLDER, None)  # the metrics of one process are in its memory
    server = _AnnouncingServer(server_config(settings, build_app(settings)), announcement)
    # uvicorn raises the signal again once it has stopped, which by default would end the process as if killed.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def server_config(settings: ServeSettings, app: Any, *, factory: bool = False) -> BoundedConfig:
    """uvicorn's configuration; ``app`` is the application, or with ``factory`` what makes it."""
    return BoundedConfig(
        app,
        factory=factory,
        request_timeout_s=settings.request_timeout_s,
        max_connections=settings.max_connections,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here looks at addresses
        server_header=False,
        workers=settings.workers,
        timeout_graceful_shutdown=settings.drain_seconds,  # it waits for fractions as well
        timeout_worker_healthcheck=HEALTHCHECK_SECONDS,
    )


# --- the application -----------------------------------------------------------------------------------------------------
def build_app(settings: ServeSettings) -> ASGIApp:
    """The whole application of one worker: the door around the API around the service."""
    from xdm.serving.app import create_app
    from xdm.serving.guard import Guard
    from xdm.serving.observe import Observe
    from xdm.serving.opening import open_service
    from xdm.serving.stopping import Stopping
    from xdm.serving.telemetry import Telemetry

    telemetry = Telemetry()
    app = create_app(open_service(settings, telemetry), settings)
    keys = KeyRing(settings.keys) if settings.keys else None
    guard = Guard(app, telemetry, keys=keys, rate_limit=settings.rate_limit, workers=settings.workers)
    return Observe(Stopping(guard, settings.stop_delay_seconds), telemetry)
