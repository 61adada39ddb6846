"""Clicks with time turned round, so that what follows a label can be read by the one definition of what comes before it."""

from __future__ import annotations

import numpy as np

from xdm.log.store import Events, Store


class ReversedClicks(Store):
    """The clicks of ``store`` strictly before ``until`` (seconds), the last first: one at ``t`` stands at ``until - 1 - t``."""

    def __init__(self, store: Store, until: int) -> None:
        super().__init__(store.path)
        self.store, self.until = store, until

    def part(self, part: int) -> Events:
        return turned_round(self.store.part(part), self.until)


def turned_round(events: Events, until: int) -> Events:
    """The clicks of ``events`` before ``until`` (seconds), of every user the last first, at ``until - 1 - time``."""
    kept = np.flatnonzero(events.clicked & (np.asarray(events.time) < until))
    offsets = np.searchsorted(kept, events.offsets).astype(np.int64)
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = kept[offsets[user] + offsets[user + 1] - 1 - np.arange(len(kept))]
    return Events(
        np.asarray(events.item)[order], until - 1 - np.asarray(events.time, np.int64)[order],
        np.asarray(events.clicked)[order], np.asarray(events.session)[order], offsets,
    )  # fmt: skip
