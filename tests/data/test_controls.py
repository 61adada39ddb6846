"""What stands in the place of unclicked sequences: never the own one, of the right length, nothing from the future."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.records import training_rows
from tests.learning import memory_store
from xdm.behaviours.points import take_lists
from xdm.behaviours.rules import BehaviourRules
from xdm.data.controls import LIVE_ITEMS, LIVE_STEP, LIVE_WINDOW, Control, LiveItems, control_of
from xdm.schema import InternalError

TIMES = np.zeros(0, np.int64)


def flat(lists):
    offsets = np.cumsum([0] + [len(one) for one in lists]).astype(np.int64)
    return offsets, np.array([item for one in lists for item in one], np.int32)


def read(lists, which):
    offsets, values = take_lists(*lists, which)
    return [values[begin:end].tolist() for begin, end in pairwise(offsets)]


@settings(max_examples=100, deadline=None)
@given(owner=st.lists(st.integers(0, 4), min_size=1, max_size=30), seed=st.integers(0, 99))
def test_shuffled_lists_are_another_users_or_empty(owner, seed):
    rng = np.random.default_rng(seed)
    owner = np.array(owner)
    # every list names its user and nothing else, so that it tells whose it is
    own = flat([[user + 1] * int(rng.integers(1, 4)) for user in owner.tolist()])
    given_lists = read(*Control("shuffled", 9).lists(own, owner, TIMES))
    assert all(user + 1 not in items for user, items in zip(owner.tolist(), given_lists, strict=True))
    if max(Counter(owner.tolist()).values()) * 2 <= len(owner):
        assert all(given_lists)  # enough others: nobody goes without


def test_random_lists_are_as_long_and_even_over_the_catalogue():
    own = flat([[1] * n for n in (0, 5000, 3, 20000)])
    lists = read(*Control("random", 10).lists(own, np.arange(4), TIMES))
    assert [len(one) for one in lists] == [0, 5000, 3, 20000]
    counts = Counter(lists[3])
    assert set(counts) == set(range(1, 11))
    assert max(counts.values()) < 1.1 * 2000


def live_world():
    """Item 1 is clicked early, item 2 twice and item 3 once within four hours of 20,000; item 4 is only shown."""
    start = 20_000 - LIVE_WINDOW
    clicks = [(1, start - 700, True, None), (2, start + 1000, True, None), (3, start + 2000, True, None)]
    more = [(2, start + 3000, True, None), (4, start + 4000, False, None), (1, 20_600, True, None), (5, 30_000, True, None)]
    return memory_store([clicks, more])


def test_live_items_are_the_most_clicked_before_the_step_and_nothing_after_the_cut():
    store = live_world()
    catalogue, _ = training_rows(store, BehaviourRules(), until=40_000)
    ids = catalogue.items.vocabulary.external_list

    def at(time, until=40_000):
        lists, which = LiveItems(store, catalogue, until).lists(np.array([time]))
        return ids(np.array(read(lists, which)[0], np.int64))

    assert at(20_000 // LIVE_STEP * LIVE_STEP) == [3, 2]  # the most clicked comes last, as the latest does in a sequence
    assert at(0) == []
    assert 5 in at(31_000)
    assert 5 not in at(31_000, until=30_000)  # at the cut and after: unknown
    assert at(60_000, until=21_000) == at(21_000)


def test_what_comes_later_changes_no_live_list():
    rng = np.random.default_rng(0)
    past = [(int(rng.integers(1, 12)), int(rng.integers(0, 20_000)), True, None) for _ in range(200)]
    future = [(int(rng.integers(1, 12)), int(rng.integers(20_000, 40_000)), True, None) for _ in range(200)]
    times = np.arange(0, 20_001, 500)
    found = []
    for events in (past, past + future):
        store = memory_store([events])
        catalogue, _ = training_rows(store, BehaviourRules(), until=40_000)
        lists = read(*LiveItems(store, catalogue, 40_000).lists(times))
        found.append([{*catalogue.items.vocabulary.external_list(np.array(one, np.int64))} for one in lists])
    assert found[0] == found[1]
    assert max(map(len, found[0])) <= LIVE_ITEMS


@pytest.mark.parametrize("source", ["shuffled", "random", "live"])
@pytest.mark.parametrize("unclicked_at", ["label", "session"])
def test_training_rows_get_the_control_and_keep_everything_else(source, unclicked_at):
    rng = np.random.default_rng(1)
    users = [[(int(rng.integers(1, 12)), 400 * n, bool(n % 3 == 0), None) for n in range(40)] for _ in range(4)]
    store = memory_store(users)
    catalogue, own = training_rows(store, BehaviourRules(), until=20_000, unclicked_at=unclicked_at)
    _, other = training_rows(
        store, BehaviourRules(), until=20_000, unclicked_at=unclicked_at, control=control_of(source, store, catalogue, 20_000)
    )
    pairs = list(zip(own.batches(np.arange(own.n_rows), 50), other.batches(np.arange(other.n_rows), 50), strict=True))
    for (mine, labels), (theirs, same) in pairs:
        assert np.array_equal(labels, same)
        for field in ("short", "long", "user", "row", "position"):
            assert np.array_equal(getattr(mine, field), getattr(theirs, field))
        assert not np.array_equal(mine.unclicked, theirs.unclicked)
        assert len(theirs.unclicked)


def test_a_control_without_what_it_needs_is_a_fault():
    with pytest.raises(InternalError):
        Control("own", 5)
    with pytest.raises(InternalError):
        Control("live", 5)
