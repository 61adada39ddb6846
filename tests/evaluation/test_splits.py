"""Splits against the plain-Python oracle, the boundaries against sorting, and times as people write them."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.stores import events_of, make_store, oracle
from xdm.behaviours.points import FeatureTable, behaviours
from xdm.behaviours.rules import BehaviourRules
from xdm.evaluation import splits
from xdm.evaluation.splits import (
    PROTOCOLS,
    Split,
    known_before,
    parse_duration,
    parse_time,
    questions,
    time_boundaries,
    users_left_out,
)
from xdm.log.store import Events
from xdm.schema import UsageError

# Few items and few seconds, so that repeated items and several clicks within one second are frequent.
EVENT = st.tuples(st.integers(1, 6), st.integers(0, 30), st.booleans())
USERS = st.lists(st.lists(EVENT, max_size=14).map(lambda user: sorted(user, key=lambda e: e[1])), max_size=6)
WINDOWS = st.tuples(st.integers(0, 29), st.integers(1, 20))
SPLITS = [(protocol, 1) for protocol in PROTOCOLS] + [("last-click", 2)]


def unpacked(asked):
    """``[(row, time, truth), …]``"""
    truth = [asked.truth_items[a:b].tolist() for a, b in zip(asked.truth_offsets, asked.truth_offsets[1:], strict=False)]
    return list(zip(asked.row.tolist(), asked.time.tolist(), truth, strict=True))


@pytest.mark.parametrize(("protocol", "nth_last"), SPLITS)
@given(users=USERS, window=WINDOWS)
@settings(max_examples=150, deadline=None)
def test_questions_equal_the_oracle(protocol, nth_last, users, window):
    cut_off, until = window[0], sum(window)
    expected = [
        (row, time, truth)
        for row, user in enumerate(users)
        for time, truth in oracle(user, protocol, cut_off, until, nth_last)
    ]
    split, events = Split(protocol, cut_off, until, nth_last), events_of(users)
    asked = questions(events, split)
    assert unpacked(asked) == expected
    assert [array.dtype for array in asked] == [np.int64, np.int64, np.int64, np.int32]
    clicking = sum(any(clicked and cut_off <= time < until for _, time, clicked in user) for user in users)
    assert users_left_out(events, split) == clicking - len({row for row, *_ in expected})


@given(users=USERS, window=WINDOWS, first=st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_offsets_need_not_start_at_zero(users, window, first):
    """Questions about the users from the ``first`` on, as a view of the same columns."""
    events, first = events_of(users), min(first, len(users))
    view = Events(events.item, events.time, events.clicked, events.session, events.offsets[first:])
    for protocol in PROTOCOLS:
        split = Split(protocol, window[0], sum(window))
        assert unpacked(questions(view, split)) == unpacked(questions(events_of(users[first:]), split))


@pytest.mark.parametrize(("protocol", "nth_last"), SPLITS)
@given(users=USERS, window=WINDOWS)
@settings(max_examples=60, deadline=None)
def test_known_before_holds_no_answer(protocol, nth_last, users, window):
    split = Split(protocol, window[0], sum(window), nth_last)
    known = known_before(events_of(users), split).tolist()
    expected = []
    for user in users:
        asked = oracle(user, protocol, split.cut_off, split.until, nth_last)
        limit = split.cut_off if protocol != "last-click" else asked[0][0] if asked else split.until
        expected += [time < limit for _, time, _ in user]
    assert known == expected


def lists(found):
    """The short-term, long-term and unclicked items of a single point."""
    return [found.short_term(0).tolist(), found.long_term(0, 0).tolist(), found.unclicked(0).tolist()]


@pytest.mark.parametrize(("protocol", "nth_last"), SPLITS)
@given(users=USERS, window=WINDOWS, changed=st.lists(EVENT, max_size=10))
@settings(max_examples=60, deadline=None)
def test_nothing_at_or_after_a_question_changes_what_is_seen(protocol, nth_last, users, window, changed):
    """Replace each user's events at or after a question's time by others: the kernel's lists for it stay the same."""
    events = events_of(users)
    asked = questions(events, Split(protocol, window[0], sum(window), nth_last))
    features, rules = FeatureTable.of(6, {}), BehaviourRules()
    for row, time, _ in unpacked(asked)[:5]:
        others = sorted((event for event in changed if event[1] >= time), key=lambda event: event[1])
        altered = [[e for e in user if e[1] < time] + (others if place == row else []) for place, user in enumerate(users)]
        at = np.array([row]), np.array([time])
        before = behaviours(events, *at, features, rules)
        after = behaviours(events_of(altered), *at, features, rules)
        assert lists(before) == lists(after)


def test_a_quarter_of_sdm_is_input():
    user = [(item, 10 * item, True) for item in range(1, 10)]  # nine clicks: two are input
    assert unpacked(questions(events_of([user]), Split("sdm", 0, 1000))) == [(0, 30, [3, 4, 5, 6, 7, 8, 9])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("random", 0, 1), "no protocol 'random'; choose one of time"), (("time", 5, 5), "cut-off 5 is not before the end 5")],
)
def test_refuses_an_impossible_split(arguments, message):
    with pytest.raises(UsageError, match=message):
        Split(*arguments)


@given(
    times=st.lists(st.integers(0, 400), min_size=30, max_size=80, unique=True),
    shares=st.sampled_from([(0.1, 0.1), (0.2, 0.3), (0.45, 0.45)]),
    buckets=st.sampled_from([65_536, 7, 1]),
)
@settings(max_examples=60, deadline=None)
def test_time_boundaries_equal_sorting(tmp_path_factory, times, shares, buckets):
    rows = [(f"u{time % 7}", f"i{time % 5}", 1_600_000_000 + time, place % 3 != 0) for place, time in enumerate(times)]
    store = make_store(tmp_path_factory.mktemp("store"), rows)
    clicks = sorted(time for _, _, time, clicked in rows if clicked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "BUCKETS", buckets)
        validation_from, test_from, until = time_boundaries(store, *shares)
    assert {validation_from, test_from} <= set(clicks)
    assert abs(sum(time >= test_from for time in clicks) - len(clicks) * shares[1]) < 0.51
    assert abs(sum(time >= validation_from for time in clicks) - len(clicks) * sum(shares)) < 0.51
    assert until == max(row[2] for row in rows) + 1


@pytest.mark.parametrize("clicked", [True, False])
def test_a_log_too_short_to_split_is_refused(tmp_path, clicked):
    store = make_store(tmp_path / "store", [("u", f"i{n}", 100, clicked) for n in range(20)])
    with pytest.raises(UsageError, match="too few or too close together to be split by time"):
        time_boundaries(store)
    with pytest.raises(UsageError, match=r"validation 0.5 and test 0.5 must be above 0 and together below 1"):
        time_boundaries(store, 0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1685000000", 1_685_000_000),
        ("0", 0),
        ("1d", 2_000_000_000 - 86_400),
        (" 6H ", 2_000_000_000 - 21_600),
        ("90s", 2_000_000_000 - 90),
        ("2023-05-25", int(datetime(2023, 5, 25, tzinfo=UTC).timestamp())),
        ("2023-05-25T07:00:00", int(datetime(2023, 5, 25, 7, tzinfo=UTC).timestamp())),
        ("2023-05-25 07:00:00+02:00", int(datetime(2023, 5, 25, 5, tzinfo=UTC).timestamp())),
        ("2023-05-25T07:00:00.900Z", int(datetime(2023, 5, 25, 7, tzinfo=UTC).timestamp())),
    ],
)
def test_times_as_people_write_them(text, seconds):
    assert parse_time(text, 2_000_000_000) == seconds


@pytest.mark.parametrize("text", ["yesterday", "", "-5", "1.5", "3x", "2023-13-01", "0d"])
def test_no_time_is_refused(text):
    with pytest.raises(UsageError, match=r"is no (time|duration); write"):
        parse_time(text, 2_000_000_000)


def test_milliseconds_are_not_taken_for_seconds():
    with pytest.raises(UsageError, match="after the year 3000 in seconds; is it in milliseconds"):
        parse_time("1685000000000", 2_000_000_000)


def test_durations():
    assert [parse_duration(text) for text in ("90s", "30m", "6h", "1d", "2w")] == [90, 1800, 21_600, 86_400, 1_209_600]
    with pytest.raises(UsageError, match="'1' is no duration"):
        parse_duration("1")
