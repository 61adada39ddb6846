"""Who clicked what before the cut-off, which items share users, and the answer that both neighbour models give."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numba import njit

from xdm.evaluation.popularity import ClickCounts, Popularity
from xdm.evaluation.splits import Split, known_before
from xdm.log.store import Store
from xdm.retrieval.exact import ALL_ITEMS, keep_best, sort_best_first
from xdm.retrieval.types import MODEL, POPULAR, Points, TopK
from xdm.schema import ITEM_DTYPE, PADDING, SCORE_DTYPE
from xdm.vocabulary import Vocabulary


class ClickedItems:
    """The binary matrix of users and the items that they clicked, without its zeros, from both sides.

    Items are the ``n`` of ``place``, numbered from 0: ``of_user`` lists the distinct items of each user, ``of_item`` the
    users of each item, each as ``(offsets int64, values int32)``. Memory: 8 bytes a distinct click, and 20 while counting.
    """

    def __init__(self, store: Store, split: Split, place: np.ndarray, n: int) -> None:
        """Of the clicks that may be counted without knowing an answer of ``split`` (`known_before`); ``place`` int32
        ``[store items + 1]`` numbers the items, -1 for one that is left out."""
        keys = []
        for first_user, events in store.parts():
            counted = known_before(events, split) & events.clicked
            item = place[events.item[counted]]
            user = np.repeat(np.arange(first_user, first_user + events.n_users), np.diff(events.offsets))[counted]
            keys.append(np.unique(user[item >= 0] * np.int64(n) + item[item >= 0]))
        key = np.concatenate(keys)
        user, item = key // n, (key % n).astype(np.int32)
        n_users = len(store.users)
        self.n = n
        self.of_user = (np.searchsorted(user, np.arange(n_users + 1)), item)
        by_item = np.argsort(item, kind="stable")
        self.of_item = (np.searchsorted(item[by_item], np.arange(n + 1)), user[by_item].astype(np.int32))

    @property
    def users(self) -> np.ndarray:
        """The number of users who clicked each item, int64 ``[n]``."""
        return np.diff(self.of_item[0])


@njit(nogil=True, cache=True)
def shared_users(item, item_offsets, item_users, user_offsets, user_items, out):
    """Fill ``out`` int64 ``[n]`` with the number of users who clicked both ``item`` and each other item (its own count too)."""
    out[:] = 0
    for u in item_users[item_offsets[item] : item_offsets[item + 1]]:
        for j in user_items[user_offsets[u] : user_offsets[u + 1]]:
            out[j] += 1


class ByClicks(ABC):
    """The answering half of a recommender that scores its candidates from what the user clicked before the question.

    Candidates are numbered from 0 in the order of `Popularity`: of equal scores, and among the items that nothing speaks
    for, the more popular one comes first. A user none of whose clicks is known gets the popular items.
    """

    def __init__(self, store: Store, counts: ClickCounts, limit: int | None = None) -> None:
        """The candidates are the items with a click before the cut-off; the ``limit`` most popular ones, where it is given."""
        self._store = store
        self.candidates = Popularity(store, counts).candidates[:limit]
        self._clicks = counts.clicks[self.candidates]
        self.place = np.full(len(store.items) + 1, -1, np.int32)
        self.place[self.candidates] = np.arange(len(self.candidates))

    @property
    def catalogue(self) -> Vocabulary:
        return self._store.items.vocabulary

    @property
    def users(self) -> Vocabulary:
        return self._store.users.vocabulary

    @abstractmethod
    def scores(self, clicked: np.ndarray) -> np.ndarray:
        """Scores of all candidates, float ``[n]``, from ``clicked`` int64 ``[m]``, m >= 1: the distinct candidates that one
        user clicked, numbered from 0, the latest first."""

    def top_k(self, points: Points, k: int, exclude: list[np.ndarray] | None = None) -> TopK:
        """See `xdm.retrieval.types.Recommender`."""
        places = np.zeros((len(points), k), ITEM_DTYPE)  # counted from 1; 0 past the end
        scores = np.full((len(points), k), -np.inf, SCORE_DTYPE)
        source = np.full(len(points), MODEL, np.uint8)
        for q, items in enumerate(points.clicked_before()):
            clicked = self._distinct(items)
            source[q] = MODEL if len(clicked) else POPULAR
            of_candidates = (self.scores(clicked) if len(clicked) else self._clicks).astype(SCORE_DTYPE)
            left_out = np.zeros(0, ITEM_DTYPE) if exclude is None else np.sort(self.place[exclude[q]] + 1)
            row = slice(q, q + 1)
            keep_best(of_candidates[None], 1, 1, scores[row], places[row], left_out, np.array([0, len(left_out)]), ALL_ITEMS)
        sort_best_first(scores, places)
        return TopK(np.concatenate([[PADDING], self.candidates]).astype(ITEM_DTYPE)[places], scores, source)

    def _distinct(self, clicked: np.ndarray) -> np.ndarray:
        """The distinct candidates among the items ``clicked``, oldest first: numbered from 0, the latest first."""
        places = self.place[clicked]
        latest = places[places >= 0][::-1]
        _, first = np.unique(latest, return_index=True)
        return latest[np.sort(first)].astype(np.int64)
