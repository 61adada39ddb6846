"""The training part as a whole, for models that know more of it than their rows: its end, and all of its clicks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xdm.data.catalogue import Catalogue
from xdm.log.store import Store


@dataclass(frozen=True)
class Clicks:
    """Clicks in the order of time: ``user`` and ``item`` indices of the catalogue and ``time`` in seconds, int64 ``[C]`` each."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray


@dataclass(frozen=True)
class TrainingLog:
    """What happened in ``store`` strictly before ``until`` (seconds)."""

    store: Store
    catalogue: Catalogue
    until: int

    @cached_property
    def clicks(self) -> Clicks:
        """All clicks: 24 bytes each."""
        user, item, time = (np.concatenate(columns).astype(np.int64) for columns in zip(*self._exposures(True), strict=True))
        order = np.argsort(time, kind="stable")
        return Clicks(user[order], item[order], time[order])

    def pairs(self, clicked: bool) -> tuple[np.ndarray, np.ndarray]:
        """The user and the item, int64 each, of exposures that were ``clicked``, or of those that were not: each pair once."""
        parts = [np.unique(np.stack([user, item]), axis=1) for user, item, _ in self._exposures(clicked)]
        user, item = np.concatenate(parts, axis=1).astype(np.int64)  # a user is in one part alone
        return user, item

    def _exposures(self, clicked: bool) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """User, item and time of the exposures of each part of the store that were ``clicked``, or of those that were not."""
        for first_user, stored in self.store.parts():
            events = stored.in_catalogue(self.catalogue.of_store)
            user = np.repeat(np.arange(first_user + 1, first_user + len(events.offsets)), np.diff(events.offsets))
            kept = (np.asarray(events.clicked, bool) == clicked) & (events.time < self.until)
            yield user[kept], np.asarray(events.item)[kept], np.asarray(events.time)[kept]
