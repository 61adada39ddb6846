"""Answers to questions, several at once: the model's, or where it cannot, those of the next best source."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from xdm.log.store import Events
from xdm.retrieval.types import POPULAR, SOURCES, Points, TopK
from xdm.schema import PADDING, XdmError
from xdm.serving.messages.recommend import Fallback, RecommendAnswer, ScoredItem
from xdm.serving.questions import Prepared, Question, Served, allowed_of, indices_of, prepare
from xdm.serving.state import State

logger = logging.getLogger("xdm.serving")


class Counts(Protocol):
    """What a service tells of what it does; `xdm.serving.telemetry.Telemetry` is one."""

    def fault(self, kind: str) -> None: ...

    def events(self, accepted: int, duplicates: int) -> None: ...


def answer_all(
    questions: Sequence[Question], served: Served, state: State | None, now: int, counts: Counts | None
) -> list[RecommendAnswer | Exception]:
    """The answer to each question, or why there can be none (a filter that names no feature).

    All of them are from ``served``. A question without a time is asked at ``now`` (seconds). Those without a filter are answered
    together: one look at the item vectors serves them all.
    """
    answers: list[RecommendAnswer | Exception | None] = [None] * len(questions)
    together: list[tuple[int, Prepared]] = []
    for place, question in enumerate(questions):
        try:
            prepared = prepare(question, served, state, now if question.at is None else question.at)
        except XdmError as error:
            answers[place] = error
            continue
        if prepared.missing and counts:
            counts.fault("state")
        if prepared.allowed is None:
            together.append((place, prepared))
        else:
            answers[place] = _ask([prepared], served, counts)[0]
    if together:
        for (place, _), answer in zip(together, _ask([one for _, one in together], served, counts), strict=True):
            answers[place] = answer
    return [answer for answer in answers if answer is not None]


def popular_answer(question: Question, served: Served, now: int, reason: Fallback) -> RecommendAnswer:
    """The popular items, without a look at the user: for when there is no time for one."""
    at = now if question.at is None else question.at
    excluded, strangers = indices_of(served.catalogue, question.exclude)
    allowed, others = allowed_of(served.catalogue, question.only, question.where)
    nothing = Events.of_one_user([], [], [])
    asked = Prepared(question, at, PADDING, nothing, excluded, allowed, strangers + others, 0, ())
    return _popular(asked, served, reason)


def _ask(asked: Sequence[Prepared], served: Served, counts: Counts | None) -> list[RecommendAnswer]:
    """Answers to questions with the same filter. A question that the model fails on takes no other with it."""
    try:
        return _model(asked, served, exact=False)
    except Exception as error:
        if len(asked) > 1:
            return [_ask([one], served, counts)[0] for one in asked]
        return [_without_index(asked[0], served, error, counts)]


def _without_index(asked: Prepared, served: Served, error: Exception, counts: Counts | None) -> RecommendAnswer:
    """The exact search where the index failed; the popular items where the model did."""
    try:
        answer = _model([asked], served, exact=True)[0]
    except Exception as again:
        logger.error("the model %s fails on a question; popular items are answered", served.model.name, exc_info=again)
        if counts:
            counts.fault("model")
        return _popular(asked, served, "model")
    logger.error("the index of %s fails on a question; every item was scored", served.model.name, exc_info=error)
    if counts:
        counts.fault("index")
    return answer.model_copy(update={"fallback": "index"})


def _model(asked: Sequence[Prepared], served: Served, *, exact: bool) -> list[RecommendAnswer]:
    n = len(asked)
    points = Points(
        Events.joined([one.events for one in asked]), np.arange(n), np.array([one.user for one in asked], np.int32),
        np.array([one.at for one in asked], np.int64),
    )  # fmt: skip
    exclude = [one.excluded for one in asked] if any(len(one.excluded) for one in asked) else None
    k = max(one.question.k for one in asked)
    top = served.catalogue.top_k(points, k, exclude, asked[0].allowed, exact=exact)
    return [_answer(one, served, top, q) for q, one in enumerate(asked)]


def _popular(asked: Prepared, served: Served, reason: Fallback) -> RecommendAnswer:
    scores, items = served.catalogue.popular(asked.question.k, asked.excluded, asked.allowed)
    top = TopK(items[None], scores[None], np.array([POPULAR], np.uint8))
    return _answer(asked, served, top, 0, reason)


def _answer(asked: Prepared, served: Served, top: TopK, q: int, reason: Fallback | None = None) -> RecommendAnswer:
    """The ``q``-th of ``top`` over external ids."""
    items, scores = top.items[q, : asked.question.k], top.scores[q, : asked.question.k]
    found = items != PADDING
    if not np.isfinite(scores[found]).all():
        raise ValueError(f"the model {served.model.name} gave a score that is no number")
    if reason is None and top.source[q] == POPULAR:
        reason = "empty_history" if len(asked.events) or asked.user != PADDING else "unknown_user"
    return RecommendAnswer.model_construct(
        user_id=asked.question.user_id,
        timestamp=asked.at,
        source=SOURCES[int(top.source[q])],
        fallback=reason,
        missing=list(asked.missing),
        items=scored_items(served, items[found], scores[found]),
        unknown_items=asked.unknown_items,
        events_seen=len(asked.events),
        later_events=asked.later_events,
        model=served.model,
    )


def scored_items(served: Served, items: np.ndarray, scores: np.ndarray) -> list[ScoredItem]:
    """External ids with their scores and ranks."""
    ids = served.catalogue.external_list(items)
    return list(map(ScoredItem, ids, scores.tolist(), range(1, len(ids) + 1)))
