"""From a question over external ids to a point in a model's terms: the events that may be looked at, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from xdm.log.store import Events
from xdm.retrieval.live import LiveCatalogue
from xdm.schema import ITEM_DTYPE, NO_SESSION, PADDING, SESSION_DTYPE
from xdm.serving.errors import StateUnavailableError
from xdm.serving.history import History
from xdm.serving.messages.common import ModelInfo
from xdm.serving.messages.recommend import InlineEvent
from xdm.serving.state import NEWEST_EVENTS, SeenEvent, State, UserEvents

LIVE_EVENTS = "live_events"  # named in an answer's `missing`


@dataclass(frozen=True)
class Served:
    """Everything that an answer is made of, as it stands at one moment: an answer takes one of these and looks at nothing else."""

    name: str  # the bundle's folder
    model: ModelInfo
    catalogue: LiveCatalogue
    history: History | None = None


@dataclass(frozen=True)
class Question:
    """The fields of `RecommendRequest`; a ``user_id`` of None is somebody of whom only ``events`` are known."""

    user_id: str | int | None
    k: int = 50
    at: int | None = None
    events: Sequence[InlineEvent] = ()
    exclude: Sequence[str | int] = ()
    exclude_clicked: bool = False
    only: Sequence[str | int] | None = None
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A question in the model's terms. ``events`` are one user's, strictly before ``at``, of items that the model knows;
    ``excluded`` and ``allowed`` are sorted indices of the catalogue."""

    question: Question
    at: int
    user: int
    events: Events
    excluded: np.ndarray
    allowed: np.ndarray | None
    unknown_items: int
    later_events: int
    missing: tuple[str, ...]


def prepare(question: Question, served: Served, state: State | None, at: int) -> Prepared:
    """Look up what ``question`` is about, at the second ``at``.

    The user's events are put together in this order, then sorted by time (ties stay in this order): the store's, the live ones,
    the question's own. Of the store's and of the live ones the newest `NEWEST_EVENTS` are read. Where the live ones cannot be
    read, the answer goes without them and says so.

    Raises:
        UsageError: a filter by a feature that the catalogue has not.
    """
    catalogue = served.catalogue
    inline = [event for event in question.events if event.timestamp < at]
    live, missing = _live(question.user_id, state, at)
    past = _past(question.user_id, served.history, at, live.forgotten)
    fresh: list[SeenEvent | InlineEvent] = [*live.events, *inline]
    named = np.array([catalogue.index(event.item_id) for event in fresh], ITEM_DTYPE)
    events, unknown = _together(past, fresh, named, catalogue)
    excluded, strangers = indices_of(catalogue, question.exclude)
    if question.exclude_clicked:
        clicked = named[np.array([event.clicked for event in fresh], bool)]
        excluded = np.unique(np.concatenate([excluded, past.item[past.clicked], clicked]))
        excluded = excluded[excluded != PADDING]
    allowed, others = allowed_of(catalogue, question.only, question.where)
    user = PADDING if live.forgotten or question.user_id is None else catalogue.users.index(question.user_id)
    return Prepared(
        question, at, user, events, excluded, allowed, unknown + strangers + others, len(question.events) - len(inline), missing
    )


def indices_of(catalogue: LiveCatalogue, ids: Sequence[str | int]) -> tuple[np.ndarray, int]:
    """The sorted, distinct indices of ``ids``, and how many of these are unknown."""
    found = np.array([catalogue.index(item) for item in ids], ITEM_DTYPE)
    return np.unique(found[found != PADDING]), int((found == PADDING).sum())


def allowed_of(
    catalogue: LiveCatalogue, only: Sequence[str | int] | None, where: Mapping[str, Sequence[str]]
) -> tuple[np.ndarray | None, int]:
    """The indices that the filters let through (None: all), and how many of ``only`` are unknown."""
    if only is None and not where:
        return None, 0
    unknown = 0 if only is None else sum(catalogue.index(item) == PADDING for item in only)
    return catalogue.allowed(items=only, features=where), unknown


def _live(user_id: str | int | None, state: State | None, at: int) -> tuple[UserEvents, tuple[str, ...]]:
    if state is None or user_id is None:
        return UserEvents([], False), ()
    try:
        return state.events_of(user_id, before=at), ()
    except StateUnavailableError:
        return UserEvents([], False), (LIVE_EVENTS,)


def _past(user_id: str | int | None, history: History | None, at: int, forgotten: bool) -> Events:
    if history is None or user_id is None or forgotten:
        return Events.of_one_user([], [], [])
    return history.events_of(user_id, before=at, newest=NEWEST_EVENTS)


def _together(
    past: Events, fresh: Sequence[SeenEvent | InlineEvent], named: np.ndarray, catalogue: LiveCatalogue
) -> tuple[Events, int]:
    """The events of items that the tower knows, sorted by time, and the number of the others."""
    # The store's session codes are numbers without names, so a live session never joins one by its id.
    first_code = int(past.session.max(initial=NO_SESSION)) + 1
    item = np.concatenate([past.item, np.where(named <= catalogue.n_known, named, PADDING)]).astype(ITEM_DTYPE)
    known = item != PADDING
    events = Events.of_one_user(
        item[known],
        np.concatenate([past.time, np.array([event.timestamp for event in fresh], np.int64)])[known],
        np.concatenate([past.clicked, np.array([event.clicked for event in fresh], np.bool_)])[known],
        np.concatenate([past.session, session_codes([event.session_id for event in fresh], first_code)])[known],
        sort=True,
    )
    return events, int((~known).sum())


def session_codes(session_ids: Sequence[str | int | None], first: int) -> np.ndarray:
    """One code per distinct id, counted from ``first``; `NO_SESSION` for none: ``[n]`` int32. 7 and "7" are one."""
    codes: dict[str, int] = {}
    return np.array(
        [NO_SESSION if name is None else first + codes.setdefault(str(name), len(codes)) for name in session_ids],
        SESSION_DTYPE,
    )
