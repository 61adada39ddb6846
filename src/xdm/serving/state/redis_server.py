"""A Redis server as a state sees it: what it is asked, how long is waited for it, and what it promises by its settings."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from xdm.serving.errors import StateError, StateUnavailableError
from xdm.serving.state.types import Durability

CONNECT_SECONDS = 0.25
READ_SECONDS = 0.1  # a question that waits longer is answered without
WRITE_SECONDS = 2.0  # with a flush to disk
PAUSE_SECONDS = 0.5  # after a failure nothing is asked for so long

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


def split_prefix(url: str) -> tuple[str, str]:
    """A URL without its ``prefix=`` and the prefix of every key, "xdm" where it names none."""
    address, _, query = url.partition("?")
    options = dict(parse_qsl(query))
    prefix = options.pop("prefix", "xdm")
    return address + ("?" if options else "") + urlencode(options), f"{prefix}:"


class Line:
    """Connections to one server with one patience. After a failure the line rests: whoever asks is refused at once, and
    every `PAUSE_SECONDS` one who asks finds out for all whether the server is back.
    """

    def __init__(self, url: str, seconds: float) -> None:
        """
        Raises:
            StateError: the URL is none.
        """
        # A connection from before a restart of the server fails once, so one more try; a slow server gets none.
        retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        try:
            self.client = redis.Redis.from_url(
                url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=seconds, retry=retry, protocol=2
            )
        except ValueError as error:
            raise StateError(
                f"the address of the state is no Redis URL ({error}); write redis://HOST:PORT/DB"
            ) from None
        where = self.client.connection_pool.connection_kwargs
        self.describe = f"redis {where.get('path') or '{host}:{port}'.format(**where)}/{where.get('db') or 0}"
        self._lock = threading.Lock()
        self._failed = False
        self._rests_until = 0.0

    def ask(self, question: Callable[[redis.Redis], Result]) -> Result:
        """What ``question`` returns.

        Raises:
            StateUnavailableError: there was no answer in time, or the server refused.
        """
        with self._lock:
            if self._failed and time.monotonic() < self._rests_until:
                raise StateUnavailableError(f"{self.describe} did not answer a moment ago; try again")
            self._rests_until = time.monotonic() + PAUSE_SECONDS  # one tries for all
        try:
            answer = question(self.client)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            with self._lock:
                self._failed, self._rests_until = True, time.monotonic() + PAUSE_SECONDS
            raise StateUnavailableError(f"{self.describe} does not answer ({error}); see to the server") from None
        except redis.RedisError as error:
            self._failed = False
            raise StateUnavailableError(f"{self.describe} refused ({error}); see to the server") from None
        self._failed = False
        return answer

    def close(self) -> None:
        self.client.close()


def check_server(client: redis.Redis, describe: str, durability: Durability) -> None:
    """Warn of settings with which the server loses what it acknowledged.

    Raises:
        StateError: it is a cluster: the keys of one user and one batch may lie on several servers there.
    """
    if client.info("cluster").get("cluster_enabled"):
        raise StateError(f"{describe} is a Redis Cluster, which cannot hold a state; give a single server")
    try:
        found: dict[Any, Any] = client.config_get("appendonly", "appendfsync", "maxmemory-policy")
    except redis.ResponseError as error:  # a hosted server may not tell
        logger.warning(
            "%s does not show its settings (%s); see that appendonly and appendfsync are as documented", describe, error
        )
        return
    if found["appendonly"] != "yes":
        logger.warning("%s has appendonly=no: what it acknowledged is lost when it stops; set appendonly yes", describe)
    elif found["appendfsync"] != "always" and durability == "full":
        logger.warning(
            "%s has appendfsync=%s: up to two seconds of what it acknowledged are lost in a crash; set appendfsync always, "
            "or say durability normal if that is meant", describe, found["appendfsync"],
        )  # fmt: skip
    if found["maxmemory-policy"].startswith("allkeys"):
        logger.warning(
            "%s has maxmemory-policy=%s: it throws events away when it is full; set noeviction", describe,
            found["maxmemory-policy"],
        )  # fmt: skip


def rewrite_files(client: redis.Redis) -> bool:
    """Have the server write its files anew without what was deleted; False where it is at it already, so that what was
    deleted since is still in them.
    """
    persistence = client.info("persistence")
    if persistence["aof_enabled"]:
        if persistence["aof_rewrite_in_progress"]:
            return False
        client.bgrewriteaof()
    if client.config_get("save").get("save"):
        client.bgsave(schedule=True)
    return True
