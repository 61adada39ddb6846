"""The oracles: their posterior against enumeration, their probabilities against what happened, and what they may see."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.simulation.logs import Log, everyone, make_log
from xdm.evaluation.running import evaluate
from xdm.evaluation.splits import Split, time_boundaries
from xdm.retrieval.types import Points
from xdm.schema import DAY, HOUR, UsageError
from xdm.simulation import World
from xdm.simulation.bayes import BayesRecommender
from xdm.simulation.named import WORLDS
from xdm.simulation.oracle import oracle_recommender
from xdm.simulation.sightings import look_back, visit_clock

TINY = World(
    users=60, days=4, clusters=1, topics=3, items_per_topic=4, share_liked=0.4, click_liked=0.6, click_other=0.1,
    visits=2, least_exposures=2, most_exposures=3,
)  # fmt: skip


def judged(log: Log, *, clicks_only: bool, k: int = 50, baselines: tuple[str, ...] = ()) -> dict[str, Any]:
    _, cut_off, until = time_boundaries(log.store)
    oracle = oracle_recommender(log.world, log.store, clicks_only=clicks_only)
    return evaluate(oracle, log.store, Split("time", cut_off, until), (k,), baselines=baselines)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Log:
    world = WORLDS["reference"].model_copy(update={"users": 4000})
    return make_log(tmp_path_factory.mktemp("reference"), world)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return make_log(tmp_path_factory.mktemp("tiny"), TINY)


def posterior_by_enumeration(world: World, sights: list[tuple[int, bool]]) -> list[float]:
    """P(liked) of each topic of the one cluster, by every set of liked topics; ``sights`` are (topic, clicked)."""
    liked, total = [0.0] * world.topics, 0.0
    for likes in itertools.product((False, True), repeat=world.topics):
        probability = math.prod(world.first_likes if like else 1 - world.first_likes for like in likes)
        for topic, clicked in sights:
            click = world.click_liked if likes[topic] else world.click_other
            probability *= click if clicked else 1 - click
        total += probability
        liked = [sum_ + probability * like for sum_, like in zip(liked, likes, strict=True)]
    return [sum_ / total for sum_ in liked]


def test_the_oracle_s_tastes_are_the_posterior_by_enumeration(tiny: Log) -> None:
    oracle = oracle_recommender(TINY, tiny.store, clicks_only=False)
    categories = tiny.store.items.features["category"]
    for time in (TINY.start, TINY.start + 30 * HOUR, TINY.start + 4 * DAY):
        for events, points in everyone(tiny.store, time):
            seen = look_back(TINY, points, oracle.row_of_item, clicks_only=False)
            found = oracle.beliefs(seen).liked
            for row in range(events.n_users):
                mine = events.of_user(row)
                before = mine.time < time
                topics = [
                    int(name.removeprefix("topic-")) - 1
                    for name in categories.external(categories.codes[mine.item[before]])
                ]
                sights = list(zip(topics, mine.clicked[before].tolist(), strict=True))
                assert found[row] == pytest.approx(posterior_by_enumeration(TINY, sights))


def test_the_visit_clock_by_hand() -> None:
    world = World(days=2, visits=2)  # windows from 7 and from 15 o'clock; visits start before 11 and before 19
    hours = [0, 7, 9, 11, 14.9, 15, 17, 23, 24 + 6, 24 + 9, 48, 60]
    visit, share = visit_clock(world, np.array([world.start + int(hour * HOUR) for hour in hours]))
    assert visit.tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 4, 4]
    assert share.tolist() == [0, 0, 0.5, 1, 1, 0, 0.5, 0, 0, 0.5, 0, 0]


VARIED: list[dict[str, Any]] = [
    {},
    {"skip_information": 0.5},
    {"skip_information": 0.0},
    {"taste_change": 0.3},
    {"exposure_noise": 0.3},
    {"show_again": 0.4, "shown_at_most": 2},
    {"shown_at_most": 1, "popularity_skew": 1.0},
]


@pytest.mark.parametrize("change", VARIED, ids=lambda change: ", ".join(change) or "reference")
@pytest.mark.parametrize("clicks_only", [True, False], ids=["oracle-clicks", "oracle"])
def test_what_is_said_to_be_probable_happens_as_often(
    tmp_path: Path, change: dict[str, Any], clicks_only: bool
) -> None:
    log = make_log(tmp_path, WORLDS["reference"].model_copy(update={"users": 2500, **change}))
    cut_off = log.world.start + (log.world.days - 1) * DAY + 12 * HOUR
    oracle = oracle_recommender(log.world, log.store, clicks_only=clicks_only)
    said, happened = [], []
    for events, points in everyone(log.store, cut_off):
        probability = oracle.probabilities(points)
        clicked = np.zeros(probability.shape, bool)
        for row in range(events.n_users):
            mine = events.of_user(row)
            clicked[row, oracle.row_of_item[mine.item[(mine.time >= cut_off) & mine.clicked]]] = True
        possible = probability >= 0
        assert not clicked[~possible].any()
        said.append(probability[possible])
        happened.append(clicked[possible])
    said, happened = np.concatenate(said), np.concatenate(happened)
    assert happened.sum() == pytest.approx(said.sum(), rel=0.2)
    # From the least to the most probable, in bands of as many clicks each: the ranking is what must be right.
    order = np.argsort(said, kind="stable")
    bands = np.searchsorted(np.cumsum(said[order]), np.linspace(0, said.sum(), 7)[1:-1])
    for some in np.split(order, bands):
        assert happened[some].sum() == pytest.approx(said[some].sum(), rel=0.35, abs=4 * said[some].sum() ** 0.5)


def test_the_reference_world_leaves_room_for_skips(reference: Log) -> None:
    clicks, both = judged(reference, clicks_only=True, baselines=("popularity",)), judged(reference, clicks_only=False)
    assert both["recall@50"] > 1.1 * clicks["recall@50"]
    assert both["hr@50"] > 1.05 * clicks["hr@50"]
    assert clicks["recall@50"] > 1.5 * clicks["baselines"]["popularity"]["recall@50"]


def test_where_skips_are_random_they_are_worth_nothing(tmp_path: Path) -> None:
    log = make_log(tmp_path, WORLDS["skips-random"].model_copy(update={"users": 4000}))
    clicks, both = judged(log, clicks_only=True, baselines=("popularity",)), judged(log, clicks_only=False)
    assert both["recall@50"] == pytest.approx(clicks["recall@50"], rel=0.015)
    assert clicks["recall@50"] > 1.5 * clicks["baselines"]["popularity"]["recall@50"]


@pytest.mark.parametrize("clicks_only", [True, False])
def test_nothing_at_or_after_the_question_is_seen(tiny: Log, clicks_only: bool) -> None:
    oracle = oracle_recommender(TINY, tiny.store, clicks_only=clicks_only)
    time = TINY.start + 2 * DAY + 10 * HOUR
    for events, points in everyone(tiny.store, time):
        now_or_later = np.asarray(events.time) >= time
        changed = replace(
            events,
            item=np.where(now_or_later, 1 + events.item % len(oracle.catalogue), events.item).astype(np.int32),
            clicked=np.asarray(events.clicked) ^ now_or_later,
        )
        assert now_or_later.any()
        assert np.array_equal(oracle.probabilities(points), oracle.probabilities(replace(points, events=changed)))


def test_without_skips_means_without_skips(tiny: Log) -> None:
    oracle = oracle_recommender(TINY, tiny.store, clicks_only=True)
    for events, points in everyone(tiny.store, TINY.start + 3 * DAY):
        clicked = np.asarray(events.clicked)
        kept = np.concatenate([[0], np.cumsum(clicked)]).astype(np.int64)
        clicks = replace(
            events, item=events.item[clicked], time=events.time[clicked], clicked=events.clicked[clicked],
            session=events.session[clicked], offsets=kept[events.offsets],
        )  # fmt: skip
        assert np.array_equal(oracle.probabilities(points), oracle.probabilities(replace(points, events=clicks)))


@pytest.mark.parametrize("clicks_only", [True, False])
def test_lists_are_sorted_whole_and_without_what_is_excluded(tiny: Log, clicks_only: bool) -> None:
    oracle: BayesRecommender = oracle_recommender(TINY, tiny.store, clicks_only=clicks_only)
    n_items = len(oracle.catalogue)
    for events, points in everyone(tiny.store, TINY.start + 3 * DAY):
        answer = oracle.top_k(points, n_items + 2)
        assert (np.sort(answer.items[:, :n_items], axis=1) == np.arange(1, n_items + 1)).all()
        assert (answer.items[:, n_items:] == 0).all()
        assert np.isneginf(answer.scores[:, n_items:]).all()
        assert (np.diff(answer.scores[:, :n_items], axis=1) <= 0).all()
        excluded = [answer.items[row, : row % 4] for row in range(len(points))]
        shorter = oracle.top_k(points, n_items, excluded)
        for row in range(len(points)):
            rest = [item for item in answer.items[row, :n_items] if item not in excluded[row]]
            assert shorter.items[row].tolist() == rest + [0] * len(excluded[row])
            mine = events.of_user(row)
            clicked = set(mine.item[mine.clicked & (mine.time < points.time[row])].tolist())
            last = answer.items[row, n_items - len(clicked) : n_items]
            assert set(last.tolist()) == clicked


def test_a_user_without_events_gets_popular_items_of_any_cluster(reference: Log) -> None:
    world = reference.world
    for clicks_only in (True, False):
        oracle = oracle_recommender(world, reference.store, clicks_only=clicks_only)
        events = reference.store.part(0)
        first = Points(events, np.array([0]), np.array([1], np.int32), np.array([world.start]))
        probability = oracle.probabilities(first)[0]
        expected = np.argsort(-oracle.weight.ravel(), kind="stable")
        assert probability[expected] == pytest.approx(np.sort(probability)[::-1], rel=1e-6)


def test_a_noisy_cluster_is_inferred_as_surely_as_said(tmp_path: Path) -> None:
    log = make_log(tmp_path, WORLDS["noisy"].model_copy(update={"users": 800}))
    likes = log.likes(1)
    oracle = oracle_recommender(log.world, log.store, clicks_only=False)
    said, right = [], []
    for first, (events, points) in zip(
        log.store.first_users, everyone(log.store, log.world.start + 10 * HOUR), strict=False
    ):
        seen = look_back(log.world, points, oracle.row_of_item, clicks_only=False)
        probability = oracle.clusters(seen, oracle.beliefs(seen))
        ids = log.store.users.vocabulary.external_list(first + np.arange(events.n_users) + 1)
        true = {user: (int(topic.removeprefix("topic-")) - 1) // log.world.topics for user, topic in likes}
        said.append(probability.max(axis=1))
        right.append(probability.argmax(axis=1) == [true[user] for user in ids])
    said, right = np.concatenate(said), np.concatenate(right)
    assert np.mean(right) == pytest.approx(np.mean(said), abs=0.05)
    assert np.mean(right[said > 0.99]) > 0.97


def test_a_store_of_another_world_is_refused(tiny: Log) -> None:
    with pytest.raises(UsageError, match="no log of this world"):
        oracle_recommender(TINY.model_copy(update={"items_per_topic": 2}), tiny.store, clicks_only=True)
