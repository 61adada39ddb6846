"""The engine: questions are answered together, in time, and each gets its own answer."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.serving.fakes import ITEMS, FakeRecommender, expected_ranking, served_by
from xdm.schema import UsageError
from xdm.serving.engine import MAX_BATCH, Engine
from xdm.serving.messages.recommend import InlineEvent
from xdm.serving.questions import Question
from xdm.serving.service import Service
from xdm.serving.telemetry import Telemetry

DEADLINE = 5.0


class Gated(FakeRecommender):
    """Answers once its gate is open."""

    def __init__(self):
        super().__init__()
        self.gate, self.entered = threading.Event(), threading.Event()

    def top_k(self, points, k, exclude=None, allowed=None):
        self.entered.set()
        self.gate.wait(10)
        return super().top_k(points, k, exclude, allowed)


def click(item) -> InlineEvent:
    return InlineEvent(item_id=item, timestamp=5, clicked=True)


def question(item, **changes) -> Question:
    return Question(**{"user_id": None, "at": 10, "events": [click(item)], "k": 3} | changes)


def ask(recommender, *questions, deadline=DEADLINE, queue_max=100, meanwhile=lambda: None):
    """The answers to questions asked at once, of which the first is taken first; ``meanwhile`` runs while they wait."""

    async def all_of_them():
        engine.start()
        asked = [asyncio.ensure_future(engine.answer(questions[0]))]
        while isinstance(recommender, Gated) and not recommender.entered.is_set():  # the first is being answered
            await asyncio.sleep(0.001)
        asked += [asyncio.ensure_future(engine.answer(one)) for one in questions[1:]]
        await asyncio.sleep(0.05)
        meanwhile()
        return await asyncio.gather(*asked, return_exceptions=True)

    telemetry = Telemetry()
    engine = Engine(Service(served_by(recommender), counts=telemetry), telemetry, deadline_s=deadline, queue_max=queue_max)
    try:
        return asyncio.run(all_of_them()), telemetry.render()[0].decode()
    finally:
        getattr(recommender, "gate", threading.Event()).set()
        engine.stop()


def ids(answer) -> list[str]:
    return [item.item_id for item in answer.items]


def test_what_waits_is_answered_together_and_each_as_if_it_came_alone():
    recommender = Gated()
    asked = [question(item, k=1 + place % 4) for place, item in enumerate([*ITEMS, *ITEMS, *ITEMS, *ITEMS])]
    answers, _ = ask(recommender, *asked, meanwhile=recommender.gate.set)
    for one, answer in zip(asked, answers, strict=True):
        assert ids(answer) == expected_ranking([(one.events[0].item_id, True)])[: one.k]
        assert (answer.source, answer.fallback) == ("model", None)
    sizes = [len(points) for points in recommender.asked]
    assert sum(sizes) == len(asked)
    assert max(sizes) == MAX_BATCH


def test_a_late_answer_is_the_popular_items_at_the_deadline_with_the_filters_kept():
    recommender = Gated()
    began = time.monotonic()
    (late, filtered), metrics = ask(recommender, question("i9"), question("i9", exclude=["i1"], only=["i1", "i4"]), deadline=0.2)
    assert 0.15 < time.monotonic() - began < 3
    assert (late.source, late.fallback, ids(late)) == ("popular", "deadline", ["i1", "i2", "i3"])
    assert (filtered.fallback, ids(filtered)) == ("deadline", ["i4"])
    assert 'xdm_answers_total{fallback="deadline",source="popular"} 2.0' in metrics


def test_more_questions_than_may_wait_are_answered_at_once_without_the_model():
    recommender = Gated()
    answers, metrics = ask(recommender, *[question("i9") for _ in range(31)], queue_max=10, meanwhile=recommender.gate.set)
    assert [answer.fallback for answer in answers] == [None] * 11 + ["overload"] * 20
    assert [ids(answer)[0] for answer in answers] == ["i9"] * 11 + ["i1"] * 20
    assert 'xdm_answers_total{fallback="overload",source="popular"} 20.0' in metrics


def test_one_bad_question_takes_no_other_with_it():
    class Picky(FakeRecommender):
        def top_k(self, points, k, exclude=None, allowed=None):
            if (points.events.item == 7).any():
                raise RuntimeError("it does not like i7")
            return super().top_k(points, k, exclude, allowed)

    (good, failed, refused), _ = ask(Picky(), question("i3"), question("i7"), question("i3", where={"size": ["1"]}))
    assert (ids(good)[0], good.fallback) == ("i3", None)
    assert (ids(failed)[0], failed.fallback) == ("i1", "model")
    assert isinstance(refused, UsageError)


def test_an_index_that_fails_is_gone_round():
    class Served(FakeRecommender):
        pass

    served = served_by(Served())
    search = served.catalogue.top_k

    def top_k(points, k, exclude=None, allowed=None, *, exact=False):
        if not exact:
            raise RuntimeError("the index is broken")
        return search(points, k, exclude, allowed)

    served.catalogue.top_k = top_k
    telemetry = Telemetry()
    answer = Service(served, counts=telemetry).recommend(None, at=10, k=1, events=[click("i5")])
    assert (ids(answer), answer.source, answer.fallback) == (["i5"], "model", "index")
    assert 'xdm_faults_total{kind="index"} 1.0' in telemetry.render()[0].decode()


@pytest.mark.parametrize(("user", "events", "reason"), [
    ("nobody", [], "unknown_user"), ("u1", [], "empty_history"),
    ("nobody", [InlineEvent(item_id="i1", timestamp=5, clicked=False)], "empty_history"),
])  # fmt: skip
def test_why_there_was_nothing_to_go_by_is_said(user, events, reason):
    class NeedsClicks(FakeRecommender):
        def top_k(self, points, k, exclude=None, allowed=None):
            top = super().top_k(points, k, exclude, allowed)
            top.source[:] = 0 if points.events.clicked.any() else 1
            return top

    answer = Service(served_by(NeedsClicks())).recommend(user, at=10, events=events)
    assert (answer.source, answer.fallback) == ("popular", reason)


def test_a_stopped_engine_has_answered_what_waited():
    recommender = FakeRecommender()
    telemetry = Telemetry()
    engine = Engine(Service(served_by(recommender)), telemetry, deadline_s=DEADLINE, queue_max=1000)

    async def ask_and_stop():
        asked = [asyncio.ensure_future(engine.answer(question("i2"))) for _ in range(100)]
        await asyncio.sleep(0)
        engine.start()
        await asyncio.get_running_loop().run_in_executor(None, engine.stop)
        return await asyncio.gather(*asked)

    assert {ids(answer)[0] for answer in asyncio.run(ask_and_stop())} == {"i2"}


def test_a_stuck_search_is_told_to_whoever_watches(monkeypatch, tmp_path):
    from fastapi.testclient import TestClient

    from tests.serving.fakes import opened_over
    from xdm.serving.app import create_app
    from xdm.serving.routes import health
    from xdm.serving.settings import ServeSettings
    from xdm.serving.state import SqliteState

    recommender = Gated()
    opened = opened_over(served_by(recommender), tmp_path, state=SqliteState(tmp_path / "s.sqlite"))
    monkeypatch.setattr(health, "STUCK_SECONDS", 0.2)
    with TestClient(create_app(opened, ServeSettings(deadline_ms=50))) as client:
        assert client.get("/health/live").status_code == 200
        assert client.post("/v1/recommend", json={"user_id": "u1"}).json()["fallback"] == "deadline"
        time.sleep(0.3)
        assert client.get("/health/live").status_code == 503
        recommender.gate.set()
        time.sleep(0.1)
        assert client.get("/health/live").status_code == 200
