"""What every state promises, against a plain list: the same tests for SQLite and for Redis."""

from __future__ import annotations

import threading

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xdm.behaviours.rules import BehaviourRules
from xdm.retrieval.changes import ItemChange
from xdm.schema import DAY, HOUR
from xdm.serving.errors import ConflictError
from xdm.serving.state import LiveEvent, SeenEvent
from xdm.serving.state.pruning import LATE, USERS_A_SLICE, needed_place

ids = st.one_of(st.integers(0, 3), st.sampled_from(["0", "1", "a", "ü\x00x", "\U0001f460\n:"]))
USERS = (0, "0", 1, 3, "a", "ü\x00x", "\U0001f460\n:", "nobody")
events = st.builds(
    LiveEvent,
    event_id=st.one_of(st.none(), st.integers(0, 5), st.sampled_from(["0", "e"])),
    user_id=ids,
    item_id=ids,
    timestamp=st.integers(0, 4),
    clicked=st.booleans(),
    session_id=st.one_of(st.none(), ids),
)
calls = st.one_of(st.lists(events, max_size=5), st.lists(events, max_size=5), ids)  # a batch, or a user to forget


def content(event: LiveEvent) -> tuple:
    session = None if event.session_id is None else str(event.session_id)
    return str(event.user_id), str(event.item_id), event.timestamp, event.clicked, session


class ListState:
    """The oracle: a list of accepted events in order of arrival, and the names of those who are forgotten."""

    def __init__(self) -> None:
        self.events: list[LiveEvent] = []
        self.forgotten: set[str] = set()

    def append(self, batch: list[LiveEvent]) -> tuple[int, int] | None:
        """(accepted, duplicates), or None for a conflict."""
        after, duplicates = list(self.events), 0
        for event in batch:
            same_id = [e for e in after if e.event_id is not None and str(e.event_id) == str(event.event_id)]
            if same_id and content(same_id[0]) != content(event):
                return None
            duplicates += bool(same_id)
            if not same_id:
                after.append(event)
        accepted = len(after) - len(self.events)
        self.events = after
        return accepted, duplicates

    def forget(self, user_id: str | int) -> int:
        before = len(self.events)
        self.events = [event for event in self.events if str(event.user_id) != str(user_id)]
        self.forgotten.add(str(user_id))
        return before - len(self.events)

    def events_of(self, user_id: str | int, before: int, newest: int) -> tuple[list[tuple], bool]:
        mine = sorted((e for e in self.events if str(e.user_id) == str(user_id)), key=lambda e: e.timestamp)
        seen = [(e.item_id, e.timestamp, e.clicked, e.session_id) for e in mine if e.timestamp < before]
        return seen[-newest:], str(user_id) in self.forgotten


@settings(max_examples=30, deadline=None)
@given(st.lists(calls, max_size=7), st.integers(0, 5), st.integers(1, 4))
def test_any_sequence_of_batches_and_deletions_reads_back_as_from_a_list(places, steps, before, newest):
    url = places.new()
    state = places.open(url)
    oracle = ListState()
    for step in steps:
        if not isinstance(step, list):
            assert state.forget(step) == oracle.forget(step)
        elif (expected := oracle.append(step)) is None:
            with pytest.raises(ConflictError, match="already with other content"):
                state.append(step)
        else:
            assert state.append(step) == expected
    for reader in (state, places.open(url)):
        assert reader.count() == len(oracle.events)
        for user in USERS:
            assert reader.events_of(user, before=before, newest=newest) == oracle.events_of(user, before, newest)
    places.close()


def test_a_conflict_names_the_event_and_stores_nothing_of_its_batch(places):
    state = places.open()
    state.append([LiveEvent("e1", "u", "i", 5, True)])
    with pytest.raises(ConflictError, match=r"row 1: event_id 'e1'.*nothing"):
        state.append([LiveEvent("e2", "u", "i", 6, True), LiveEvent("e1", "u", "other", 5, True)])
    assert state.count() == 1
    assert state.append([LiveEvent("e2", "u", "i", 6, True), LiveEvent("e1", "u", "i", 5, True)]) == (1, 1)


def test_integers_and_text_come_back_as_they_were_sent(places):
    url = places.new()
    places.open(url).append([LiveEvent("a", 7, 2**63 - 1, 1, True, 9), LiveEvent("b", "7", "8", 2, False)])
    reopened = places.open(url)
    expected = [(2**63 - 1, 1, True, 9), ("8", 2, False, None)]
    assert reopened.events_of("7", before=9).events == reopened.events_of(7, before=9).events == expected


def test_threads_lose_nothing_and_see_their_own_events_at_once(places):
    """Eight threads write; each sees its event as soon as it is acknowledged, and a conflict hits only its own batch."""
    state = places.open()
    state.append([LiveEvent("taken", "u", "i", 0, True)])
    problems: list[str] = []

    def write(thread: int) -> None:
        for number in range(25):
            state.append([LiveEvent(f"{thread}-{number}", f"u{thread}", "i", number, True)])
            if len(state.events_of(f"u{thread}", before=100).events) != number + 1:
                problems.append(f"{thread}-{number} is not there")
            try:
                state.append(
                    [LiveEvent(f"x{thread}-{number}", "u", "i", 1, True), LiveEvent("taken", "u", "i", 1, True)]
                )
                problems.append("no conflict")
            except ConflictError:
                pass

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert state.count() == 1 + 8 * 25


def test_who_is_forgotten_stays_so_and_may_come_back(places):
    state = places.open()
    batch = [LiveEvent(f"e{n}", "ann", "i", n, True) for n in range(3)]
    state.append([*batch, LiveEvent("b", "bob", "i", 1, True)])
    assert (state.forget("ann"), state.forget("ann"), state.forget("nobody")) == (3, 0, 0)
    assert state.count() == 1
    assert [state.events_of(user, before=9).forgotten for user in ("ann", "nobody", "bob")] == [True, True, False]
    assert state.append(batch[:1]) == (1, 0)  # nothing is left that could say that it was there before
    assert state.events_of("ann", before=9) == ([("i", 0, True, None)], True)


# --- pruning ------------------------------------------------------------------------------------------------------------
NOW = 1_700_000_000
RULES = [BehaviourRules(session_gap=600, long_window=2 * HOUR, unclicked_window=HOUR)]
past = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", 3]), st.sampled_from(["i1", "i2", "odd"]), st.integers(0, 3 * DAY), st.booleans()
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(past, st.one_of(st.none(), st.integers(1, 3 * DAY)))
def test_what_is_left_is_what_is_needed(places, rows, max_age):
    state = places.open()
    state.append([LiveEvent(None, user, item, NOW + HOUR - age, clicked) for user, item, age, clicked in rows])

    def known(item):
        return item != "odd"

    expected = {}
    for user in ("u1", "u2", 3):
        seen = state.events_of(user, before=2 * NOW).events
        place = needed_place([event for event in seen if event.timestamp < NOW], RULES, NOW, max_age, known)
        expected[user] = seen[place:]
    pruned = state.prune(RULES, now=NOW, max_age=max_age, known=known)
    assert pruned == (len({row[0] for row in rows}), len(rows) - sum(map(len, expected.values())), True)
    assert {user: state.events_of(user, before=2 * NOW).events for user in expected} == expected
    assert state.count() == sum(map(len, expected.values()))
    places.close()


def test_only_the_latest_session_is_left_of_one_who_was_long_away(places):
    state = places.open()
    old = [LiveEvent(n, "ann", n, NOW - 30 * DAY + n, True) for n in range(5)]
    latest = [LiveEvent(10 + n, "ann", n, NOW - 20 * DAY + n, True) for n in range(3)]
    state.append([*old, *latest, LiveEvent(None, "bob", "i", NOW - 20 * DAY, False)])
    assert state.prune(RULES, now=NOW) == (2, 6, True)
    assert [event.timestamp for event in state.events_of("ann", before=NOW).events] == [e.timestamp for e in latest]
    assert state.append(latest) == (0, 3)
    assert state.events_of("bob", before=NOW).events == []


def test_all_open_states_share_one_round_an_hour(places):
    url = places.new()
    states = [places.open(url), places.open(url)]
    n = 2 * USERS_A_SLICE + 5
    states[0].append([LiveEvent(None, f"u{number}", "i", NOW - 5 * DAY, False) for number in range(n)])
    slices = [states[number % 2].prune(RULES, now=NOW) for number in range(3)]
    assert [one.users for one in slices] == [USERS_A_SLICE, USERS_A_SLICE, 5]
    assert [one.done for one in slices] == [False, False, True]
    assert states[0].count() == 0
    states[0].append([LiveEvent(None, "u", "i", NOW - 5 * DAY, False)])
    assert states[1].prune(RULES, now=NOW + HOUR - 1) == (0, 0, True)
    assert states[1].prune(RULES, now=NOW + HOUR) == (1, 1, True)


def test_more_old_events_than_a_step_or_a_slice_holds_are_deleted(places, monkeypatch):
    monkeypatch.setattr("xdm.serving.state.pruning.EVENTS_A_SLICE", 250)
    state = places.open()
    state.append([LiveEvent(None, "u", "i", NOW - 5 * DAY + n % 7, False) for n in range(390)])
    assert state.prune(RULES, now=NOW).events == 250
    assert state.prune(RULES, now=NOW + HOUR).events == 140
    assert state.events_of("u", before=NOW) == ([], False)


def test_what_is_dated_a_day_back_at_most_counts_as_if_it_were_now(places):
    state = places.open()
    state.append(
        [LiveEvent("in", "u", "i", NOW - LATE - HOUR, False), LiveEvent("out", "u", "i", NOW - LATE - HOUR - 1, False)]
    )
    assert state.prune(RULES, now=NOW).events == 1
    assert state.events_of("u", before=NOW).events == [SeenEvent("i", NOW - LATE - HOUR, False)]


# --- items and models ---------------------------------------------------------------------------------------------------
def test_changes_of_items_come_back_whole_and_in_order(places):
    url = places.new()
    state, other = places.open(url), places.open(url)
    first = ItemChange("new", features={"category": "shoes"}, similar_to=("a", 7))
    state.change_items([first, ItemChange(7, withdrawn=True), ItemChange("v", vector=(0.5, -1.25), fingerprint="f00d")])
    version, changes = other.item_changes(0)
    assert changes == [first, ItemChange(7, withdrawn=True), ItemChange("v", vector=(0.5, -1.25), fingerprint="f00d")]
    assert version == state.version()
    state.change_items([ItemChange("7"), ItemChange("new", withdrawn=True), ItemChange("new")])
    assert other.item_changes(version) == (state.version(), [ItemChange("7"), ItemChange("new")])
    assert [change.item_id for change in other.item_changes(0)[1]] == ["v", "7", "new"]
    assert other.item_changes(state.version()) == (state.version(), [])


IDS = st.one_of(ids, st.integers(0, 2**63 - 1), st.text(min_size=1))
CHANGES = st.builds(
    ItemChange, IDS, st.booleans(), st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=3),
    st.lists(IDS, max_size=3).map(tuple), st.none() | st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3).map(tuple),
    st.none() | st.just("f00d"),
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(changes=st.lists(CHANGES, min_size=1, max_size=5, unique_by=lambda change: str(change.item_id)))
@example(changes=[ItemChange(0)])
def test_a_change_of_an_item_comes_back_as_it_was_made(places, changes):
    state = places.open()
    state.change_items(changes)
    assert state.item_changes(0)[1] == changes
    places.close()


def test_the_active_model_is_known_to_all_and_raises_the_version(places):
    url = places.new()
    state, other = places.open(url), places.open(url)
    assert (state.version(), state.active_model()) == (0, None)
    state.activate("xdm", "f00d", "0ld")
    assert other.active_model() == ("xdm", "f00d", "0ld", None, 1)
    state.activate("gru\n4rec", "beef", "0ld", previous="xdm")
    assert other.active_model() == ("gru\n4rec", "beef", "0ld", "xdm", other.version())
    before = other.version()
    state.append([LiveEvent("e", "u", "i", 1, True)])
    state.forget("u")
    assert other.version() == before > 0
    state.change_items([ItemChange("i")])
    assert other.version() > before
