"""Controls: what stands in the place of a user's own unclicked sequence, to see whether its content matters.

A model that gains as much from another user's lists, from random items or from what is popular now has not learned
from what its user skipped.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from xdm.behaviours.points import Lists
from xdm.data.catalogue import Catalogue
from xdm.log.store import Store
from xdm.schema import HOUR, InternalError

UnclickedSource = Literal["own", "shuffled", "random", "live"]

LIVE_WINDOW = 4 * HOUR
LIVE_STEP = 600  # seconds between two states of the live list
LIVE_ITEMS = 50


class LiveItems:
    """The items that anyone clicked most within `LIVE_WINDOW` before a time, in steps of `LIVE_STEP` seconds.

    Nothing at or after ``until`` is looked at: later times get the list of ``until``, as a model in service would know
    no clicks after its training. Memory: 12 bytes a click of the store.
    """

    def __init__(self, store: Store, catalogue: Catalogue, until: int) -> None:
        times, items = [], []
        for _, stored in store.parts():
            events = stored.in_catalogue(catalogue.of_store)
            known = events.clicked & (events.time < until)
            times.append(events.time[known])
            items.append(events.item[known])
        time, item = np.concatenate(times), np.concatenate(items)
        order = np.argsort(time, kind="stable")
        self._time, self._item, self._until = time[order], item[order], until

    def lists(self, time: np.ndarray) -> tuple[Lists, np.ndarray]:
        """The lists at ``time`` int64 ``[Q]``, most clicked last, and which of them belongs to each: int64 ``[Q]``."""
        state = np.minimum(time, self._until) // LIVE_STEP
        states, which = np.unique(state, return_inverse=True)
        begins = np.searchsorted(self._time, states * LIVE_STEP - LIVE_WINDOW)
        ends = np.searchsorted(self._time, states * LIVE_STEP)
        found = []
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            clicked, counts = np.unique(self._item[begin:end], return_counts=True)
            found.append(clicked[np.argsort(counts, kind="stable")][-LIVE_ITEMS:])
        offsets = np.cumsum([0] + [len(one) for one in found]).astype(np.int64)
        values = np.concatenate(found) if found else np.zeros(0, np.int32)
        return (offsets, values.astype(np.int32)), which.astype(np.int64)


class Control:
    """Puts other lists in the place of the unclicked ones; see `UnclickedSource`, of which it knows all but ``own``."""

    def __init__(self, source: UnclickedSource, n_items: int, live: LiveItems | None = None) -> None:
        if source == "own" or (source == "live") != (live is not None):
            raise InternalError(f"the control {source!r} and its live items do not go together")
        self.source, self._n_items, self._live = source, n_items, live

    def lists(self, unclicked: Lists, owner: np.ndarray, time: np.ndarray) -> tuple[Lists, np.ndarray]:
        """Lists and which of them each of Q points gets, from its own ``unclicked``; ``owner`` and ``time`` int64 ``[Q]``.

        ``shuffled``: those of another of the users among the points, at any time; a point that finds no other user
        gets an empty one. ``random``: as many items, drawn evenly from the catalogue. ``live``: see `LiveItems`.
        """
        if self._live is not None:
            return self._live.lists(time)
        offsets, values = unclicked
        own = np.arange(len(owner), dtype=np.int64)
        if self.source == "random":
            rng = np.random.default_rng([len(owner), len(values)])
            return (offsets, rng.integers(1, self._n_items + 1, len(values)).astype(np.int32)), own
        order = np.argsort(owner, kind="stable")
        # Equal owners lie side by side, so that a step by the largest group leads to another one, if half are others.
        step = int(np.unique(owner, return_counts=True)[1].max(initial=0))
        which = np.empty(len(owner), np.int64)
        which[order] = np.roll(order, -step)
        empty = len(offsets) - 1  # one list more, of no item
        which[owner[which] == owner] = empty
        return (np.append(offsets, offsets[-1]), values), which


def control_of(source: UnclickedSource, store: Store, catalogue: Catalogue, until: int) -> Control | None:
    """The control that ``data.unclicked_source`` names, knowing nothing from ``until`` (seconds) on; None for ``own``."""
    if source == "own":
        return None
    live = LiveItems(store, catalogue, until) if source == "live" else None
    return Control(source, catalogue.n_items, live)
