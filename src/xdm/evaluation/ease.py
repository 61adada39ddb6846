"""EASE: a linear model of items from items, in closed form.

Paper: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, arXiv 1905.03375. See docs/models/ease.md.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from pydantic import BaseModel, ConfigDict, Field

from xdm.evaluation.cooccurrence import ByClicks, ClickedItems, shared_users
from xdm.evaluation.popularity import ClickCounts
from xdm.evaluation.splits import Split
from xdm.log.store import Store


class EASEConfig(BaseModel):
    """EASE's settings. The author's weight of the L2 norm is chosen by the data: 500 on ML-20M, 1000 on Netflix, 200 on MSD."""

    model_config = ConfigDict(extra="forbid")

    l2: float = Field(500.0, gt=0, description="lambda: weight of the squared norm of B")
    max_items: int = Field(
        10_000,
        ge=1,
        description="how many of the most clicked items take part: the inverse needs 24 bytes times its square",
    )


class EASE(ByClicks):
    """A `Recommender` that scores by ``x B``, x the binary vector of what the user clicked before the question.

    B minimises ``|X - X B|² + l2 |B|²`` with a diagonal of zeros, X the users' clicked items before the cut-off (eq. 1):
    ``B = I - P / diag(P)`` off the diagonal, ``P = (XᵀX + l2 I)⁻¹`` (eq. 8). Memory: three ``[n, n]`` of 8 bytes while
    inverting, one of 4 bytes afterwards; n is at most ``max_items``, and rarer items are not recommended.
    """

    def __init__(self, store: Store, counts: ClickCounts, split: Split, config: EASEConfig) -> None:
        super().__init__(store, counts, limit=config.max_items)
        n = len(self.candidates)
        clicked = ClickedItems(store, split, self.place, n)
        gram = np.zeros((n, n))  # XᵀX
        _gram(*clicked.of_item, *clicked.of_user, gram)
        gram[np.diag_indices(n)] += config.l2
        inverse = np.linalg.inv(gram)
        inverse /= -np.diag(inverse)  # column j by its own P_jj
        inverse[np.diag_indices(n)] = 0
        self.weights = inverse.astype(np.float32)  # B [n, n]

    def scores(self, clicked: np.ndarray) -> np.ndarray:
        """See `ByClicks`."""
        return self.weights[clicked].sum(axis=0)


@njit(nogil=True, cache=True)
def _gram(item_offsets, item_users, user_offsets, user_items, gram):
    shared = np.zeros(len(gram), np.int64)
    for item in range(len(gram)):
        shared_users(item, item_offsets, item_users, user_offsets, user_items, shared)
        gram[item] = shared
