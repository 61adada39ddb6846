"""Items like an item: the exact search by the cosine of plain item vectors."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from xdm.retrieval.exact import ALL_ITEMS, ITEM_BLOCK, few, keep_best, sort_best_first, top_k_among
from xdm.schema import ITEM_DTYPE, PADDING, SCORE_DTYPE


class Similar:
    """Over ``item_vectors`` float32 ``[N, d']``, of which the first ``width`` coordinates are the item's own (the others belong to the
    scoring). Keeps one number an item beside them."""

    def __init__(self, item_vectors: np.ndarray, width: int) -> None:
        self._vectors, self._width = item_vectors, width

    @cached_property
    def _inverse_norms(self) -> np.ndarray:
        norms = np.empty(len(self._vectors), np.float32)
        for first in range(0, len(norms), ITEM_BLOCK):
            span = slice(first, first + ITEM_BLOCK)
            norms[span] = np.linalg.norm(self._vectors[span, : self._width], axis=1)
        return 1 / np.maximum(norms, 1e-12)

    def top_k(
        self, vector: np.ndarray, k: int, exclude: np.ndarray, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` items of the largest cosine with ``vector`` ``[d']``: float32 ``[k]`` and int32 ``[k]``, best first, of
        equal ones the smaller index first; ``-inf`` and 0 past the end. Never one of ``exclude``, nothing but ``allowed``
        (sorted indices)."""
        query = np.zeros(self._vectors.shape[1], np.float32)
        plain = vector[: self._width]
        query[: self._width] = plain / max(float(np.linalg.norm(plain)), 1e-12)
        if few(allowed, len(self._vectors)):
            def among(rows: np.ndarray, left_out: list[np.ndarray] | None) -> tuple[np.ndarray, np.ndarray]:
                return self._search(query, k, (left_out or [exclude])[0], rows, ALL_ITEMS)

            scores, items = top_k_among(allowed, [exclude], among)
        else:
            scores, items = self._search(query, k, np.sort(exclude), None, ALL_ITEMS if allowed is None else allowed)
        return scores[0], items[0]

    def _search(
        self, query: np.ndarray, k: int, exclude: np.ndarray, rows: np.ndarray | None, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        top_scores, top_items = np.full((1, k), -np.inf, SCORE_DTYPE), np.full((1, k), PADDING, ITEM_DTYPE)
        n_items = len(self._vectors) if rows is None else len(rows)
        ends = np.array([0, len(exclude)])
        for first in range(0, n_items, 16 * ITEM_BLOCK):
            span: slice | np.ndarray = slice(first, first + 16 * ITEM_BLOCK)
            span = span if rows is None else rows[span]
            cosines = (self._vectors[span] @ query) * self._inverse_norms[span]
            keep_best(cosines[None], 1, first + 1, top_scores, top_items, exclude.astype(ITEM_DTYPE), ends, allowed)
        sort_best_first(top_scores, top_items)
        return top_scores, top_items
