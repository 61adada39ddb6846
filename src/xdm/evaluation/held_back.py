"""Stores that hold back what is to be predicted: it cannot be read through them, whatever is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xdm.evaluation.splits import Split, known_before
from xdm.log.store import Events, Store


class StoreUntil(Store):
    """A store that ends at ``limit`` (seconds)."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path)
        self.limit = limit

    def part(self, part: int) -> Events:
        events = super().part(part)
        return _only(events, np.asarray(events.time) < self.limit)


class StoreBefore(Store):
    """A store that ends, for every user, at the user's own question of ``split`` (`known_before`)."""

    def __init__(self, path: Path, split: Split) -> None:
        super().__init__(path)
        self.split = split

    def part(self, part: int) -> Events:
        events = super().part(part)
        return _only(events, known_before(events, self.split))


def _only(events: Events, kept: np.ndarray) -> Events:
    before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    columns = {name: getattr(events, name)[kept] for name in ("item", "time", "clicked", "session")}
    return Events(offsets=before[events.offsets], **columns)
