"""Labels: which clicks are learned from, when each is asked, and which session each belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from xdm.behaviours.kernel import session_starts
from xdm.behaviours.rules import BehaviourRules
from xdm.log.store import Events


@dataclass(frozen=True)
class Labels:
    """L clicks to learn from, sorted by (row, time): ``row`` int64, ``time`` int64 seconds, ``item`` int32, and
    ``place`` int64, where each stands in the event columns. Whether a click is visible strictly before a label's time,
    so that it can be predicted at all, is for `xdm.behaviours` to say."""

    row: np.ndarray
    time: np.ndarray
    item: np.ndarray
    place: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


def labels_of(events: Events, first: int, until: int) -> Labels:
    """Every click of ``events`` with ``first <= time < until``."""
    begin, end = int(events.offsets[0]), int(events.offsets[-1])
    time = events.time[begin:end]
    place = np.flatnonzero(events.clicked[begin:end] & (time >= first) & (time < until)) + begin
    row = np.searchsorted(events.offsets, place, side="right") - 1
    return Labels(row.astype(np.int64), np.asarray(events.time[place]), np.asarray(events.item[place]), place)


def next_items(labels: Labels, group: np.ndarray, n_candidates: int, n: int) -> np.ndarray:
    """The items of each label and of the labels after it within its ``group`` (int64 ``[L]``): int64 ``[L, n]``.

    0 where the group has no further label, or one that cannot be recommended (above ``n_candidates``).
    """
    items = np.where(labels.item <= n_candidates, labels.item, 0).astype(np.int64)
    following = np.zeros((len(labels), n), np.int64)
    for ahead in range(min(n, len(labels))):
        until = len(labels) - ahead
        following[:until, ahead] = np.where(group[ahead:] == group[:until], items[ahead:], 0)
    return following


def own_sessions(events: Events, labels: Labels, rules: BehaviourRules) -> np.ndarray:
    """Where the session that each label itself belongs to begins: the place of its first click, int64 ``[L]``."""
    every = labels_of(events, -(2**62), 2**62)
    start = np.empty(len(every), np.int64)
    _starts_of_users(every.row, every.time, events.session[every.place], rules.session_gap, rules.session_max, start)
    return every.place[start[np.searchsorted(every.place, labels.place)]]


@numba.njit(cache=True, nogil=True)
def _starts_of_users(row, time, session, gap, maximum, start):
    begin = 0
    for c in range(1, len(row) + 1):
        if c == len(row) or row[c] != row[begin]:
            session_starts(time[begin:c], session[begin:c], gap, maximum, start[begin:c])
            start[begin:c] += begin
            begin = c
