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
        self._tower, self.retriever = tower, retriever
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

    def top_k(
        self,
        points: Points,
        k: int,
        exclude: list[np.ndarray] | None = None,
        allowed: np.ndarray | None = None,
        retriever: Retriever | None = None,
    ) -> TopK:
        """See `xdm.retrieval.types.Recommender`. ``allowed``: nothing but these items (sorted, distinct indices; None: all);
        ``retriever`` searches in place of this one's own."""
        retriever = self.retriever if retriever is None else retriever
        found = self.behaviours(points)
        source = np.where(found.session >= 0, MODEL, POPULAR).astype(np.uint8)
        items = np.full((len(points), k), PADDING, np.int32)
        scores = np.full((len(points), k), -np.inf, SCORE_DTYPE)
        known = np.flatnonzero(source == MODEL)
        if len(known):
            left_out = None if exclude is None else [exclude[q] for q in known]
            scores[known], items[known] = retriever.top_k(self.queries(found, known, points), k, left_out, allowed)
        for q in np.flatnonzero(source == POPULAR):
            popular, clicks = self.popular(k, None if exclude is None else exclude[q], allowed)
            items[q, : len(popular)], scores[q, : len(popular)] = popular, clicks
        return TopK(items, scores, source)

    def popular(
        self, k: int, exclude: np.ndarray | None = None, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` candidates with the most training clicks: indices int32, most clicked first, and their clicks float32."""
        left_out = np.empty(0, np.int32) if exclude is None else exclude
        enough = k + len(left_out)
        fitting = np.arange(1, min(enough, self.n_candidates) + 1) if allowed is None else allowed[allowed <= self.n_candidates]
        first = fitting[:enough]
        first = first[~np.isin(first, left_out)][:k].astype(np.int32)
        return first, self._clicks[first - 1].astype(np.float32)
