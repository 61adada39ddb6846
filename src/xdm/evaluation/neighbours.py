"""ItemKNN: items that the users of the clicked ones clicked too.

Papers: Sarwar et al., "Item-based Collaborative Filtering Recommendation Algorithms", WWW 2001; Deshpande and Karypis,
"Item-based Top-N Recommendation Algorithms", ACM TOIS 22(1), 2004. See docs/models/itemknn.md.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from pydantic import BaseModel, ConfigDict, Field

from xdm.evaluation.cooccurrence import ByClicks, ClickedItems, shared_users
from xdm.evaluation.popularity import ClickCounts
from xdm.evaluation.splits import Split
from xdm.log.store import Store


class ItemKNNConfig(BaseModel):
    """ItemKNN's settings. The papers choose the number of neighbours by the data; the default is ours, see its page."""

    model_config = ConfigDict(extra="forbid")

    neighbours: int = Field(100, ge=1, description="how many of the most similar items each item keeps")
    shrinkage: float = Field(
        0.0, ge=0, description="added to the cosine's denominator: distrust of items with few users"
    )
    latest: int = Field(0, ge=0, description="how many of the user's latest distinct clicks count; 0: all")
    half_life: float = Field(
        0.0, ge=0, description="clicks back after which a click counts half as much; 0: all clicks count the same"
    )


class ItemKNN(ByClicks):
    """A `Recommender`: the score of an item is the sum of its similarities to what the user clicked before the question.

    ``sim(i, j) = |U_i ∩ U_j| / (sqrt(|U_i| |U_j|) + shrinkage)``, ``U_i`` the users who clicked i before the cut-off; each
    clicked item speaks for its most similar ``neighbours`` alone (of equal similarity the more popular one). Memory: the
    distinct clicks and ``n * neighbours`` entries; time of counting: the sum over users of their distinct items squared.
    """

    def __init__(self, store: Store, counts: ClickCounts, split: Split, config: ItemKNNConfig) -> None:
        super().__init__(store, counts)
        self.config = config
        n = len(self.candidates)
        clicked = ClickedItems(store, split, self.place, n)
        size = min(config.neighbours, max(n - 1, 0))
        # [n, size]: the neighbours of each item, most similar first, and how similar; 0 past the end of an item's list
        self.neighbours = np.zeros((n, size), np.int32)
        self.similarity = np.zeros((n, size))
        _nearest(clicked.users, *clicked.of_item, *clicked.of_user, config.shrinkage, self.neighbours, self.similarity)

    def scores(self, clicked: np.ndarray) -> np.ndarray:
        """See `ByClicks`."""
        clicked = clicked[: self.config.latest or None]
        weight = np.ones(len(clicked))
        if self.config.half_life:
            weight = 0.5 ** (np.arange(len(clicked)) / self.config.half_life)
        votes = self.similarity[clicked] * weight[:, None]  # [m, neighbours]
        return np.bincount(self.neighbours[clicked].ravel(), votes.ravel(), minlength=len(self.candidates))


@njit(nogil=True, cache=True)
def _nearest(users, item_offsets, item_users, user_offsets, user_items, shrinkage, neighbours, similarity):
    """Fill ``neighbours`` and ``similarity`` ``[n, size]`` item by item; holds one row of counts."""
    n, size = neighbours.shape
    shared = np.zeros(n, np.int64)
    for item in range(n):
        shared_users(item, item_offsets, item_users, user_offsets, user_items, shared)
        shared[item] = 0
        found = np.flatnonzero(shared)
        similar = np.empty(len(found))
        for at, other in enumerate(found):
            similar[at] = shared[other] / (np.sqrt(float(users[item]) * users[other]) + shrinkage)
        # A stable sort leaves equal ones in the order of popularity, in which the items are numbered.
        order = np.argsort(-similar, kind="mergesort")[:size]
        neighbours[item, : len(order)] = found[order]
        similarity[item, : len(order)] = similar[order]
