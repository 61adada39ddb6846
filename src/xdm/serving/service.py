"""From external ids and a time to a ranked list and back: what HTTP and the command line share."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from xdm.log.store import Events
from xdm.retrieval.types import SOURCES, Points, Recommender
from xdm.schema import ITEM_DTYPE, NO_SESSION, PADDING, SESSION_DTYPE, InternalError
from xdm.serving.history import History
from xdm.serving.messages import (
    EventsAnswer,
    HealthAnswer,
    InlineEvent,
    ModelInfo,
    PostedEvent,
    RecommendAnswer,
    ScoredItem,
)
from xdm.serving.state import NEWEST_EVENTS, EventState, LiveEvent, SeenEvent

ITEMS_REMEMBERED = 1 << 17  # looked-up item ids that are kept; a lookup in a large catalogue is some 20 comparisons


class Service:
    """Answers questions about users from a store's events, the live events and those that come with the question.

    A user's events are put together in this order, then sorted by time (ties stay in this order): the store's, the live
    ones, the question's own. Of the store's and of the live ones the newest `NEWEST_EVENTS` are read. A live event
    that repeats one of the store counts twice.
    """

    def __init__(
        self,
        recommender: Recommender,
        *,
        state: EventState | None = None,
        history: History | None = None,
        model: ModelInfo,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.recommender = recommender
        self.state = state
        self.history = history
        self.model = model
        self._clock = clock
        self._started = clock()
        self._item_index = lru_cache(ITEMS_REMEMBERED)(recommender.catalogue.index)

    def recommend(
        self,
        user_id: str | int | None,
        *,
        k: int = 50,
        at: int | None = None,
        events: Sequence[InlineEvent] = (),
        exclude: Sequence[str | int] = (),
        exclude_clicked: bool = False,
    ) -> RecommendAnswer:
        """The ``k`` best items for one user at the second ``at``; the fields are those of `RecommendRequest`.

        A ``user_id`` of None is a user without a name, of whom only ``events`` are known.

        Raises:
            StateUnavailableError: the live events could not be read.
            InternalError: the model gave a score that is no number.
        """
        # The second after the current one: an event that happened in this very second is strictly before it.
        at = int(self._clock()) + 1 if at is None else at
        inline = [event for event in events if event.timestamp < at]
        past, unknown = self._events_before(user_id, at, inline)
        excluded = np.array([self._item_index(item) for item in exclude], ITEM_DTYPE)
        unknown += int((excluded == PADDING).sum())
        excluded = excluded[excluded != PADDING]
        if exclude_clicked:
            excluded = np.concatenate([excluded, past.item[past.clicked]])
        source, items = self._ask(past, self.recommender.users.index(user_id), at, k, np.unique(excluded))
        return RecommendAnswer(
            user_id=user_id,
            timestamp=at,
            source=source,
            items=items,
            unknown_items=unknown,
            events_seen=len(past),
            later_events=len(events) - len(inline),
            model=self.model,
        )

    def record(self, events: Sequence[PostedEvent]) -> EventsAnswer:
        """Store a batch of events; all of it is on disk when this returns.

        Raises:
            ConflictError, StateUnavailableError: as `EventState.append` does.
            InternalError: this service has no state.
        """
        if self.state is None:
            raise InternalError("this service was made without a state; pass one to record events")
        batch = [
            LiveEvent(event.event_id, event.user_id, event.item_id, event.timestamp, event.clicked, event.session_id)
            for event in events
        ]
        stored = self.state.append(batch)
        unknown = sum(self._item_index(event.item_id) == PADDING for event in batch)
        return EventsAnswer(accepted=stored.accepted, duplicates=stored.duplicates, unknown_items=unknown)

    def health(self) -> HealthAnswer:
        """The model, its size, and what is stored.

        Raises:
            StateUnavailableError: the state could not be read.
        """
        return HealthAnswer(
            status="ok",
            model=self.model,
            items=len(self.recommender.catalogue),
            users=len(self.recommender.users),
            uptime_seconds=int(self._clock() - self._started),
            events_stored=self.state.count() if self.state else 0,
            history=self.history is not None,
        )

    def warm_up(self) -> None:
        """Answer one question about nobody, so that the first real one waits for no compiler and no sorting of ids."""
        event = Events.of_one_user([1], [0], [True])
        self._ask(event, PADDING, 1, 1, np.array([], ITEM_DTYPE))
        self._item_index("")
        if self.history:
            self.history.events_of("", before=1, newest=1)

    def _events_before(self, user_id: str | int | None, at: int, inline: Sequence[InlineEvent]) -> tuple[Events, int]:
        """The user's events before ``at`` with known items, by catalogue index, and the number that was skipped."""
        past = Events.of_one_user([], [], [])
        live: list[SeenEvent] = []
        if self.history and user_id is not None:
            past = self.history.events_of(user_id, before=at, newest=NEWEST_EVENTS)
        if self.state and user_id is not None:
            live = self.state.events_of(user_id, before=at)
        fresh: list[SeenEvent | InlineEvent] = [*live, *inline]
        # The store's session codes are numbers without names, so a live session never joins one by its id.
        first_code = int(past.session.max(initial=NO_SESSION)) + 1
        item = np.concatenate([past.item, np.array([self._item_index(event.item_id) for event in fresh], ITEM_DTYPE)])
        known = item != PADDING
        events = Events.of_one_user(
            item[known],
            np.concatenate([past.time, np.array([event.timestamp for event in fresh], np.int64)])[known],
            np.concatenate([past.clicked, np.array([event.clicked for event in fresh], np.bool_)])[known],
            np.concatenate([past.session, session_codes([event.session_id for event in fresh], first_code)])[known],
            sort=True,
        )
        return events, int((~known).sum())

    def _ask(self, events: Events, user: int, at: int, k: int, exclude: np.ndarray) -> tuple[str, list[ScoredItem]]:
        """The source and the best items of one question about the only user of ``events``."""
        points = Points(events, np.zeros(1, np.int64), np.array([user], np.int32), np.array([at], np.int64))
        top = self.recommender.top_k(points, k, [exclude.astype(ITEM_DTYPE)])
        found = top.items[0] != PADDING
        scores = top.scores[0][found]
        if not np.isfinite(scores).all():
            raise InternalError(f"the model {self.model.name} gave a score that is no number")
        ids = self.recommender.catalogue.external_list(top.items[0][found])
        ranked = zip(ids, scores.tolist(), strict=True)
        items = [ScoredItem(item_id=item, score=score, rank=rank) for rank, (item, score) in enumerate(ranked, start=1)]
        return SOURCES[int(top.source[0])], items


def model_info(manifest: dict[str, Any]) -> ModelInfo:
    """What an answer says of the model that gave it, from its bundle's manifest.

    The fingerprint is of the manifest, which holds the hash of every other file: two bundles with the same one are equal.
    """
    content = json.dumps(manifest, sort_keys=True, ensure_ascii=False).encode()
    return ModelInfo(name=str(manifest["model"]), fingerprint=hashlib.sha256(content).hexdigest()[:16])


def session_codes(session_ids: Sequence[str | int | None], first: int) -> np.ndarray:
    """One code per distinct id, counted from ``first``; `NO_SESSION` for none: ``[n]`` int32. 7 and "7" are one."""
    codes: dict[str, int] = {}
    return np.array(
        [NO_SESSION if name is None else first + codes.setdefault(str(name), len(codes)) for name in session_ids],
        SESSION_DTYPE,
    )
