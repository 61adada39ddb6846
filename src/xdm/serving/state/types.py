"""What every state keeps and promises, whatever it is kept in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from xdm.serving.errors import ConflictError

if TYPE_CHECKING:
    from xdm.behaviours.rules import BehaviourRules
    from xdm.retrieval.changes import ItemChange

NEWEST_EVENTS = 20_000  # what one read of a user returns at most

Durability = Literal["full", "normal"]


class LiveEvent(NamedTuple):
    """One exposure as it is stored; ``timestamp`` in seconds. Without an ``event_id`` the state makes one."""

    event_id: str | int | None
    user_id: str | int
    item_id: str | int
    timestamp: int
    clicked: bool
    session_id: str | int | None = None


class SeenEvent(NamedTuple):
    """One exposure of a user that is known already; ``timestamp`` in seconds."""

    item_id: str | int
    timestamp: int
    clicked: bool
    session_id: str | int | None = None


class Appended(NamedTuple):
    """How many events of a batch are new, and how many were stored already with the same content."""

    accepted: int
    duplicates: int


class UserEvents(NamedTuple):
    """What is held of a user, oldest first, ties by arrival; ``forgotten``: all that was known before was deleted on
    request, so that neither a store's history nor a trained user vector may be used for this user."""

    events: list[SeenEvent]
    forgotten: bool


class Pruned(NamedTuple):
    """What one slice of pruning did; ``done``: there is nothing more to do for now."""

    users: int
    events: int
    done: bool


class ActiveModel(NamedTuple):
    """The model that every worker answers with.

    ``configured``: the fingerprint of the model that the service was configured with when this one was activated.
    ``previous``: the name of the model that was active before, to roll back to. ``version``: the state's then.
    """

    name: str
    fingerprint: str
    configured: str
    previous: str | None
    version: int


def any_item(item_id: str | int) -> bool:
    """The catalogue that knows every item."""
    return True


class State(Protocol):
    """Live events, changes of items and the active model, shared by the threads and processes of a service.

    Ids compare by their text: 7 and "7" name the same. Every method raises `StateUnavailableError` where the state cannot
    be reached just now; the call may then be made again.
    """

    describe: str  # where it is kept, without a password

    def append(self, events: Sequence[LiveEvent]) -> Appended:
        """Store a batch: all of it or nothing. When this returns, it is as durable as the state promises.

        Raises:
            ConflictError: an event_id is stored already with other content; nothing of the batch is stored.
        """

    def events_of(self, user_id: str | int, *, before: int, newest: int = NEWEST_EVENTS) -> UserEvents:
        """The user's ``newest`` events strictly before the second ``before``."""

    def forget(self, user_id: str | int) -> int:
        """Delete a user's events, also from disk, and remember (by a keyed hash) that it was asked for.

        Returns the number of events. Safe to call again. Events that come later are stored as anyone's.
        """

    def prune(
        self,
        rules: Sequence[BehaviourRules],
        *,
        now: int,
        max_age: int | None = None,
        known: Callable[[str | int], bool] = any_item,
    ) -> Pruned:
        """Delete what no rule can need any more (`xdm.behaviours.retention`), for the next few users in turn.

        All processes on a state share one round through its users, and begin no new one within `ROUND_SECONDS`.
        Questions and events dated up to `LATE` seconds before ``now`` are allowed for.

        Args:
            rules: those of every model that may answer.
            now: the current second.
            max_age: events older than so many seconds go, needed or not.
            known: whether the model knows an item; events of others never reach the kernel.
        """

    def change_items(self, changes: Sequence[ItemChange]) -> None:
        """Keep changes of items, all or none; the last one of an item replaces those before it."""

    def item_changes(self, after: int) -> tuple[int, list[ItemChange]]:
        """The state's version, and the changes that came after version ``after``, oldest first, one an item."""

    def activate(self, name: str, fingerprint: str, configured: str, previous: str | None = None) -> None:
        """Say with which model every worker is to answer; the fields are those of `ActiveModel`."""

    def active_model(self) -> ActiveModel | None:
        """The model activated last; None before the first."""

    def version(self) -> int:
        """A number that grows with every change of an item or of the active model. Cheap: workers poll it."""

    def count(self) -> int:
        """How many events are held. Cheap."""

    def ping(self) -> None:
        """Return if the state can be reached."""

    def close(self) -> None:
        """Let go of files and connections. No other call may be running."""


def item_to_json(change: ItemChange) -> str:
    """A change as text: its id (which may be 0), and what else is set."""
    fields = {name: getattr(change, name) for name in type(change).__dataclass_fields__}
    return json.dumps({name: value for name, value in fields.items() if name == "item_id" or value not in (False, None, (), {})})


def item_from_json(text: str | bytes) -> ItemChange:
    """What `item_to_json` wrote."""
    from xdm.retrieval.changes import ItemChange

    fields: dict[str, Any] = json.loads(text)
    for name in ("similar_to", "vector"):
        if name in fields:
            fields[name] = tuple(fields[name])
    return ItemChange(**fields)


def conflict(number: int, event: LiveEvent) -> ConflictError:
    """The refusal of a batch because of its event ``number``, from 0."""
    return ConflictError(
        f"events, row {number}: event_id {event.event_id!r} is stored already with other content; nothing "
        "of this batch is stored; give the event an id of its own, or send it as it was sent before"
    )


def same_content(stored: Iterable[object], sent: Iterable[object]) -> bool:
    """Whether two events say the same; ids compare by their text, as everywhere."""
    return [_text(value) for value in stored] == [_text(value) for value in sent]


def _text(value: object) -> str | None:
    return None if value is None else str(value)
