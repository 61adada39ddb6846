"""The catalogue against plain Python counts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.learning import category_of, memory_store
from xdm.data.catalogue import build_catalogue
from xdm.schema import UsageError

event = st.tuples(st.integers(1, 12), st.integers(0, 20), st.booleans(), st.none())


@settings(max_examples=150, deadline=None)
@given(
    users=st.lists(st.lists(event, max_size=20), min_size=1, max_size=4), until=st.integers(1, 25),
    min_clicks=st.integers(1, 3), parts=st.integers(1, 3),
)  # fmt: skip
def test_items_shown_before_the_end_by_falling_clicks(users, until, min_clicks, parts):
    users = [*users, [(7, 0, True, None)] * 3]
    before = [event for user in users for event in user if event[1] < until]
    exposures, clicks = Counter(event[0] for event in before), Counter(event[0] for event in before if event[2])
    wanted = sorted(exposures, key=lambda item: (-clicks[item], -exposures[item], item))
    store = memory_store(users, parts)
    catalogue = build_catalogue(store, until, min_clicks)
    assert catalogue.items.vocabulary.ids.to_pylist() == wanted
    assert catalogue.items.counts("clicks")[1:].tolist() == [clicks[item] for item in wanted]
    assert catalogue.items.counts("exposures")[1:].tolist() == [exposures[item] for item in wanted]
    assert catalogue.n_candidates == sum(clicks[item] >= min_clicks for item in wanted)
    assert catalogue.items.table["category"].to_pylist() == [category_of(item) for item in wanted]
    in_store = store.items.vocabulary.ids.to_pylist()
    assert catalogue.of_store.tolist() == [0] + [wanted.index(i) + 1 if i in wanted else 0 for i in in_store]
    assert catalogue.n_users == len(users)


@pytest.mark.parametrize(("until", "min_clicks"), [(5, 1), (100, 2)])
def test_nothing_to_learn_from_is_said(until, min_clicks):
    store = memory_store([[(1, 5, True, None), (2, 0, False, None)]])
    with pytest.raises(UsageError, match=f"no item of memory has {min_clicks} clicks before {until}"):
        build_catalogue(store, until, min_clicks)


def test_over_the_whole_log_it_holds_all_items_of_the_store(simulated):
    from xdm.log.store import Store

    store = Store(simulated)
    catalogue = build_catalogue(store, store.time_range[1] + 1)
    # over the whole log it is a reordering of the store's own items
    assert sorted(catalogue.items.vocabulary.ids.to_pylist()) == sorted(store.items.vocabulary.ids.to_pylist())
    assert catalogue.items.counts("clicks").sum() == store.items.counts("clicks").sum()
    assert (np.diff(catalogue.items.counts("clicks")[1:]) <= 0).all()
