"""What is popular, and what is popular now: the two baselines that stand beside every model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xdm.evaluation.splits import LAST_CLICK, Split, known_before
from xdm.log.store import Store
from xdm.retrieval.types import MODEL, Points, TopK
from xdm.schema import DAY, ITEM_DTYPE, PADDING, SCORE_DTYPE
from xdm.vocabulary import Vocabulary


@dataclass(frozen=True)
class ClickCounts:
    """What may be counted without knowing an answer of the split, by store item index, int64 ``[N + 1]`` each:
    ``clicks``, ``recent`` (clicks in the window before the cut-off) and ``last_click`` (seconds, -1 for none)."""

    clicks: np.ndarray
    recent: np.ndarray
    last_click: np.ndarray


def count_clicks(store: Store, split: Split, window: int = DAY) -> ClickCounts:
    """Count the clicks of ``store`` strictly before the cut-off of ``split`` (`known_before`); ``window`` in seconds.

    Under ``last-click``, which has no cut-off for all users, the window ends with the split.
    """
    size = len(store.items) + 1
    clicks, recent = np.zeros(size, np.int64), np.zeros(size, np.int64)
    last_click = np.full(size, -1, np.int64)
    end = split.until if split.protocol == LAST_CLICK else split.cut_off
    for _, events in store.parts():
        counted = known_before(events, split) & events.clicked
        item, time = events.item[counted], events.time[counted]
        clicks += np.bincount(item, minlength=size)
        recent += np.bincount(item[time >= end - window], minlength=size)
        np.maximum.at(last_click, item, time)
    return ClickCounts(clicks, recent, last_click)


class Popularity:
    """A `Recommender` that gives everyone the items with the most clicks before the cut-off; scores are the counts.

    Ties go to the item clicked last, then to the smaller id: an order by store index would tell how often an item
    is clicked in the whole log, the time after the cut-off included. Items without a click are not recommended.
    """

    def __init__(self, store: Store, counts: ClickCounts) -> None:
        self._store = store
        self._rank(counts, {"clicks": counts.clicks}, counts.clicks)

    def _rank(self, counts: ClickCounts, by: dict[str, np.ndarray], scores: np.ndarray) -> None:
        clicked = np.flatnonzero(counts.clicks)
        columns = {name: values[clicked] for name, values in by.items()} | {"last_click": counts.last_click[clicked]}
        table = pa.table(columns | {"id": self.catalogue.external(clicked)})
        keys = [(name, "descending") for name in columns] + [("id", "ascending")]
        self._items = clicked[pc.sort_indices(table, sort_keys=keys).to_numpy()].astype(ITEM_DTYPE)
        self._scores = scores[self._items].astype(SCORE_DTYPE)

    @property
    def catalogue(self) -> Vocabulary:
        return self._store.items.vocabulary

    @property
    def candidates(self) -> np.ndarray:
        """The item indices that it can recommend, best first."""
        return self._items

    @property
    def users(self) -> Vocabulary:
        return self._store.users.vocabulary

    def top_k(self, points: Points, k: int, exclude: list[np.ndarray] | None = None) -> TopK:
        """The same list for every question, less what is excluded for it."""
        items = np.full((len(points), k), PADDING, ITEM_DTYPE)
        scores = np.full((len(points), k), -np.inf, SCORE_DTYPE)
        if exclude is None:
            items[:, : len(self._items)] = self._items[:k]
            scores[:, : len(self._items)] = self._scores[:k]
        else:
            for q, excluded in enumerate(exclude):
                head = self._items[: k + len(excluded)]
                kept = np.flatnonzero(~np.isin(head, excluded))[:k]
                items[q, : len(kept)] = head[kept]
                scores[q, : len(kept)] = self._scores[kept]
        return TopK(items, scores, np.full(len(points), MODEL, np.uint8))


class RecentPopularity(Popularity):
    """A `Recommender` that gives everyone the items with the most clicks in the window before the cut-off, then, where
    those are equal, the most clicks before the cut-off; scores are the counts in the window."""

    def __init__(self, store: Store, counts: ClickCounts) -> None:
        self._store = store
        self._rank(counts, {"recent": counts.recent, "clicks": counts.clicks}, counts.recent)
