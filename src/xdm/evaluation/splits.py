"""Splits: which clicks are asked for, at which time each question is put, and where the boundaries lie by default.

A split names times only. What a model may see for a question is everything strictly before the question's time, and
the behaviours kernel alone decides that, for every protocol alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from xdm.behaviours.points import distinct_lists
from xdm.log.store import Events, Store
from xdm.schema import DAY, HOUR, ITEM_DTYPE, TIME_DTYPE, TIME_LIMIT, InternalError, UsageError

TIME, EACH_CLICK, LAST_CLICK, SDM = "time", "each-click", "last-click", "sdm"
PROTOCOLS = (TIME, EACH_CLICK, LAST_CLICK, SDM)

UNITS = {"s": 1, "m": 60, "h": HOUR, "d": DAY, "w": 7 * DAY}
BUCKETS = 65_536  # of the coarse histogram of click times
DURATION = re.compile(r"(\d+)\s*([smhdw])")


@dataclass(frozen=True)
class Split:
    """The clicks of ``[cut_off, until)`` (seconds) are what is asked for, in the way of ``protocol``:

    - ``time``: one question per user who clicks there, asked at ``cut_off``; the truth is the set of distinct items
      that the user clicks there.
    - ``each-click``: one question per click there, asked at its time; the truth is its item.
    - ``last-click``: one question per user, asked at the time of the user's last click there (with ``nth_last`` = 2:
      the last but one); the truth is its item. Leave-last-out of the literature.
    - ``sdm``: the first quarter of a user's clicks there, rounded down but at least one, is input; asked at the time
      of the first click after that quarter; the truth is the distinct items clicked from that time on.

    Raises:
        UsageError: an unknown protocol, or ``cut_off`` not before ``until``.
    """

    protocol: str
    cut_off: int
    until: int
    nth_last: int = 1

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise UsageError(f"there is no protocol {self.protocol!r}; choose one of {', '.join(PROTOCOLS)}")
        if self.cut_off >= self.until:
            raise UsageError(f"the cut-off {self.cut_off} is not before the end {self.until} of the clicks asked for")
        if self.nth_last < 1:
            raise InternalError(f"nth_last counts from 1, not {self.nth_last}")

    def described(self) -> dict[str, str | int]:
        """As metrics.json names it."""
        described: dict[str, str | int] = {"protocol": self.protocol, "cut_off": self.cut_off, "until": self.until}
        return described | ({"nth_last": self.nth_last} if self.protocol == LAST_CLICK else {})


class Questions(NamedTuple):
    """Q questions, sorted by ``row``, then ``time``: ``row`` int64 ``[Q]``, the user's row in the events; ``time``
    int64 ``[Q]`` seconds; the truth of question q is ``truth_items[truth_offsets[q] : truth_offsets[q + 1]]``, distinct
    item indices rising (int32), with ``truth_offsets`` int64 ``[Q + 1]``."""

    row: np.ndarray
    time: np.ndarray
    truth_offsets: np.ndarray
    truth_items: np.ndarray

    def take(self, first: int, until: int) -> Questions:
        """The questions ``first`` to ``until`` (not included)."""
        offsets = self.truth_offsets[first : until + 1]
        truth = self.truth_items[offsets[0] : offsets[-1]]
        return Questions(self.row[first:until], self.time[first:until], offsets - offsets[0], truth)


def questions(events: Events, split: Split) -> Questions:
    """The questions of ``split`` about ``events``, with the truth in the item space of ``events``.

    ``each-click`` asks once per click, so that two clicks of one user within one second are two questions.
    """
    row, place = _clicks_between(events, split.cut_off, split.until)
    time, item = np.asarray(events.time[place], TIME_DTYPE), np.asarray(events.item[place], ITEM_DTYPE)
    if split.protocol == EACH_CLICK:
        return Questions(row, time, np.arange(len(row) + 1, dtype=np.int64), item)
    asked, first, clicks = np.unique(row, return_index=True, return_counts=True)
    if split.protocol == TIME:
        asked_at = np.full(len(asked), split.cut_off, TIME_DTYPE)
        return _with_truth_sets(asked, asked_at, row, item)
    if split.protocol == LAST_CLICK:
        enough = clicks >= split.nth_last
        last = (first + clicks - split.nth_last)[enough]
        return Questions(asked[enough], time[last], np.arange(len(last) + 1, dtype=np.int64), item[last])
    enough = clicks >= 2
    input_clicks = np.maximum(clicks // 4, 1)
    asked, asked_at = asked[enough], time[(first + input_clicks)[enough]]
    after = np.zeros(len(row), bool)
    kept = np.repeat(enough, clicks)
    after[kept] = time[kept] >= np.repeat(asked_at, clicks[enough])
    return _with_truth_sets(asked, asked_at, row[after], item[after])


def users_left_out(events: Events, split: Split) -> int:
    """Users who click in the split's period but too few times to be asked."""
    row, _ = _clicks_between(events, split.cut_off, split.until)
    return len(np.unique(row)) - len(np.unique(questions(events, split).row))


def known_before(events: Events, split: Split) -> np.ndarray:
    """Bool ``[len(item)]``: what may be counted or learned from without knowing any answer of ``split``.

    Everything before the cut-off; under ``last-click``, where every user has an own one, everything before the
    user's question, and all of a user who is not asked.
    """
    time = np.asarray(events.time)
    if split.protocol != LAST_CLICK:
        return time < split.cut_off
    limit = np.full(events.n_users, split.until, TIME_DTYPE)
    asked = questions(events, split)
    limit[asked.row] = asked.time
    known = np.zeros(len(time), bool)
    begin, end = int(events.offsets[0]), int(events.offsets[-1])
    known[begin:end] = time[begin:end] < np.repeat(limit, np.diff(events.offsets))
    return known


def _clicks_between(events: Events, first: int, until: int) -> tuple[np.ndarray, np.ndarray]:
    """User rows and places in the columns of the clicks with ``first <= time < until``, both int64, in log order."""
    begin, end = int(events.offsets[0]), int(events.offsets[-1])
    time = events.time[begin:end]
    place = np.flatnonzero(events.clicked[begin:end] & (time >= first) & (time < until)) + begin
    row = np.searchsorted(events.offsets, place, side="right") - 1
    return row.astype(np.int64), place.astype(np.int64)


def _with_truth_sets(asked: np.ndarray, asked_at: np.ndarray, row: np.ndarray, item: np.ndarray) -> Questions:
    """Questions of the users ``asked`` (rising) whose truth is the set of their items among ``(row, item)``."""
    return Questions(asked, asked_at, *distinct_lists(np.searchsorted(asked, row), item, len(asked)))


def time_boundaries(store: Store, validation: float = 0.1, test: float = 0.1) -> tuple[int, int, int]:
    """``(validation_from, test_from, until)`` in seconds: the latest ``test`` of all clicks is the test part, the
    ``validation`` before it the validation part, and ``until`` is one second after the log's last event.

    Boundaries fall on a second, so that clicks of one second stay together. Memory: a few histograms of 64 Ki counts
    and one part's time column, however long the log is.

    Raises:
        UsageError: shares that leave nothing for training, or a log with too few distinct click times.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise UsageError(f"validation {validation} and test {test} must be above 0 and together below 1")
    first, last = store.time_range
    n_clicks = sum(int(np.count_nonzero(events.clicked)) for _, events in store.parts())
    ranks = [n_clicks - round(n_clicks * share) for share in (validation + test, test)]
    splittable = 0 < ranks[0] < ranks[1] < n_clicks
    earliest, validation_from, test_from = _click_times(store, [0, *ranks]) if splittable else (first, first, first)
    if not earliest < validation_from < test_from:
        raise UsageError(
            f"{store.path} has {n_clicks} clicks, too few or too close together to be split by time into training, "
            "validation and test; give the boundaries yourself, or prepare a longer log"
        )
    return validation_from, test_from, last + 1


def _click_times(store: Store, ranks: list[int]) -> list[int]:
    """The times of the clicks of these ranks (from 0) in order of time: a coarse histogram, then a fine one."""
    first, last = store.time_range
    width = (last - first) // BUCKETS + 1
    coarse = np.zeros(BUCKETS, np.int64)
    for _, events in store.parts():
        coarse += np.bincount((events.time[events.clicked] - first) // width, minlength=BUCKETS)
    up_to = np.cumsum(coarse)
    buckets = [int(np.searchsorted(up_to, rank, side="right")) for rank in ranks]
    fine = {bucket: np.zeros(width, np.int64) for bucket in buckets}
    for _, events in store.parts():
        second = events.time[events.clicked] - first
        for bucket, counts in fine.items():
            counts += np.bincount(second[second // width == bucket] - bucket * width, minlength=width)
    times = []
    for rank, bucket in zip(ranks, buckets, strict=True):
        rank_in_bucket = rank - int(up_to[bucket] - coarse[bucket])
        second_in_bucket = int(np.searchsorted(np.cumsum(fine[bucket]), rank_in_bucket, side="right"))
        times.append(first + bucket * width + second_in_bucket)
    return times


def parse_duration(text: str) -> int:
    """Seconds of ``90s``, ``30m``, ``6h``, ``1d`` or ``2w``.

    Raises:
        UsageError: anything else, or nothing long.
    """
    match = DURATION.fullmatch(text.strip().lower())
    seconds = int(match[1]) * UNITS[match[2]] if match else 0
    if seconds < 1:
        raise UsageError(f"{text!r} is no duration; write a whole number and a unit: 90s, 30m, 6h, 1d or 2w")
    return seconds


def parse_time(text: str, end: int) -> int:
    """Unix seconds of ``text``: seconds since 1970, an ISO date or datetime (UTC where it names no offset; a fraction
    of a second is cut off), or a duration back from ``end`` (seconds), such as ``1d`` or ``6h``.

    Raises:
        UsageError: none of these, or a time that looks like another unit than seconds.
    """
    text = text.strip()
    if DURATION.fullmatch(text.lower()):
        return end - parse_duration(text)
    if re.fullmatch(r"\d+", text):
        seconds = int(text)
        if seconds >= TIME_LIMIT:
            raise UsageError(f"the time {text} is after the year 3000 in seconds; is it in milliseconds or finer?")
        return seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time; write seconds since 1970 (1685000000), a date or datetime (2023-05-25T07:00:00, "
            "in UTC), or a duration back from the log's end (1d, 6h)"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() // 1)
