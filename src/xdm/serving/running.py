"""The server process: what it opens, where it listens, how it stops."""

from __future__ import annotations

import functools
import ipaddress
import json
import logging
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import click
import uvicorn

from xdm.log.store import Store
from xdm.retrieval.types import Recommender
from xdm.schema import BundleError, UsageError
from xdm.serving.app import create_app
from xdm.serving.history import History
from xdm.serving.service import Service, model_info
from xdm.serving.state import Durability, EventState

STOP_SECONDS = 10  # running requests get this long to end after a signal to stop


class ServedRecommender(Recommender, Protocol):
    """A recommender that says which model it is: a bundle."""

    @property
    def manifest(self) -> dict[str, Any]: ...


def run_service(
    recommender: ServedRecommender,
    listener: socket.socket,
    *,
    state: Path,
    history: Path | None = None,
    durability: Durability = "full",
) -> None:
    """Serve ``recommender`` at ``listener`` until SIGTERM or SIGINT; live events are kept in the file ``state``.

    Raises:
        BundleError: a control, which does not read its users' own skips.
        StoreError, StateError: what is to be served cannot be opened.
    """
    source = recommender.manifest.get("unclicked_source", "own")
    if source != "own":
        raise BundleError(
            f"the bundle was trained with data.unclicked_source={source}, a control for comparisons and not for people; "
            "train it with data.unclicked_source=own"
        )
    past = History(Store(history), recommender.catalogue) if history else None
    event_state = EventState(state, durability=durability)
    try:
        service = Service(recommender, state=event_state, history=past, model=model_info(recommender.manifest))
        service.warm_up()
        serve_until_signal(service, listener, state)
    finally:
        event_state.close()
    click.echo("stopped")


def listen(host: str, port: int, *, allow_public: bool) -> socket.socket:
    """A listening socket on a loopback address, or on any with ``allow_public``.

    Raises:
        UsageError: the address is unknown, public without ``allow_public``, or taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"--host {host!r} is no address of this machine ({error}); 127.0.0.1 always is") from None
    family, _, _, _, address = found[0]
    if not allow_public and not all(ipaddress.ip_address(str(one[4][0])).is_loopback for one in found):
        raise UsageError(
            f"--host {host} can be reached from other machines, and this version asks nobody for a key (a later one "
            "will): listen on 127.0.0.1 behind a proxy that does, or pass --allow-public if the network is closed"
        )
    try:
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        reason = f"cannot listen on {host} port {port} ({error.strerror})"
        raise UsageError(f"{reason}; choose another --port, or 0 for a free one") from None


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def announce(service: Service, url: str, state: Path) -> None:
    health = service.health()
    users = service.recommender.users
    user = users.ids[0].as_py() if len(users) else "someone"
    question = json.dumps({"user_id": user, "k": 10}, ensure_ascii=False).replace("'", "'\\''")
    click.echo(f"{health.model.name} ({health.items:,} items, {health.users:,} users) answers at {url}")
    click.echo(f"live events: {state} ({health.events_stored:,} stored); documentation: {url}/docs; stop with Ctrl-C")
    click.echo("try:")
    click.echo(f"  curl {url}/v1/recommend -H 'Content-Type: application/json' -d '{question}'")


class _AnnouncingServer(uvicorn.Server):
    """Says where it is only once it takes signals and requests, so that whoever reads that may send either."""

    def __init__(self, config: uvicorn.Config, announcement: Callable[[], None]) -> None:
        super().__init__(config)
        self._announcement = announcement

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announcement()


def serve_until_signal(service: Service, listener: socket.socket, state: Path) -> None:
    """Run the server; SIGTERM and SIGINT let running requests end, then return."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = uvicorn.Config(
        create_app(service), access_log=False, log_config=None, timeout_graceful_shutdown=STOP_SECONDS, lifespan="off"
    )
    server = _AnnouncingServer(config, functools.partial(announce, service, url_of(listener), state))
    # uvicorn raises the signal again once it has stopped, which by default would end the process as if killed.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
