"""From behaviours to ranked items, with any user tower: a model in training, or a bundle's exported one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from xdm.behaviours.points import Behaviours, FeatureTable, behaviours, take_lists
from xdm.behaviours.rules import BehaviourRules
from xdm.data.batches import Batch, point_batch
from xdm.data.controls import Control
from xdm.data.profiles import profile_codes
from xdm.log.store import EntityTable
from xdm.retrieval.types import MODEL, POPULAR, Points, Retriever, TopK
from xdm.schema import PADDING, SCORE_DTYPE
from xdm.vocabulary import Vocabulary

Tower = Callable[[Batch], np.ndarray]  # a batch of one point a row, as arrays, to queries float32 [P, K, d]


class TowerRecommender:
    """Behaviours by the kernel, queries by the tower, items by the retriever.

    A user without a visible click gets the items with the most training clicks, which the catalogue's order is.
    """

    def __init__(
        self, tower: Tower, retriever: Retriever, items: EntityTable, users: EntityTable, rules: BehaviourRules,
        control: Control | None = None,
    ) -> None:  # fmt: skip
        """``retriever`` holds the candidates, which are the first rows of ``items``, most clicked first.
        ``control`` puts other lists in the place of the unclicked ones, as it did in training."""
        self._tower, self._retriever = tower, retriever
        self.items, self.rules, self.control = items, rules, control
        self._users = users
        self._features = FeatureTable.of(len(items), items.features)
        self._profile = profile_codes(users)
        self._clicks = items.counts("clicks")[1:]
        self.n_candidates = len(retriever)

    @property
    def catalogue(self) -> Vocabulary:
        return self.items.vocabulary

    @property
    def users(self) -> Vocabulary:
        return self._users.vocabulary

    def behaviours(self, points: Points) -> Behaviours:
        """What the model may see at each point."""
        found = behaviours(points.events, points.row, points.time, self._features, self.rules)
        if self.control is None:
            return found
        own = (found.unclicked_offsets, found.unclicked_values)
        lists, which = self.control.lists(own, points.row, points.time)
        offsets, values = take_lists(*lists, which)
        return replace(found, unclicked_offsets=offsets, unclicked_values=values)

    def queries(self, found: Behaviours, which: np.ndarray, points: Points) -> np.ndarray:
        """The queries ``[P, K, d]`` of the ``which`` of ``points``, all with a visible click; ``found`` is theirs."""
        user = points.user[which]
        return self._tower(point_batch(found, which, points.time[which], user, self._profile[user]))

    def top_k(self, points: Points, k: int, exclude: list[np.ndarray] | None = None) -> TopK:
        """See `xdm.retrieval.types.Recommender`."""
        found = self.behaviours(points)
        source = np.where(found.session >= 0, MODEL, POPULAR).astype(np.uint8)
        items = np.full((len(points), k), PADDING, np.int32)
        scores = np.full((len(points), k), -np.inf, SCORE_DTYPE)
        known = np.flatnonzero(source == MODEL)
        if len(known):
            left_out = None if exclude is None else [exclude[q] for q in known]
            scores[known], items[known] = self._retriever.top_k(
                self.queries(found, known, points), k, left_out
            )
        for q in np.flatnonzero(source == POPULAR):
            popular = self._popular(k, None if exclude is None else exclude[q])
            items[q, : len(popular)] = popular
            scores[q, : len(popular)] = self._clicks[popular - 1]
        return TopK(items, scores, source)

    def _popular(self, k: int, exclude: np.ndarray | None) -> np.ndarray:
        if exclude is None or not len(exclude):
            return np.arange(1, min(k, self.n_candidates) + 1)
        first = np.arange(1, min(k + len(exclude), self.n_candidates) + 1)
        return first[~np.isin(first, exclude)][:k]
