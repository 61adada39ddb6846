"""From a URL or a path to an open state."""

from __future__ import annotations

import re

from xdm.serving.errors import StateError
from xdm.serving.state.sqlite import SqliteState
from xdm.serving.state.types import Durability, State

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://")


def open_state(url: str, durability: Durability = "full") -> State:
    """The state at ``url``: ``sqlite:FILE``, the plain path of a file, or ``redis://HOST:PORT/DB`` (``rediss://`` over TLS,
    ``unix://`` for a socket; ``?prefix=NAME`` where several services share a database).

    Raises:
        StateError: there is no such kind of state, or it cannot be opened.
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        return SqliteState(url.removeprefix("sqlite:"), durability=durability)
    if scheme[1] in ("redis", "rediss", "unix"):
        from xdm.serving.state.redis import RedisState  # only where it is used: it is an extra

        return RedisState(url, durability=durability)
    raise StateError(f"a state of the kind {scheme[1]}:// is unknown; give a file, sqlite:FILE, redis:// or rediss://")
