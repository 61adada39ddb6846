"""What may be deleted of a user's past: the kernel answers the same without it, and what is left is little."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.behaviours import oracle
from tests.behaviours.test_kernel import FEATURES, TABLE, answer, event, events_of, rules_strategy
from xdm.behaviours.points import behaviours
from xdm.behaviours.retention import needed_from
from xdm.behaviours.rules import BehaviourRules

NOW = 40
known_or_not = st.tuples(st.integers(0, 12), st.integers(0, 75), st.booleans(), st.one_of(st.none(), st.integers(0, 2)))


def kernel(events: list, rule: BehaviourRules) -> list[dict]:
    """The kernel's answers at every second from `NOW` on; as everywhere, events of unknown items never reach it."""
    known = events_of([events]).in_catalogue(np.arange(13, dtype=np.int32))
    asked = range(NOW, 130)
    found = behaviours(known, [0] * len(asked), asked, TABLE, rule)
    return [answer(found, q) for q in range(len(asked))]


def check(past: list, later: list, rules: list[BehaviourRules], before: list | None = None) -> int:
    """Every answer from now on is the same without what is not needed; returns how many events that are."""
    before, past = before or [], sorted(past, key=lambda e: e[1])
    place = needed_from(events_of([past]), NOW, rules)
    assert 0 <= place <= sum(e[1] < NOW for e in past)
    for rule in rules:
        assert kernel([*before, *past[place:], *later], rule) == kernel([*before, *past, *later], rule)
    return place


@settings(max_examples=100, deadline=None)
@given(
    past=st.lists(known_or_not, max_size=40),
    later=st.lists(known_or_not.map(lambda e: (e[0], e[1] + NOW, *e[2:])), max_size=15),
    rules=st.lists(rules_strategy, min_size=1, max_size=2),
)
def test_without_what_is_not_needed_every_later_answer_is_the_same(past, later, rules):
    check(past, later, rules)


@pytest.mark.parametrize("seed", range(2))
def test_the_same_for_busy_users(seed):
    """Long chains of clicks and windows that end within them, which properties seldom come upon; before the events that
    are looked at there may be a store's, which nobody counts."""
    rng, cut = random.Random(seed), 0
    for _ in range(200):
        rule = BehaviourRules(
            session_gap=rng.randint(1, 12), session_max=rng.randint(1, 5), history_max=rng.choice([0, 0, 0, 3]),
            long_window=rng.randint(0, 30), unclicked_window=rng.randint(1, 20), stream_max=rng.choice([0, 0, 1, 3, 4]),
        )  # fmt: skip
        clicked, named, until = rng.random(), rng.choice([0.0, 0.3]), rng.choice([30, 75])
        log = [
            (rng.randint(0, 12), rng.randrange(until), rng.random() < clicked, rng.randint(0, 2) if rng.random() < named else None)
            for _ in range(rng.randint(10, 50))
        ]  # fmt: skip
        arrived = rng.randint(10, 50)
        later = [(item, NOW + time, *rest) for item, time, *rest in log[arrived:]]
        store = [
            (rng.randint(1, 12), -rng.randint(1, 20), rng.random() < clicked, None)
            for _ in range(rng.choice([0, 7, 15]))
        ]
        cut += check(log[:arrived], later, [rule], store)
    assert cut > 200


@settings(max_examples=150, deadline=None)
@given(
    past=st.lists(event, max_size=40), rule=rules_strategy.map(lambda rule: rule.model_copy(update={"stream_max": 0}))
)
def test_no_place_after_it_would_do_but_within_a_chain_of_clicks(past, rule):
    """One event more is cut: either an answer at a later time differs from the oracle's, or the cut parts a chain."""
    held = sorted((e for e in past if e[1] < NOW), key=lambda e: e[1])
    place = needed_from(events_of([held]), NOW, [rule])
    clicks = [number for number, e in enumerate(held) if e[2]]
    for further in range(place + 1, len(held) + 1):
        before, after = [c for c in clicks if c < further], [c for c in clicks if c >= further]
        within = bool(before and after) and (
            held[after[0]][1] - held[before[-1]][1] < rule.session_gap
            or (held[after[0]][3] is not None and held[after[0]][3] == held[before[-1]][3])
        )  # fmt: skip
        lost = held[place:further]
        in_reach = any(e[1] >= NOW - rule.unclicked_window for e in lost)
        short = oracle.behaviours(held, NOW, rule, FEATURES)["short"]
        opening = held[clicks[-len(short)]][1] if short else None
        in_reach |= opening is not None and any(e[1] >= opening - rule.long_window for e in lost)
        in_reach |= bool(short) and clicks[-len(short)] < further
        assert within or in_reach


RULES = BehaviourRules(session_gap=600, session_max=3, long_window=3600, unclicked_window=1800)


@pytest.mark.parametrize(
    ("clicks", "skips", "now", "first_needed"),
    [
        ([], [], 10_000, None),
        ([], [100, 8199], 10_000, None),  # no skip is within the window
        ([], [100, 8200, 8300], 10_000, 8200),  # the window's first second counts
        ([100, 5000], [], 10**6, 5000),  # the latest session, however old
        ([1400, 5000], [], 10**6, 1400),  # the long-term window ends on this second
        ([1399, 5000], [], 10**6, 5000),
        ([100, 5000, 5100, 5200, 5300], [], 10**6, 5000),  # 5300 opens a session, but is in one chain with those before
        ([100, 5000], [50, 1350, 1400], 10**6, 1400),  # skips that lie where the long-term window does stay
        ([5000, 20_000], [], 10_000, 5000),  # what is dated later changes nothing now
    ],
)
def test_at_the_edges(clicks, skips, now, first_needed):
    held = events_of([[(1, t, True, None) for t in clicks] + [(2, t, False, None) for t in skips]])
    place = needed_from(held, now, [RULES])
    if first_needed is None:
        assert place == len(held)
    else:
        assert held.time[place:].tolist()[:1] == [first_needed]


def test_histories_and_streams_keep_what_they_count():
    held = events_of([[(1, 1000 * n, n % 2 == 0, None) for n in range(100)]])
    history = BehaviourRules(history_max=5, long_window=0, unclicked_window=1)
    assert needed_from(held, 10**6, [history]) == 90  # clicks at 90, 92, 94, 96, 98
    stream = BehaviourRules(stream_max=30, long_window=0, unclicked_window=1)
    assert (
        needed_from(held, 10**6, [stream]) == 30
    )  # of three blocks a stream holds two, with a store's before them three
    assert needed_from(held, 10**6, [history, stream]) == 30


def test_unknown_items_neither_open_a_session_nor_count_in_a_stream():
    held = events_of([[(1, 0, True, None), (0, 5000, True, None), (0, 6000, True, None)]])
    assert needed_from(held, 10**6, [RULES]) == 0
    assert needed_from(held, 10**6, [RULES.model_copy(update={"stream_max": 1})]) == 0
