"""The state in one Redis server, which several machines share."""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import redis

from xdm.serving.errors import StateError, StateUnavailableError
from xdm.serving.state import pruning, redis_scripts
from xdm.serving.state.redis_server import (
    READ_SECONDS,
    WRITE_SECONDS,
    Line,
    check_server,
    logger,
    rewrite_files,
    split_prefix,
)
from xdm.serving.state.types import (
    NEWEST_EVENTS,
    ActiveModel,
    Appended,
    Durability,
    LiveEvent,
    Pruned,
    SeenEvent,
    UserEvents,
    any_item,
    conflict,
    item_from_json,
    item_to_json,
)

if TYPE_CHECKING:
    from xdm.behaviours.rules import BehaviourRules
    from xdm.retrieval.changes import ItemChange

FORMAT = b"1"
ORDER_DIGITS = 16  # of the number of arrival, with which each member begins


class RedisState:
    """A `State` in one Redis server (not a Redis Cluster); see there.

    What is promised when the server is killed follows from its settings. With ``appendonly yes`` and ``appendfsync always``
    an acknowledged batch is on its disk: it survives a kill and a power cut, whole. With ``appendfsync everysec`` up to two
    seconds of acknowledged batches may be lost. With ``appendonly no`` all since the last snapshot is. Without the server's
    answer a batch may be stored or not; sent again with the same event ids it is stored once. Replicas are written to
    after the acknowledgement: a failover may lose the last moments.

    A deleted user is gone from the server's memory at once, and from its log when the server has written that anew, which
    `forget` asks for and does not wait for.
    """

    def __init__(self, url: str, *, durability: Durability = "full") -> None:
        """Connect to the server at ``url``: ``redis://[USER:PASSWORD@]HOST:PORT/DB[?prefix=NAME]``, ``rediss://`` over TLS.

        A server that does not answer is waited for by whoever asks; it is no error here.

        Raises:
            StateError: no Redis URL, a wrong password, a cluster, or the keys of a newer version of this package.
        """
        address, self._prefix = split_prefix(url)
        self._durability = durability
        self._reads, self._writes = Line(address, READ_SECONDS), Line(address, WRITE_SECONDS)
        self.describe = self._reads.describe
        self._checked = False
        self._scripts: dict[str, Any] = {}
        try:
            self._check()
        except StateUnavailableError as error:
            logger.warning("%s", error)

    # --- events -----------------------------------------------------------------------------------------------------
    def append(self, events: Sequence[LiveEvent]) -> Appended:
        """Store a batch: all of it or nothing. When this returns, it is as durable as the server's settings make it.

        Raises:
            ConflictError: an event_id is stored already with other content; nothing of the batch is stored.
            StateUnavailableError: no answer; the batch may be stored or not, and may be sent again.
        """
        accepted, other = self._run(self._writes, redis_scripts.APPEND, *(part for e in events for part in _parts(e)))
        if accepted < 0:
            raise conflict(other, events[other])
        return Appended(accepted, other)

    def events_of(self, user_id: str | int, *, before: int, newest: int = NEWEST_EVENTS) -> UserEvents:
        """The user's ``newest`` events before the second ``before``, oldest first; ties by arrival."""
        members, forgotten = self._run(self._reads, redis_scripts.EVENTS_OF, str(user_id), before, newest)
        return UserEvents(_as_events(members[::-1]), bool(forgotten))

    def count(self) -> int:
        """How many events are held."""
        return self._reads.ask(lambda client: client.hlen(self._prefix + "ids"))

    # --- deletion ---------------------------------------------------------------------------------------------------
    def forget(self, user_id: str | int) -> int:
        """Delete a user's events, and ask the server to write its files anew without them."""
        deleted = self._run(self._writes, redis_scripts.FORGET, str(user_id), secrets.token_hex(16))
        self._clean_disk()
        return deleted

    def _clean_disk(self) -> None:
        """Have the server's files written anew if something was deleted on request; one that is busy is asked again later."""
        key = self._prefix + "disk"
        if not self._writes.ask(lambda client: client.getdel(key)):
            return
        try:
            done = self._writes.ask(rewrite_files)
        except StateUnavailableError as error:
            done = False
            logger.warning("what was deleted is still in the server's files: %s", error)
        if not done:
            self._writes.ask(lambda client: client.set(key, 1))

    def prune(
        self,
        rules: Sequence[BehaviourRules],
        *,
        now: int,
        max_age: int | None = None,
        known: Callable[[str | int], bool] = any_item,
    ) -> Pruned:
        """Delete what no rule can need any more, for the next few users; see `State.prune`."""
        self._clean_disk()
        arguments = now, pruning.ROUND_SECONDS, pruning.USERS_A_SLICE
        users: list[bytes] = self._run(self._writes, redis_scripts.NEXT_USERS, *arguments)
        deleted = 0
        for user in users:
            newest = NEWEST_EVENTS + pruning.EVENTS_A_SLICE
            members = self._run(self._writes, redis_scripts.EVENTS_OF, user, now, newest)[0][::-1]
            beyond = max(0, len(members) - NEWEST_EVENTS)  # no read reaches these
            place = beyond + pruning.needed_place(_as_events(members[beyond:]), rules, now, max_age, known)
            doomed = members[: min(place, pruning.EVENTS_A_SLICE)]
            for first in range(0, len(doomed), pruning.EVENTS_A_STEP):
                step = doomed[first : first + pruning.EVENTS_A_STEP]
                deleted += self._run(self._writes, redis_scripts.DELETE, user, *step)
        return Pruned(len(users), deleted, len(users) < pruning.USERS_A_SLICE)

    # --- items and models -------------------------------------------------------------------------------------------
    def change_items(self, changes: Sequence[ItemChange]) -> None:
        """Keep changes of items, all or none; the last one of an item replaces those before it."""
        pairs = [part for change in changes for part in (str(change.item_id), item_to_json(change))]
        self._run(self._writes, redis_scripts.CHANGE_ITEMS, *pairs)

    def item_changes(self, after: int) -> tuple[int, list[ItemChange]]:
        """The state's version, and the changes that came after version ``after``, oldest first, one an item."""
        version, changes = self._run(self._writes, redis_scripts.ITEM_CHANGES, after)
        return int(version), [item_from_json(change) for change in changes]

    def activate(self, name: str, fingerprint: str, configured: str, previous: str | None = None) -> None:
        """Say with which model every worker is to answer."""
        model = {"name": name, "fingerprint": fingerprint, "configured": configured, "previous": previous}
        self._run(self._writes, redis_scripts.ACTIVATE, json.dumps(model))

    def active_model(self) -> ActiveModel | None:
        """The model activated last; None before the first."""
        found: list[Any] = self._reads.ask(lambda client: client.hmget(self._prefix + "model", "version", "model"))
        version, model = found
        return ActiveModel(**json.loads(model), version=int(version)) if model else None

    def version(self) -> int:
        """A number that grows with every change of an item or of the active model, unless the server lost its data."""
        return int(self._reads.ask(lambda client: client.get(self._prefix + "version")) or 0)

    # --- the server -------------------------------------------------------------------------------------------------
    def ping(self) -> None:
        """Return if the server answers; the first time it does, its settings are looked at."""
        if self._checked:
            self._reads.ask(lambda client: client.ping())
        else:
            self._check()

    def close(self) -> None:
        """Close all connections. No other call may be running."""
        self._reads.close()
        self._writes.close()

    def _check(self) -> None:
        """
        Raises:
            StateError: a wrong password, a cluster, or keys of a newer version of this package.
            StateUnavailableError: no answer.
        """

        def look(client: redis.Redis) -> Any:
            try:
                check_server(client, self.describe, self._durability)
            except redis.AuthenticationError as error:
                raise StateError(f"{self.describe} asks for another user or password ({error})") from None
            client.set(self._prefix + "format", FORMAT, nx=True)
            return client.get(self._prefix + "format")

        found = self._writes.ask(look)
        if found != FORMAT:
            raise StateError(
                f"{self.describe} holds a state of format {found!r} under {self._prefix}, of which this version knows only "
                f"{FORMAT!r}; upgrade, or give another ?prefix="
            )
        self._checked = True

    def _run(self, line: Line, script: str, *arguments: str | int | bytes) -> Any:
        """What a script of `redis_scripts` answers; a server that does not know it yet is told."""
        known = self._scripts.get(script) or self._scripts.setdefault(script, line.client.register_script(script))
        return line.ask(lambda client: known(keys=[self._prefix], args=arguments, client=client))


def _parts(event: LiveEvent) -> tuple[str, bytes, str, int, str]:
    """An event as `redis_scripts.APPEND` takes it; without an id it gets one, so that a second try finds the first."""
    name = uuid.uuid4().hex if event.event_id is None else str(event.event_id)
    session = None if event.session_id is None else str(event.session_id)
    content = json.dumps([str(event.user_id), str(event.item_id), event.timestamp, bool(event.clicked), session])
    rest = json.dumps([event.item_id, event.timestamp, bool(event.clicked), event.session_id, name])
    digest = hashlib.blake2b(content.encode(), digest_size=16).digest()
    return name, digest, str(event.user_id), event.timestamp, rest


def _as_events(members: Sequence[bytes]) -> list[SeenEvent]:
    rows = json.loads(b"[%s]" % b",".join(member[ORDER_DIGITS:] for member in members))
    return [SeenEvent(item, timestamp, clicked, session) for item, timestamp, clicked, session, _ in rows]
