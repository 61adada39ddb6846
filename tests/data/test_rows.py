"""Training rows against the oracle, and: nothing at or after a label's time is ever seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.records import expected, records, training_rows
from tests.learning import memory_store
from xdm.behaviours.rules import BehaviourRules
from xdm.data.rows import TrainingRows
from xdm.log.store import Store

RULES = BehaviourRules(
    session_gap=5, session_max=3, long_window=30, long_max=3, unclicked_window=20, unclicked_k=1, unclicked_max=4
)
LABEL = 99  # an item of its own, so that one label can be found among all others

event = st.tuples(st.integers(1, 12), st.integers(0, 60), st.booleans(), st.one_of(st.none(), st.integers(0, 2)))
log = st.lists(st.lists(event, max_size=30), min_size=1, max_size=4)
options = st.fixed_dictionaries({
    "label_scope": st.sampled_from(["user", "session"]), "unclicked_at": st.sampled_from(["label", "session"]),
})  # fmt: skip
rules_strategy = st.builds(
    BehaviourRules, session_gap=st.integers(1, 12), session_max=st.integers(1, 5), history_max=st.integers(0, 4),
    long_window=st.integers(0, 40), long_max=st.integers(1, 5), unclicked_window=st.integers(1, 40), unclicked_k=st.integers(0, 3),
    unclicked_max=st.integers(1, 6), keep_clicked=st.booleans(), stream_max=st.integers(0, 5),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    users=log, rules=rules_strategy, options=options, until=st.integers(1, 70), first=st.integers(0, 40),
    min_clicks=st.integers(1, 3), parts=st.integers(1, 3),
)  # fmt: skip
def test_every_label_sees_what_the_oracle_says(users, rules, options, until, first, min_clicks, parts):
    if rules.history_max:  # the configuration refuses the others then
        options = {"label_scope": "user", "unclicked_at": "label"}
    clicks = Counter(event[0] for user in users for event in user if event[2] and event[1] < until)
    if not clicks or max(clicks.values()) < min_clicks:
        users = [*users, [(1, 0, True, None)] * min_clicks]  # something to learn from
    catalogue, rows = training_rows(
        memory_store(users, parts), rules, until=until, min_clicks=min_clicks, first=first, **options
    )
    wanted, dropped = expected(users, rules, until, min_clicks, first, **options)
    assert Counter(records(catalogue, rows)) == wanted
    assert {reason: count for reason, count in rows.dropped.items() if count} == dropped
    in_period = sum(event[2] and first <= event[1] < until for user in users for event in user)
    assert rows.n_labels + sum(rows.dropped.values()) == in_period


@settings(max_examples=60, deadline=None)
@given(users=log, options=options)
def test_several_parts_give_the_same_rows_as_one(users, options):
    users = [*users, [(1, 0, True, None)]]
    one, many = (
        Counter(records(*training_rows(memory_store(users, parts), RULES, until=70, **options))) for parts in (1, 3)
    )
    assert one == many


@settings(max_examples=60, deadline=None)
@given(users=log, options=options, size=st.integers(1, 5), seed=st.integers(0, 99))
def test_rows_can_be_taken_in_any_order_and_number(users, options, size, seed):
    catalogue, rows = training_rows(memory_store([*users, [(1, 0, True, None)]]), RULES, until=70, **options)
    alone = records(catalogue, rows, batch_size=1)
    order = np.random.default_rng(seed).permutation(rows.n_rows)
    labels = [label for _, labels in rows.batches(order, size) for label in labels[:, 0].tolist()]
    by_row = [rows.batch(np.array([row]))[1][:, 0].tolist() for row in order]
    assert labels == [label for row in by_row for label in row]
    assert Counter(records(catalogue, rows, batch_size=size)) == Counter(alone)
    assert [len(rows.batch(np.array([row]))[0].short[0]) for row in range(rows.n_rows)] == rows.lengths.tolist()


@settings(max_examples=250, deadline=None)
@given(
    past=st.lists(event, min_size=1, max_size=25), others=log, t=st.integers(1, 60), options=options,
    futures=st.tuples(st.lists(event, max_size=15), st.lists(event, max_size=15)), label_first=st.booleans(),
)  # fmt: skip
def test_no_event_at_or_after_a_labels_time_changes_its_features(past, others, t, options, futures, label_first):
    """Two logs agree on everything before t, and on one click at t; all that follows differs, within second t too."""
    past = [(item, min(time, t - 1), clicked, session) for item, time, clicked, session in past]
    past.append((1, t - 1, True, 0))  # a click before, so that the label can be predicted
    known = [(item, 0, False, None) for item in range(1, 13)]  # every item has been seen by somebody
    found = []
    for future in futures:
        # many events fall into second t itself, where a wrong comparison would see them
        later = [(item, t + max(0, time - 30), clicked, session) for item, time, clicked, session in future]
        label = [(LABEL, t, True, 0)]
        user = past + (label + later if label_first else later + label)
        store = memory_store([user, [*known, *others[0]], *others[1:]])
        all_records = records(*training_rows(store, RULES, until=200, **options))
        found.append([record for record in all_records if record[:2] == (1, LABEL)])
    if options["label_scope"] == "user":
        assert len(found[0]) == len(found[1]) == 1
    if found[0] and found[1]:  # what comes before the label within its second decides on its own session
        assert found[0] == found[1]


@settings(max_examples=100, deadline=None)
@given(users=log, later=log, until=st.integers(1, 60), options=options)
def test_events_after_the_period_change_no_row_at_all(users, later, until, options):
    """Not even the order of items with equal clicks, which the store takes from the whole log."""
    users = [[e for e in user if e[1] < until] for user in users] + [[(7, 0, True, None), (3, 0, True, None)]]
    changed = [
        [*user, *((item, until + time, clicked, session) for item, time, clicked, session in more)]
        for user, more in zip(users, (later * len(users))[: len(users)], strict=True)
    ]
    catalogue, rows = training_rows(memory_store(users), RULES, until=until, **options)
    other_catalogue, other_rows = training_rows(memory_store(changed), RULES, until=until, **options)
    assert catalogue.items.vocabulary.ids.to_pylist() == other_catalogue.items.vocabulary.ids.to_pylist()
    assert catalogue.n_candidates == other_catalogue.n_candidates
    assert (rows.n_rows, rows.dropped) == (other_rows.n_rows, other_rows.dropped)
    everything = np.arange(rows.n_rows)
    if rows.n_rows:
        (batch, labels), (other_batch, other_labels) = rows.batch(everything), other_rows.batch(everything)
        assert np.array_equal(labels, other_labels)
        for field in fields(batch):
            assert np.array_equal(getattr(batch, field.name), getattr(other_batch, field.name)), field.name


def test_session_scope_keeps_a_label_only_within_its_session():
    user = [(item, time, True, None) for item, time in [(1, 0), (2, 3), (3, 20), (4, 22), (5, 24), (6, 26)]]
    store = memory_store([user])
    catalogue, rows = training_rows(store, RULES, until=100, label_scope="session")
    # 1 has nothing before it, 3 opens a session, and 6 too: sessions hold three clicks
    assert sorted(record[1:3] for record in records(catalogue, rows)) == [(2, (1,)), (4, (3,)), (5, (3, 4))]
    assert rows.dropped == {"no_click_before": 1, "other_session": 2, "too_few_clicks": 0}


def test_labels_of_one_second_share_a_position():
    store = memory_store([[(1, 0, True, None), (2, 3, True, None), (3, 3, True, None), (4, 4, True, None)]])
    catalogue, rows = training_rows(store, RULES, until=100)
    assert [record[1:3] for record in records(catalogue, rows)] == [(2, (1,)), (3, (1,)), (4, (1, 2, 3))]
    batch, _ = rows.batch(np.array([0]))
    assert batch.position.tolist() == [0, 0, 2]


@pytest.mark.parametrize("unclicked_at", ["label", "session"])
def test_a_period_without_a_label_gives_no_rows(unclicked_at):
    _, rows = training_rows(memory_store([[(1, 0, True, None)]]), RULES, until=100, unclicked_at=unclicked_at)
    assert (rows.n_rows, rows.n_labels, list(rows.batches(np.arange(0), 4))) == (0, 0, [])


def test_rows_of_a_prepared_store_carry_profiles(simulated):
    store = Store(simulated)
    until = store.time_range[1]
    catalogue, rows = training_rows(store, BehaviourRules(), until=until)
    assert store.n_parts == 2
    batch, _ = rows.batch(np.arange(rows.n_rows))
    assert len(np.unique(batch.user)) > 100  # users of both parts
    for name, codes in zip(catalogue.users.features, batch.profile.T, strict=True):
        wanted = catalogue.users.table[name].to_pylist()
        feature = catalogue.users.features[name]
        assert feature.external(codes) == [wanted[user - 1] for user in batch.user]
    in_session = TrainingRows(store, catalogue, BehaviourRules(), until=until, label_scope="session")
    assert 0 < in_session.n_labels < rows.n_labels
    assert in_session.dropped["other_session"] == rows.n_labels - in_session.n_labels
