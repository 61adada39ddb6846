"""The taste filter against plain enumeration of every course that a taste can take."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdm.simulation import World
from xdm.simulation.beliefs import TasteFilter

probabilities = st.floats(0.01, 0.99)


def enumerate_courses(
    days: int, prior: float, share: float, change: float, likelihood: list[tuple[float, float]]
) -> tuple[float, float]:
    """P(liked on the last day | seen) and P(seen), by every sequence of liked and not liked over the days.

    ``likelihood[day]`` is P(seen on the day) where the topic is not liked, and where it is.
    """
    liked_at_last = total = 0.0
    for course in itertools.product((False, True), repeat=days):
        probability = prior if course[0] else 1 - prior
        for before, after in itertools.pairwise(course):
            drawn = share if after else 1 - share
            probability *= (1 - change) * (before == after) + change * drawn
        for day, liked in enumerate(course):
            probability *= likelihood[day][liked]
        total += probability
        liked_at_last += probability * course[-1]
    return liked_at_last / total, total


@st.composite
def worlds_and_sights(draw: Any) -> tuple[World, list[list[list[bool]]]]:
    """A tiny world, and what was seen on each day of each topic: clicks (True) and skips."""
    world = World(
        days=draw(st.integers(1, 5)), clusters=1, topics=draw(st.integers(2, 3)), share_liked=draw(probabilities),
        click_liked=draw(probabilities), click_other=draw(probabilities), taste_change=draw(st.floats(0, 1)),
    )  # fmt: skip
    seen = st.lists(st.booleans(), max_size=4)
    topics = st.lists(seen, min_size=world.topics, max_size=world.topics)
    return world, draw(st.lists(topics, min_size=world.days, max_size=world.days))


@given(worlds_and_sights())
@settings(max_examples=150, deadline=None)
def test_the_filter_is_the_posterior_of_every_course_summed_up(drawn: tuple[World, list[list[list[bool]]]]) -> None:
    world, sights = drawn
    p, q = world.click_liked, world.click_other
    tastes = TasteFilter(world, users=1)
    for day, topics in enumerate(sights):
        ratio = [sum(math.log(p / q) if click else math.log((1 - p) / (1 - q)) for click in seen) for seen in topics]
        if any(topics):  # days without a sight are left to `move_to`
            tastes.observe(day, np.array([ratio]))
    tastes.move_to(world.days - 1)
    found = tastes.beliefs()
    for topic in range(world.topics):
        likelihood = [
            (
                math.prod(q if click else 1 - q for click in day[topic]),
                math.prod(p if click else 1 - p for click in day[topic]),
            )
            for day in sights
        ]
        expected, total = enumerate_courses(
            world.days, world.first_likes, world.share_liked, world.taste_change, likelihood
        )
        never_liked = math.prod(other for other, _ in likelihood)
        assert found.liked[0, topic] == pytest.approx(expected, rel=1e-6, abs=1e-8)
        assert found.log_evidence[0, topic] == pytest.approx(math.log(total / never_liked), rel=1e-6, abs=1e-8)


def test_first_likes_is_what_the_rule_of_one_topic_makes_of_the_share() -> None:
    for share, topics in ((0.2, 3), (0.6, 2), (1.0, 4), (0.05, 12)):
        world = World(share_liked=share, topics=topics)
        by_topic = 0.0
        for likes in itertools.product((False, True), repeat=topics):
            probability = math.prod(share if one else 1 - share for one in likes)
            by_topic += probability * (likes[0] if any(likes) else 1 / topics)
        assert world.first_likes == pytest.approx(by_topic)


def test_certain_evidence_is_outweighed_by_what_comes_after() -> None:
    world = World(share_liked=1.0, click_liked=1.0, taste_change=1.0)
    tastes = TasteFilter(world, users=2)
    tastes.observe(0, np.full((2, world.n_topics), -np.log(1e9)))
    assert np.isfinite(tastes.log_odds).all()
    tastes.move_to(1)
    assert tastes.beliefs().liked == pytest.approx(1.0)
