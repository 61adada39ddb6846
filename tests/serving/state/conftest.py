"""Each kind of state on a place of its own, and a real Redis server."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.state.redis_server import RedisServer
from xdm.serving.state import State, open_state

HINT = "no redis-server on this machine: install the Debian package redis-server (XDM_REQUIRE_REDIS=1 makes this a failure)"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory) -> Iterator[RedisServer]:
    """A Redis server that writes its log on every command, for the whole run of the tests."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    if not server.installed:
        if os.environ.get("XDM_REQUIRE_REDIS") == "1":
            pytest.fail(HINT)
        pytest.skip(HINT)
    server.start()
    yield server
    server.stop()


class Places:
    """Where states of one kind are: ``new()`` is the URL of an empty one, and ``open`` opens one."""

    def __init__(self, kind: str, folder: Path, server: RedisServer | None) -> None:
        self.kind = kind
        self._folder = folder
        self._server = server
        self._numbers = itertools.count()
        self._opened: list[State] = []

    def new(self) -> str:
        number = next(self._numbers)
        if self._server is not None:
            return f"{self._server.url}?prefix={self._folder.name}-{number}"
        return f"sqlite:{self._folder / f'{number}.sqlite'}"

    def open(self, url: str | None = None) -> State:
        state = open_state(url or self.new(), "normal")
        self._opened.append(state)
        return state

    def close(self) -> None:
        """Close all that is open; a property's examples do it one by one."""
        while self._opened:
            self._opened.pop().close()


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def places(request, tmp_path_factory) -> Iterator[Places]:
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    found = Places(request.param, tmp_path_factory.mktemp("state"), server)
    yield found
    found.close()
