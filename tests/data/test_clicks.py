"""The training part as a whole: its clicks in the order of time, and nothing at or after its end."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.records import training_rows
from tests.learning import memory_store
from xdm.behaviours.rules import BehaviourRules

EVENTS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 40), st.booleans(), st.none()), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=4), st.integers(1, 45), st.integers(1, 3))
def test_all_clicks_before_the_end_in_the_order_of_time(users, until, parts):
    flat = [(user, *event) for user, events in enumerate(users, 1) for event in events]
    wanted = [(user, item, time) for user, item, time, clicked, _ in flat if clicked and time < until]
    if not wanted:
        return
    catalogue, rows = training_rows(memory_store(users, parts), BehaviourRules(), until)
    clicks = rows.log.clicks
    assert rows.log.until == until
    assert (np.diff(clicks.time) >= 0).all()
    users_of = catalogue.users.vocabulary.external_list(clicks.user)
    items_of = catalogue.items.vocabulary.external_list(clicks.item)
    assert sorted(zip(users_of, items_of, clicks.time.tolist(), strict=True)) == sorted(wanted)
