"""The kernel against the oracle, on random logs and at each boundary of the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.behaviours import oracle
from xdm.behaviours.points import FeatureTable, behaviours
from xdm.behaviours.rules import BehaviourRules
from xdm.log.store import Events

N_ITEMS = 12
CATEGORY = np.array([0, 1, 1, 2, 2, 3, 0, 3, 1, 2, 4, 4, 5], np.int32)  # items 6 has none
TABLE = FeatureTable(("item_id", "category"), np.stack([np.arange(N_ITEMS + 1, dtype=np.int32), CATEGORY]))
FEATURES = {"item_id": lambda item: item, "category": lambda item: int(CATEGORY[item]) or None}
SMALL = BehaviourRules(
    session_gap=5, session_max=3, long_window=30, long_max=3, unclicked_window=20, unclicked_k=1, unclicked_max=4
)


def events_of(users):
    """Columns of many users from lists of ``(item, time, clicked, session or None)`` in log order."""
    flat, offsets = [], [0]
    for user in users:
        flat += sorted(user, key=lambda event: event[1])
        offsets.append(len(flat))
    session = [-1 if event[3] is None else event[3] for event in flat]
    return Events(
        np.array([e[0] for e in flat], np.int32), np.array([e[1] for e in flat], np.int64),
        np.array([e[2] for e in flat], np.bool_), np.array(session, np.int32), np.array(offsets, np.int64),
    )  # fmt: skip


def answer(found, q):
    return {
        "short": found.short_term(q).tolist(),
        "sessions": found.sessions(q).tolist(),
        "long": {name: found.long_term(q, f).tolist() for f, name in enumerate(found.feature_names)},
        "unclicked": found.unclicked(q).tolist(),
        "stream": list(zip(*(column.tolist() for column in found.exposures(q)), strict=True)),
    }


def one(events, t, rules=SMALL):
    """Kernel and oracle agree on one user at one time; the answer."""
    found = answer(behaviours(events_of([events]), [0], [t], TABLE, rules), 0)
    assert found == oracle.behaviours(events, t, rules, FEATURES)
    return found


event = st.tuples(st.integers(1, N_ITEMS), st.integers(0, 60), st.booleans(), st.one_of(st.none(), st.integers(0, 2)))
rules_strategy = st.builds(
    BehaviourRules, session_gap=st.integers(1, 12), session_max=st.integers(1, 5), history_max=st.integers(0, 4),
    long_window=st.integers(0, 40), long_max=st.integers(1, 5), unclicked_window=st.integers(1, 40), unclicked_k=st.integers(0, 3),
    unclicked_max=st.integers(1, 6), keep_clicked=st.booleans(), stream_max=st.integers(0, 5),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    users=st.lists(st.lists(event, max_size=60), min_size=1, max_size=4),
    asked=st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 75)), min_size=1, max_size=12),
    rules=rules_strategy,
)
def test_equals_the_oracle_on_random_logs(users, asked, rules):
    asked = [(row % len(users), t) for row, t in asked]
    found = behaviours(events_of(users), [row for row, _ in asked], [t for _, t in asked], TABLE, rules)
    for q, (row, t) in enumerate(asked):
        assert answer(found, q) == oracle.behaviours(users[row], t, rules, FEATURES)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_oracle_for_users_with_thousands_of_events(seed):
    rng = np.random.default_rng(seed)
    n, rules = 5000, BehaviourRules()
    times = np.sort(
        rng.integers(1_600_000_000, 1_600_000_000 + 12 * 86400, n) // (60 if seed else 1) * (60 if seed else 1)
    )
    items = (rng.zipf(1.3, n) % 400 + 1).tolist()
    clicked = (rng.random(n) < (0.3 if seed == 2 else 0.03)).tolist()
    user = [(i, int(t), c, None) for i, t, c in zip(items, times, clicked, strict=True)]
    table = FeatureTable(("item_id", "category"), np.stack([np.arange(401), np.arange(401) % 17]).astype(np.int32))
    features = {"item_id": lambda item: item, "category": lambda item: item % 17 or None}
    asked = sorted([*rng.choice(times, 40).tolist(), int(times[-1]) + 1, int(times[0]), int(times[0]) + 3 * 86400])
    found = behaviours(events_of([user]), [0] * len(asked), asked, table, rules)
    longest = 0
    for q, t in enumerate(asked):
        wanted = oracle.behaviours(user, t, rules, features)
        assert answer(found, q) == wanted
        longest = max(longest, len(wanted["unclicked"]))
    assert seed or longest == rules.unclicked_max  # the cut at unclicked_max was reached


def test_an_event_at_t_is_invisible_and_one_second_before_is_not():
    events = [(1, 10, True, None), (2, 10, False, None), (2, 10, False, None)]
    assert one(events, 10) == {"short": [], "sessions": [], "long": {"item_id": [], "category": []}, "unclicked": [], "stream": []}
    assert one(events, 11) == {"short": [1], "sessions": [1], "long": {"item_id": [], "category": []}, "unclicked": [2], "stream": []}


def test_session_gap_is_strict():
    assert one([(1, 0, True, None), (2, 4, True, None)], 50)["short"] == [1, 2]
    assert one([(1, 0, True, None), (2, 5, True, None)], 50)["short"] == [2]


def test_equal_session_ids_join_over_any_gap_and_missing_ones_never():
    assert one([(1, 0, True, 7), (2, 40, True, 7)], 50)["short"] == [1, 2]
    assert one([(1, 0, True, None), (2, 40, True, None)], 50)["short"] == [2]
    assert one([(1, 0, True, 7), (2, 1, True, 8)], 50)["short"] == [1, 2]  # other ids, but near


def test_a_full_session_opens_a_new_one_and_becomes_long_term():
    events = [(item, 0, True, None) for item in (1, 2, 3, 4)]
    long = {"item_id": [3, 2, 1], "category": [2, 1]}
    assert one(events, 1) == {"short": [4], "sessions": [1], "long": long, "unclicked": [], "stream": []}


def test_sessions_of_more_than_fifty_clicks_are_cut_at_fifty():
    events = [(c % N_ITEMS + 1, c, True, None) for c in range(120)]
    found = one(events, 1000, BehaviourRules())
    assert found["short"] == [c % N_ITEMS + 1 for c in range(100, 120)]
    assert len(one(events[:100], 1000, BehaviourRules())["short"]) == 50


def test_long_window_reaches_back_from_the_first_click_of_the_session_inclusively():
    events = [(1, 0, True, None), (2, 30, True, None), (3, 33, True, None)]
    assert one(events, 100)["long"]["item_id"] == [1]
    assert one([(1, -1 + 1, True, None), (2, 31, True, None)], 100)["long"]["item_id"] == []


def test_long_lists_hold_distinct_values_most_recent_first():
    events = [(1, 0, True, None), (3, 6, True, None), (1, 12, True, None), (5, 20, True, None)]
    assert one(events, 100)["long"] == {"item_id": [1, 3], "category": [1, 2]}


def test_unclicked_window_is_closed_below_and_open_above():
    events = [(1, 0, False, None), (1, 5, False, None)]
    assert one(events, 20)["unclicked"] == [1]
    assert one(events, 21)["unclicked"] == []


def test_a_click_in_the_window_removes_and_its_leaving_brings_back_in_order():
    events = [(1, 0, True, None), (1, 5, False, None), (2, 6, False, None), (1, 7, False, None), (2, 8, False, None)]
    assert one(events, 20)["unclicked"] == [2]
    assert one(events, 21)["unclicked"] == [1, 2]  # the click left; item 1 was last shown before item 2


def test_exactly_k_exposures_are_not_enough():
    assert one([(1, 0, False, None)], 5)["unclicked"] == []
    assert one([(1, 0, False, None)], 5, SMALL.model_copy(update={"unclicked_k": 0}))["unclicked"] == [1]


def test_latest_are_kept_oldest_first():
    events = [(item, time, False, None) for time in (1, 2) for item in range(1, 8)]
    assert one(events, 5)["unclicked"] == [4, 5, 6, 7]


@settings(max_examples=200, deadline=None)
@given(
    past=st.lists(event, max_size=40), future=st.lists(event, max_size=20), t=st.integers(0, 60), rules=rules_strategy
)
def test_nothing_at_or_after_t_changes_anything(past, future, t, rules):
    past = [e for e in past if e[1] < t]
    future = [(item, max(time, t), clicked, session) for item, time, clicked, session in future]
    alone = behaviours(events_of([past]), [0], [t], TABLE, rules)
    together = behaviours(events_of([past + future]), [0], [t], TABLE, rules)
    assert answer(alone, 0) == answer(together, 0)


def test_a_stream_begins_at_a_whole_block_and_keeps_its_beginning_while_it_grows():
    events = [(item % N_ITEMS + 1, item, item % 3 == 0, None) for item in range(9)]
    rules = SMALL.model_copy(update={"stream_max": 3})
    lengths = [len(one(events, t, rules)["stream"]) for t in range(10)]
    assert lengths == [0, 1, 2, 3, 4, 5, 3, 4, 5, 3]
