"""The items and users that a model knows: what the log had shown before the end of its training period, and no more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xdm.log.store import EntityTable, Store
from xdm.schema import ITEM_DTYPE, ITEM_ID, USER_ID, UsageError


@dataclass(frozen=True)
class Catalogue:
    """Items shown before ``until``, ordered by falling clicks before ``until``; index 1 is the most clicked.

    The order is that of the log-uniform sampler, and it is made anew for each training period: an order taken from
    the whole log would tell the model which items will be clicked later. The first ``n_candidates`` items, those with
    at least ``min_clicks`` clicks, can be recommended; the others are known as inputs (they were shown and skipped).
    ``of_store`` int32 ``[store items + 1]`` maps store indices to catalogue indices, 0 for items not yet shown.
    """

    items: EntityTable
    users: EntityTable
    n_candidates: int
    of_store: np.ndarray

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def n_users(self) -> int:
        return len(self.users)

    @property
    def clicks(self) -> np.ndarray:
        """How often each candidate was clicked before ``until``: int64 ``[n_candidates]``."""
        return self.items.table["clicks"].to_numpy()[: self.n_candidates]


def build_catalogue(store: Store, until: int, min_clicks: int = 1) -> Catalogue:
    """The catalogue of everything that happened in ``store`` strictly before ``until`` (seconds).

    Raises:
        UsageError: nothing was clicked before ``until``.
    """
    n = len(store.items)
    clicks, exposures = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    for _, events in store.parts():
        before = events.time < until
        exposures += np.bincount(events.item[before], minlength=n + 1)
        clicks += np.bincount(events.item[before & events.clicked], minlength=n + 1)
    shown = np.flatnonzero(exposures)
    # Ties go by id: the store's own order counts the clicks of the whole log, and would tell which items will be clicked.
    ids = store.items.vocabulary.external(shown)
    by = pa.table({"clicks": clicks[shown], "exposures": exposures[shown], "id": ids})
    keys = [("clicks", "descending"), ("exposures", "descending"), ("id", "ascending")]
    order = shown[pc.sort_indices(by, sort_keys=keys).to_numpy()]
    n_candidates = int((clicks[order] >= max(min_clicks, 1)).sum())
    if not n_candidates:
        raise UsageError(
            f"no item of {store.path} has {max(min_clicks, 1)} clicks before {until}; there is nothing to learn from"
        )
    of_store = np.zeros(n + 1, ITEM_DTYPE)
    of_store[order] = np.arange(1, len(order) + 1)
    table = store.items.table.take(pa.array(order - 1))
    for name, counts in (("clicks", clicks), ("exposures", exposures)):
        table = table.set_column(table.column_names.index(name), name, pa.array(counts[order]))
    return Catalogue(EntityTable(table, ITEM_ID), EntityTable(store.users.table, USER_ID), n_candidates, of_store)
