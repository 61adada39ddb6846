"""Top-K by scoring every item for every query: for models whose score needs the candidate and folds into no inner product."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xdm.retrieval.exact import (
    ALL_ITEMS,
    checked_queries,
    checked_vectors,
    flatten_excluded,
    keep_best,
    sort_best_first,
    top_k_among,
)
from xdm.schema import ITEM_DTYPE, PADDING, SCORE_DTYPE, InternalError

# queries float32 [Q, K, d] and item vectors float32 [N, d] to scores float32 [Q, N]
Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]
PAIRS_AT_ONCE = 1 << 17  # pairs of a query and an item that are scored at once
QUESTIONS_AT_ONCE = 64


class FullScoring:
    """The items with the largest score; never an approximation. Ties go to the smaller index, as `ExactRetriever` has it.

    Memory: what the scorer needs for 131,072 pairs, beside item vectors, questions and answer.
    """

    def __init__(self, scorer: Scorer, item_vectors: np.ndarray) -> None:
        """``item_vectors`` float32 ``[N, d]``: row i belongs to index i + 1.

        Raises:
            InternalError: item vectors of another kind, or with NaN or infinity.
        """
        self.scorer, self.item_vectors = scorer, checked_vectors(item_vectors)

    def __len__(self) -> int:
        return len(self.item_vectors)

    def top_k(
        self,
        queries: np.ndarray,
        k: int,
        exclude: list[np.ndarray] | None = None,
        allowed: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `xdm.retrieval.types.Retriever`.

        Raises:
            InternalError: a shape that does not fit, or a query or score that is no number.
        """
        queries = checked_queries(queries, self.item_vectors.shape[1], k, exclude)
        if allowed is None:
            return self._search(queries, k, exclude, None)
        # A scored pair costs far more than a gathered row.
        return top_k_among(allowed, exclude, lambda rows, left_out: self._search(queries, k, left_out, rows))

    def _search(
        self, queries: np.ndarray, k: int, exclude: list[np.ndarray] | None, rows: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Score the ``rows`` of the item vectors (None: all); indices count from 1 among them."""
        excluded, offsets = flatten_excluded(exclude, len(queries))
        n_items = len(self) if rows is None else len(rows)
        top_scores = np.full((len(queries), k), -np.inf, SCORE_DTYPE)
        top_items = np.full((len(queries), k), PADDING, ITEM_DTYPE)
        for first in range(0, len(queries), QUESTIONS_AT_ONCE):
            some = slice(first, min(first + QUESTIONS_AT_ONCE, len(queries)))
            step = max(1, PAIRS_AT_ONCE // (some.stop - first))
            for first_item in range(0, n_items, step):
                span = slice(first_item, first_item + step)
                scores = self.scorer(queries[some], self.item_vectors[span if rows is None else rows[span]])
                if np.isnan(scores).any():
                    raise InternalError(f"a score of the items from index {first_item + 1} on is NaN")
                keep_best(
                    np.ascontiguousarray(scores, SCORE_DTYPE), 1, first_item + 1, top_scores[some], top_items[some],
                    excluded, offsets[first : some.stop + 1], ALL_ITEMS,
                )  # fmt: skip
        sort_best_first(top_scores, top_items)
        return top_scores, top_items
