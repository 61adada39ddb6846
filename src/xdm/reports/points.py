"""A sample of test points: one click of each of some users of the test part, the same for every model that is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xdm.evaluation.splits import Split, questions
from xdm.log.store import Events, Store
from xdm.retrieval.recommender import TowerRecommender
from xdm.retrieval.types import Points
from xdm.schema import ITEM_DTYPE, PADDING, UsageError


class View:
    """A store as one recommender sees it: its own indices of items and users, in the place of the store's."""

    def __init__(self, recommender: TowerRecommender, store: Store) -> None:
        self.recommender = recommender
        known = recommender.catalogue.indices(store.items.vocabulary.ids)
        self.of_store = np.concatenate([[PADDING], known]).astype(ITEM_DTYPE)  # [store items + 1]
        shown = store.items.vocabulary.indices(recommender.catalogue.ids)
        self.to_store = np.concatenate([[PADDING], shown]).astype(ITEM_DTYPE)  # [own items + 1]
        self._user = recommender.users.indices(store.users.vocabulary.ids)  # [store users], by row from 0

    def points(self, first_user: int, events: Events, row: np.ndarray, time: np.ndarray) -> Points:
        """The questions about the users at ``row`` of the part ``events``, whose first user is ``first_user`` (from 0)."""
        return Points(events.in_catalogue(self.of_store), row, self._user[first_user + row], time)

    def can_recommend(self, item: np.ndarray) -> np.ndarray:
        """Which of the store's items ``item`` the model may recommend, bool."""
        own = self.of_store[item]
        return (own != PADDING) & (own <= self.recommender.n_candidates)


@dataclass(frozen=True)
class SampledPoints:
    """P test points in the order of the store: ``part`` and ``row`` (of the part's events) say whose, ``time`` int64
    seconds, ``label`` int32 the item clicked, as the store's index. No user occurs twice. ``eligible`` users had one."""

    part: np.ndarray
    row: np.ndarray
    time: np.ndarray
    label: np.ndarray
    eligible: int

    def __len__(self) -> int:
        return len(self.part)

    def take(self, which: np.ndarray) -> SampledPoints:
        """The points ``which``."""
        return SampledPoints(self.part[which], self.row[which], self.time[which], self.label[which], self.eligible)

    def user_ids(self, store: Store) -> list[Any]:
        """The user of each point."""
        return store.users.vocabulary.external_list(store.first_users[self.part] + self.row + 1)


def sample_points(store: Store, split: Split, views: Sequence[View], size: int, seed: int) -> SampledPoints:
    """At most ``size`` test points of ``split`` (whose questions have one truth item each), drawn with ``seed``.

    First one click of each user at random, among those whose item every model of ``views`` may recommend; it stays if
    every model sees a click before it, and the first one an unclicked item too. Of these ``size`` are drawn. One a user:
    points of one user resemble each other, and intervals that count them as independent would be too short.

    Raises:
        UsageError: fewer than three points.
    """
    rng = np.random.default_rng(seed)
    found = []
    for part, (first_user, events) in enumerate(store.parts()):
        asked = questions(events, split)
        label = np.asarray(asked.truth_items)
        order = rng.permutation(np.flatnonzero(np.logical_and.reduce([view.can_recommend(label) for view in views])))
        _, first = np.unique(asked.row[order], return_index=True)
        chosen = order[first]  # one a user, by rising row
        for place, view in enumerate(views):
            seen = view.recommender.behaviours(view.points(first_user, events, asked.row[chosen], asked.time[chosen]))
            fits = seen.session >= 0
            if place == 0:
                fits &= np.diff(seen.unclicked_offsets) > 0
            chosen = chosen[fits]
        parts = np.full(len(chosen), part, np.int64)
        found.append((parts, asked.row[chosen], asked.time[chosen], label[chosen]))
    part_of, row, time, label = (np.concatenate(column) for column in zip(*found, strict=True))
    n = len(row)
    if n < 3:
        raise UsageError(
            f"{store.path}: only {n} users of the test part have a click before it, an unclicked item, and then a click on an "
            "item that the models know; a picture needs three. Is this the store that the bundles were trained on?"
        )
    return SampledPoints(part_of, row, time, label, n).take(np.sort(rng.permutation(n)[:size]))
