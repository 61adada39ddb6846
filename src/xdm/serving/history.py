"""A store's events in a model's terms: what was known of each user before the live events began."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from xdm.log.store import Events, Store
from xdm.schema import ITEM_DTYPE, PADDING
from xdm.vocabulary import Vocabulary


class History:
    """The events of a store with catalogue indices, 0 where the catalogue lacks the item."""

    def __init__(self, store: Store, catalogue: Vocabulary) -> None:
        self.store = store
        known = catalogue.indices(store.items.vocabulary.ids)
        self.mapping = np.concatenate([np.array([PADDING], ITEM_DTYPE), known])  # store index to catalogue index
        self._part = lru_cache(maxsize=None)(store.part)

    @property
    def next_second(self) -> int:
        """The second after the log's last one: the earliest time at which all of it is in the past."""
        return self.store.time_range[1] + 1

    def events_of(self, user_id: str | int, *, before: int, newest: int) -> Events:
        """The user's ``newest`` events strictly before the second ``before``; items by catalogue index, 0 unknown."""
        user = self.store.users.vocabulary.index(user_id)
        if user == PADDING:
            return Events.of_one_user([], [], [])
        part = int(np.searchsorted(self.store.first_users, user - 1, side="right")) - 1
        events = self._part(part).of_user(user - 1 - int(self.store.first_users[part]))
        end = int(np.searchsorted(events.time, before))
        span = slice(max(0, end - newest), end)
        return Events.of_one_user(
            self.mapping[events.item[span]], events.time[span], events.clicked[span], events.session[span]
        )

    def batches(self, users: int) -> Iterator[tuple[int, Events]]:
        """``(first user row, events)`` of at most ``users`` users of one part at a time, known items only."""
        for first_row, events in self.store.parts():
            for first in range(0, events.n_users, users):
                offsets = np.asarray(events.offsets[first : first + users + 1])
                span = slice(int(offsets[0]), int(offsets[-1]))
                batch = Events(
                    events.item[span],
                    events.time[span],
                    events.clicked[span],
                    events.session[span],
                    offsets - offsets[0],
                )
                yield first_row + first, batch.in_catalogue(self.mapping)
