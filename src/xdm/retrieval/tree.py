"""Beam search over a tree of the items: TDM's retriever, for inner products and for candidate-dependent scores alike.

Paper: Zhu et al., "Learning Tree-based Deep Model for Recommender Systems", KDD 2018, arXiv 1801.02294, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from xdm.retrieval.exact import checked_queries, checked_vectors
from xdm.retrieval.scoring import Scorer
from xdm.retrieval.tree_building import REGROUPED, depth_of, largest
from xdm.schema import ITEM_DTYPE, PADDING, SCORE_DTYPE, InternalError


@dataclass(frozen=True)
class ItemTree:
    """A tree over N items, numbered as `xdm.retrieval.tree_building` has it. ``node_vectors`` float32 ``[2^depth, d]``: row c is inner
    node c; ``leaves`` int ``[N]``: the node of each item; ``beam``: how many nodes of a level a search goes on from."""

    node_vectors: np.ndarray
    leaves: np.ndarray
    beam: int


class TreeRetriever:
    """The best items that a search from the root finds, which on every level goes on from the ``beam`` best nodes alone.

    It scores about 2 · beam · log2(N) nodes a question. Where the beam holds every node of the last level but one (2^L / 2,
    less than N), it is the exact search. A question's beam is never narrower than k and its excluded items together, so
    that an answer is short only where the catalogue is.
    """

    def __init__(self, item_vectors: np.ndarray, tree: ItemTree, scorer: Scorer | None = None) -> None:
        """``item_vectors`` float32 ``[N, d]``: row i belongs to index i + 1. ``scorer`` says how queries and vectors make scores;
        None: by inner product, maximum over a question's interests.

        Raises:
            InternalError: vectors that `ExactRetriever` refuses, or that are no tree of the items.
        """
        self.item_vectors, self.tree = checked_vectors(item_vectors), tree
        checked_vectors(tree.node_vectors)
        self.depth = depth_of(len(item_vectors))
        if tree.node_vectors.shape != (2**self.depth, item_vectors.shape[1]):
            raise InternalError(
                f"{len(item_vectors)} items of width {item_vectors.shape[1]} need node vectors "
                f"[{2**self.depth}, {item_vectors.shape[1]}], not {list(tree.node_vectors.shape)}"
            )
        slots = np.asarray(tree.leaves, np.int64) - 2**self.depth
        if slots.shape != (len(item_vectors),) or (slots < 0).any() or (slots >= 2**self.depth).any():
            raise InternalError(f"leaves must be {len(item_vectors)} nodes of level {self.depth}, one an item")
        self._item_at = np.full(2**self.depth, PADDING, ITEM_DTYPE)  # by place on the last level
        self._item_at[slots] = np.arange(1, len(item_vectors) + 1)
        if np.count_nonzero(self._item_at) != len(item_vectors):
            raise InternalError("two items share a leaf of the tree")
        if tree.beam < 1:
            raise InternalError(f"beam must be at least 1, not {tree.beam}")
        self.scorer = scorer

    def __len__(self) -> int:
        return len(self.item_vectors)

    def top_k(
        self,
        queries: np.ndarray,
        k: int,
        exclude: list[np.ndarray] | None = None,
        allowed: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `ExactRetriever.top_k`: scores float32 ``[Q, k]`` and item indices int32 ``[Q, k]``, best first. Of ``allowed`` items
        every one is scored: a filter parts no tree, and a search that it thins out would find too few."""
        queries = checked_queries(queries, self.item_vectors.shape[1], k, exclude)
        top_scores = np.full((len(queries), k), -np.inf, SCORE_DTYPE)
        top_items = np.full((len(queries), k), PADDING, ITEM_DTYPE)
        for q, query in enumerate(queries):
            excluded = np.unique(exclude[q]) if exclude is not None else np.empty(0, ITEM_DTYPE)
            items = allowed if allowed is not None else self._candidates(query, max(self.tree.beam, k + len(excluded)))
            items = items[~np.isin(items, excluded)]
            scores = self._scores(query, self.item_vectors, items - 1)
            best = np.lexsort((items, -scores))[:k]
            top_scores[q, : len(best)], top_items[q, : len(best)] = scores[best], items[best]
        return top_scores, top_items

    def _candidates(self, query: np.ndarray, width: int) -> np.ndarray:
        """The items below the best ``width`` nodes of the last level but one."""
        # Levels that the beam holds whole need no scores: begin with the last of them.
        level = min(width.bit_length() - 1, self.depth)
        nodes = np.arange(2**level, 2 ** (level + 1))
        while level < self.depth:
            if len(nodes) > width:
                nodes = nodes[largest(self._scores(query, self.tree.node_vectors, nodes), width)]
            # Nodes rise from left to right, and so do their children: of equal scores the smaller number is the first.
            nodes = np.stack([2 * nodes, 2 * nodes + 1], axis=1).reshape(-1)
            level += 1
        items = self._item_at[nodes - 2**self.depth]
        return items[items != PADDING]

    def _scores(self, query: np.ndarray, table: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The scores of ``query`` ``[K, d]`` and ``rows`` ``[C]`` of ``table``: float32 ``[C]``."""
        if self.scorer is None:
            return inner_products(query, table, rows)
        scores = self.scorer(query[None], table[rows])[0]
        if np.isnan(scores).any():
            raise InternalError("the score of a query and a node or item of the tree is NaN")
        return scores


def recall(found: Sequence[np.ndarray] | np.ndarray, wanted: np.ndarray) -> float:
    """The share of the items ``wanted`` ``[Q, k]`` (0 past the end of a list) that are in ``found`` (Q lists of items)."""
    hits = sum(np.isin(want[want != PADDING], got).sum() for want, got in zip(wanted, found, strict=True))
    return float(hits / max(1, np.count_nonzero(wanted != PADDING)))


@njit(nogil=True, cache=True, fastmath=REGROUPED)
def inner_products(query, table, rows):
    """The largest inner product of the interests ``query`` ``[K, d]`` with each of the ``rows`` of ``table``: float32 ``[rows]``."""
    scores = np.empty(len(rows), np.float32)
    for i in range(len(rows)):
        row = table[rows[i]]
        best = np.float32(-np.inf)
        for interest in range(query.shape[0]):
            total = np.float32(0)
            for j in range(query.shape[1]):
                total += query[interest, j] * row[j]
            best = max(best, total)
        scores[i] = best
    return scores
