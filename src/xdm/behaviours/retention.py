"""What of a user's past the rules of behaviours can still ask for: all that lies before it may be deleted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xdm.behaviours.kernel import session_starts
from xdm.behaviours.rules import BehaviourRules
from xdm.log.store import Events
from xdm.schema import PADDING


def needed_from(events: Events, now: int, rules: Sequence[BehaviourRules]) -> int:
    """The place of the first of one user's ``events`` that is needed; what stands before it may be deleted.

    With and without those events the kernel's answer is the same, for each of ``rules``, at every second from ``now`` on,
    also after more events came, if none of them is dated before ``now``. Events of `PADDING` are those of items that the
    model does not know: the kernel never sees them.

    That holds as well where events that are not among these, a store's, stand before all of them.

    Beside the windows there are two places where it may not be cut: within a chain of clicks (`session_max` parts a
    chain from its beginning on), and where a stream's blocks would be counted from another event.
    """
    end = int(np.searchsorted(events.time, now))
    known = events.item[:end] != PADDING
    clicks = np.flatnonzero(known & events.clicked[:end])
    first, allowed = end, np.ones(end + 1, np.bool_)
    for rule in rules:
        first = min(first, _begins(events, now, known, clicks, rule))
        allowed &= _may_begin(events, known, clicks, rule)
    return int(np.flatnonzero(allowed[: first + 1])[-1])  # place 0 always may


def _begins(events: Events, now: int, known: np.ndarray, clicks: np.ndarray, rule: BehaviourRules) -> int:
    """The first place that some window of ``rule`` reaches at ``now``; later on, each reaches less far back."""
    first = int(np.searchsorted(events.time, now - rule.unclicked_window))
    if len(clicks):
        opening = clicks[_opening(events, clicks, rule)]  # the short-term sequence's first click
        first = min(first, int(opening), int(np.searchsorted(events.time, events.time[opening] - rule.long_window)))
    if rule.stream_max:
        places = np.flatnonzero(known)
        # One block more than a stream holds: events of a store that stand before these shift where its blocks begin.
        begin = max(0, len(places) // rule.stream_max - 2) * rule.stream_max
        first = min(first, int(places[begin]) if len(places) else len(known))
    return first


def _opening(events: Events, clicks: np.ndarray, rule: BehaviourRules) -> int:
    if rule.history_max:
        return max(0, len(clicks) - rule.history_max)
    start = np.empty(len(clicks), np.int64)
    session_starts(events.time[clicks], events.session[clicks], rule.session_gap, rule.session_max, start)
    return int(start[-1])


def _may_begin(events: Events, known: np.ndarray, clicks: np.ndarray, rule: BehaviourRules) -> np.ndarray:
    """Whether events from each place on are understood without those before it: bool ``[end + 1]``."""
    allowed = np.ones(len(known) + 1, np.bool_)
    session = events.session[clicks]
    joined = (session[1:] >= 0) & (session[1:] == session[:-1])
    joined |= np.diff(events.time[clicks]) < rule.session_gap
    inside = np.zeros(len(known) + 2, np.int64)  # +1 after a click that the next one joins, -1 after that one
    inside[clicks[:-1][joined] + 1] += 1
    inside[clicks[1:][joined] + 1] -= 1
    allowed &= np.cumsum(inside)[: len(allowed)] == 0
    if rule.stream_max:
        counted = np.concatenate([[0], np.cumsum(known)])
        allowed &= counted % rule.stream_max == 0
    return allowed
