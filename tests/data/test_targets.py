"""N next clicks as targets: those of the same user or session, against a loop over the log."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.behaviours import oracle
from tests.data.records import training_rows
from tests.learning import memory_store
from xdm.behaviours.rules import BehaviourRules

RULES = BehaviourRules(session_gap=5, session_max=3)
event = st.tuples(st.integers(1, 8), st.integers(0, 40), st.booleans(), st.none())
log = st.lists(st.lists(event, max_size=20), min_size=1, max_size=3)


def expected(users, until, scope, n, min_clicks):
    """``(user, the label's item and the n - 1 after it)`` of every label; None where there is none."""
    clicks = Counter(item for user in users for item, time, clicked, _ in user if clicked and time < until)
    found = Counter()
    for number, user in enumerate(users, start=1):
        in_order = [one for one in sorted(user, key=lambda one: one[1]) if one[2]]
        numbered = [(place, time, session) for place, (_, time, _, session) in enumerate(in_order)]
        sessions = oracle.sessions(numbered, RULES.session_gap, RULES.session_max)
        begins = {click[0]: session[0][0] for session in sessions for click in session}
        for place, (item, time, _, _) in enumerate(in_order):
            seen = oracle.sessions([one for one in numbered if one[1] < time], RULES.session_gap, RULES.session_max)
            if time >= until or not seen or clicks[item] < min_clicks:
                continue
            after = [other for other in range(place, len(in_order)) if in_order[other][1] < until]
            if scope == "session":
                if begins[place] != seen[-1][0][0]:
                    continue
                after = [other for other in after if begins[other] == begins[place]]
            items = [in_order[other][0] for other in after[:n]]
            known = [item if clicks[item] >= min_clicks else None for item in items]
            found[(number, tuple(known + [None] * (n - len(known))))] += 1
    return found


def targets_of(users, until, scope, n, min_clicks, parts):
    store = memory_store(users, parts)
    catalogue, rows = training_rows(store, RULES, until=until, min_clicks=min_clicks, label_scope=scope, n_targets=n)
    found = Counter()
    for batch, targets in rows.batches(np.arange(rows.n_rows), 3):
        assert targets.shape == (len(batch.row), n)
        for user, row in zip(catalogue.users.vocabulary.external_list(batch.user[batch.row]), targets, strict=True):
            found[(user, tuple(catalogue.items.vocabulary.external_list(row[[place]])[0] if row[place] else None
                               for place in range(n)))] += 1  # fmt: skip
    return found


@settings(max_examples=120, deadline=None)
@given(
    users=log, until=st.integers(1, 45), scope=st.sampled_from(["user", "session"]), n=st.integers(1, 6),
    min_clicks=st.integers(1, 2), parts=st.integers(1, 2),
)  # fmt: skip
def test_targets_are_the_next_clicks_of_the_session_or_user(users, until, scope, n, min_clicks, parts):
    users = [*users, [(1, 0, True, None)] * 2]  # something to learn from
    assert targets_of(users, until, scope, n, min_clicks, parts) == expected(users, until, scope, n, min_clicks)


def test_a_session_ends_where_its_targets_end():
    user = [(item, time, True, None) for item, time in [(1, 0), (2, 3), (3, 4), (4, 20), (5, 22)]]
    found = {scope: targets_of([user], 100, scope, 3, 1, 1) for scope in ("session", "user")}
    assert found["session"] == {(1, (2, 3, None)): 1, (1, (3, None, None)): 1, (1, (5, None, None)): 1}
    assert found["user"] == {(1, (2, 3, 4)): 1, (1, (3, 4, 5)): 1, (1, (4, 5, None)): 1, (1, (5, None, None)): 1}
