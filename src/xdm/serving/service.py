"""What the service knows how to do, over external ids: what HTTP, the engine and the command line share."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xdm.retrieval.live import LiveCatalogue
from xdm.schema import PADDING, InternalError
from xdm.serving.answering import Counts, answer_all, popular_answer, scored_items
from xdm.serving.errors import UnknownItemError
from xdm.serving.history import History
from xdm.serving.messages.common import ModelInfo
from xdm.serving.messages.events import EventsAnswer, PostedEvent
from xdm.serving.messages.recommend import (
    Fallback,
    InlineEvent,
    RecommendAnswer,
    SimilarAnswer,
    SimilarRequest,
)
from xdm.serving.questions import Question, Served, allowed_of, indices_of
from xdm.serving.state import LiveEvent, State


class Service:
    """Answers questions about users from a store's events, the live events and those that come with the question; keeps what comes.

    ``served`` is what is active: it is replaced as a whole, and whoever answers takes it once. Safe to use from several threads.
    """

    def __init__(
        self,
        served: Served,
        *,
        state: State | None = None,
        counts: Counts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.served, self._state, self._counts, self._clock = served, state, counts, clock

    @classmethod
    def of(cls, recommender: Any, history: History | None = None, **others: Any) -> Service:
        """A service over one bundle, for this process alone; ``others`` as of the constructor."""
        model = model_info(recommender.manifest)
        return cls(Served(recommender.path.name, model, LiveCatalogue(recommender, model.fingerprint), history), **others)

    @property
    def state(self) -> State:
        """The live events, items and the name of the active model.

        Raises:
            InternalError: this service has none.
        """
        if self._state is None:
            raise InternalError("this service was made without a state; pass one to keep events, items or models")
        return self._state

    @property
    def now(self) -> int:
        """The time of a question that names none: the second after the current one, so that an event that happened in this very
        second is strictly before it."""
        return int(self._clock()) + 1

    def close(self) -> None:
        """Close the state. No other call may be running."""
        if self._state is not None:
            self._state.close()

    # --- questions ------------------------------------------------------------------------------------------------------
    def answers(self, questions: Sequence[Question]) -> list[RecommendAnswer | Exception]:
        """The answer to each question, all from the same model, or why there can be none."""
        return answer_all(questions, self.served, self._state, self.now, self._counts)

    def recommend(
        self, user_id: str | int | None, *, k: int = 50, at: int | None = None, events: Sequence[InlineEvent] = (),
        exclude: Sequence[str | int] = (), exclude_clicked: bool = False, **filters: Any,
    ) -> RecommendAnswer:  # fmt: skip
        """The ``k`` best items for one user at the second ``at``; the fields are those of `RecommendRequest`.

        A ``user_id`` of None is a user without a name, of whom only ``events`` are known.

        Raises:
            UsageError: a filter by a feature that the catalogue has not.
        """
        answer = self.answers([Question(user_id, k, at, events, exclude, exclude_clicked, **filters)])[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def popular(self, question: Question, reason: Fallback) -> RecommendAnswer:
        """The popular items, without a look at the user.

        Raises:
            UsageError: a filter by a feature that the catalogue has not.
        """
        return popular_answer(question, self.served, self.now, reason)

    def popular_or_error(self, question: Question, reason: Fallback) -> RecommendAnswer | Exception:
        """As `popular`; what it would raise is returned."""
        try:
            return self.popular(question, reason)
        except Exception as error:
            return error

    def similar(self, asked: SimilarRequest) -> SimilarAnswer:
        """The items whose vectors are most like that of ``asked.item_id``.

        Raises:
            UnknownItemError: no such item, or one that cannot be recommended and so has no vector.
            UsageError: a filter by a feature that the catalogue has not.
        """
        served = self.served
        index = served.catalogue.index(asked.item_id)
        if index == PADDING or not served.catalogue.has_vector(index):
            raise UnknownItemError(f"the model {served.model.name} has no vector of the item {asked.item_id!r}")
        excluded, strangers = indices_of(served.catalogue, asked.exclude)
        allowed, others = allowed_of(served.catalogue, asked.only, asked.where)
        scores, items = served.catalogue.similar(index, asked.k, np.union1d(excluded, [index]), allowed)
        found = scored_items(served, items[items != PADDING], scores[items != PADDING])
        return SimilarAnswer(item_id=asked.item_id, items=found, unknown_items=strangers + others, model=served.model)

    # --- what comes -----------------------------------------------------------------------------------------------------
    def record(self, events: Sequence[PostedEvent]) -> EventsAnswer:
        """Store a batch of events; all of it is durable when this returns.

        Raises:
            ConflictError, StateUnavailableError: as `State.append` does.
            InternalError: this service has no state.
        """
        batch = [
            LiveEvent(event.event_id, event.user_id, event.item_id, event.timestamp, event.clicked, event.session_id)
            for event in events
        ]
        stored = self.state.append(batch)
        if self._counts:
            self._counts.events(stored.accepted, stored.duplicates)
        catalogue = self.served.catalogue
        unknown = sum(not catalogue.known(catalogue.index(event.item_id)) for event in batch)
        return EventsAnswer(accepted=stored.accepted, duplicates=stored.duplicates, unknown_items=unknown)


def model_info(manifest: dict[str, Any]) -> ModelInfo:
    """What an answer says of the model that gave it, from its bundle's manifest.

    The fingerprint is of the manifest, which holds the hash of every other file: two bundles with the same one are equal.
    """
    content = json.dumps(manifest, sort_keys=True, ensure_ascii=False).encode()
    return ModelInfo(name=str(manifest["model"]), fingerprint=hashlib.sha256(content).hexdigest()[:16])
