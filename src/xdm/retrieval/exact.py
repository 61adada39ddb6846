"""Exact top-K search by inner product over all item vectors: the same code for a batch offline and one query live."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import numpy as np
from numba import njit

from xdm.schema import ITEM_DTYPE, PADDING, SCORE_DTYPE, InternalError

ITEM_BLOCK = 16_384  # item vectors that are scored at once for many questions: 4 MiB at d = 64
SCORE_BLOCK = 4 * 1024 * 1024  # scores that are held at once: 16 MiB
FEW = 4  # allowed items are gathered where they are less than one in so many, else looked up among all
ALL_ITEMS = np.empty(0, ITEM_DTYPE)  # what `keep_best` takes for "no filter"


class ExactRetriever:
    """The items with the largest inner product, maximum over a question's interests; never an approximation.

    ``item_vectors`` float32 ``[N, d]``: row i belongs to index i + 1. It may be a memory map and is never copied.
    Beyond the item vectors, the questions and the answer, `top_k` holds one block of scores: at most 16 MiB (and
    64 KiB an interest for a question of more than 256 interests).
    """

    def __init__(self, item_vectors: np.ndarray) -> None:
        """Check the vectors once (one pass over them) and keep a reference.

        Raises:
            InternalError: they are not float32 ``[N, d]`` with contiguous rows, or hold NaN or infinity.
        """
        self.item_vectors = checked_vectors(item_vectors)

    def __len__(self) -> int:
        return len(self.item_vectors)

    def top_k(
        self,
        queries: np.ndarray,
        k: int,
        exclude: list[np.ndarray] | None = None,
        allowed: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` best items of each question, best first; of equal scores the smaller index comes first.

        ``queries`` float32 ``[Q, K, d]``, K interests a question; ``exclude[q]`` holds item indices that question q
        must not get, in any order; ``allowed`` (sorted, distinct item indices) is all that any of them may get. Returns scores
        float32 ``[Q, k]`` and item indices int32 ``[Q, k]``; where fewer than ``k`` items are left, ``-inf`` and 0 fill the end.

        Raises:
            InternalError: a shape that does not fit, or a query that holds NaN or infinity.
        """
        queries = checked_queries(queries, self.item_vectors.shape[1], k, exclude)
        if few(allowed, len(self)):
            return top_k_among(allowed, exclude, lambda rows, left_out: self._search(queries, k, left_out, rows, ALL_ITEMS))
        return self._search(queries, k, exclude, None, ALL_ITEMS if allowed is None else allowed)

    def _search(
        self, queries: np.ndarray, k: int, exclude: list[np.ndarray] | None, rows: np.ndarray | None, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Search the ``rows`` of the item vectors (None: all); indices count from 1 among them."""
        n_questions, n_interests, d = queries.shape
        n_items = len(self) if rows is None else len(rows)
        flat = queries.reshape(n_questions * n_interests, d)
        excluded, excluded_offsets = flatten_excluded(exclude, n_questions)
        top_scores = np.full((n_questions, k), -np.inf, SCORE_DTYPE)
        top_items = np.full((n_questions, k), PADDING, ITEM_DTYPE)
        # A few questions are one long product over all items: starting BLAS threads for each short block costs more
        # than the product itself. Many questions take items in blocks that stay in the cache.
        item_step = max(ITEM_BLOCK, SCORE_BLOCK // max(1, len(flat)))
        step = max(1, SCORE_BLOCK // (item_step * n_interests))
        scores = np.empty(min(step, n_questions) * n_interests * min(item_step, n_items), SCORE_DTYPE)
        # Items outside, questions inside: a memory map is read once a call.
        for first_item in range(0, n_items, item_step):
            span = slice(first_item, first_item + item_step)
            block = self.item_vectors[span if rows is None else rows[span]]
            for first in range(0, n_questions, step):
                last = min(first + step, n_questions)
                some = slice(first * n_interests, last * n_interests)
                shape = (some.stop - some.start, len(block))
                out = scores[: shape[0] * shape[1]].reshape(shape)
                np.matmul(flat[some], block.T, out=out)
                keep_best(
                    out, n_interests, first_item + 1, top_scores[first:last], top_items[first:last],
                    excluded, excluded_offsets[first : last + 1], allowed,
                )  # fmt: skip
        sort_best_first(top_scores, top_items)
        return top_scores, top_items


def few(allowed: np.ndarray | None, n_items: int) -> TypeGuard[np.ndarray]:
    """Whether ``allowed`` items are so few that to score them alone costs less than a look at all; none at all are few."""
    return allowed is not None and len(allowed) * FEW <= n_items


def top_k_among(
    allowed: np.ndarray,
    exclude: list[np.ndarray] | None,
    search: Callable[[np.ndarray, list[np.ndarray] | None], tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """The answer of ``search`` over the rows of ``allowed`` items, in indices of the whole catalogue.

    ``search`` is given these rows (from 0) and the excluded items by their place among them (from 1), as it is to answer.
    """
    places = None
    if exclude is not None:
        places = [np.flatnonzero(np.isin(allowed, items)).astype(ITEM_DTYPE) + 1 for items in exclude]
    scores, items = search(allowed.astype(np.int64) - 1, places)
    return scores, np.concatenate([[PADDING], allowed]).astype(ITEM_DTYPE)[items]


def checked_vectors(item_vectors: np.ndarray) -> np.ndarray:
    """``item_vectors``, which are contiguous float32 ``[N, d]`` without NaN or infinity.

    Raises:
        InternalError: they are not.
    """
    if item_vectors.ndim != 2 or item_vectors.dtype != np.float32 or not item_vectors.flags.c_contiguous:
        raise InternalError(
            f"item vectors must be contiguous float32 [N, d], not {item_vectors.dtype} {list(item_vectors.shape)}"
        )
    for first in range(0, len(item_vectors), ITEM_BLOCK):
        finite = np.isfinite(item_vectors[first : first + ITEM_BLOCK]).all(axis=1)
        if not finite.all():
            index = first + int(finite.argmin()) + 1
            raise InternalError(f"the vector of item index {index} holds NaN or infinity")
    return item_vectors


def checked_queries(queries: np.ndarray, width: int, k: int, exclude: list[np.ndarray] | None) -> np.ndarray:
    """``queries`` as contiguous float32 ``[Q, K, width]``.

    Raises:
        InternalError: a shape that does not fit, or a query that holds NaN or infinity.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if queries.ndim != 3 or queries.shape[1] < 1 or queries.shape[2] != width:
        raise InternalError(f"queries must be [Q, K, {width}] like the item vectors, not {list(queries.shape)}")
    if k < 1:
        raise InternalError(f"k must be at least 1, not {k}")
    if exclude is not None and len(exclude) != len(queries):
        raise InternalError(f"{len(queries)} questions came with {len(exclude)} lists of excluded items")
    finite = np.isfinite(queries).all(axis=(1, 2))
    if not finite.all():
        raise InternalError(f"the query of question {int(finite.argmin())} (from 0) holds NaN or infinity")
    return queries


def flatten_excluded(exclude: list[np.ndarray] | None, n_questions: int) -> tuple[np.ndarray, np.ndarray]:
    """Excluded indices as one array, sorted within each question, and where each question's start ``[Q + 1]``."""
    offsets = np.zeros(n_questions + 1, np.int64)
    if not exclude:
        return np.empty(0, ITEM_DTYPE), offsets
    np.cumsum([len(items) for items in exclude], out=offsets[1:])
    return np.concatenate([np.sort(items) for items in exclude]).astype(ITEM_DTYPE), offsets


@njit(nogil=True, cache=True)
def keep_best(scores, n_interests, first_index, top_scores, top_items, excluded, excluded_offsets, allowed):
    """Put the block's items that beat the worst kept one into the heaps ``top_*`` ``[Q, k]``; ``scores`` is scratch.
    ``allowed``: sorted indices of all that may be kept; empty: everything may.

    A heap starts as k times (-inf, 0), so its root is the threshold from the first item on. Items come by rising
    index, so one that merely equals the threshold never replaces what is kept: the smaller index wins a tie.
    """
    n_items = scores.shape[1]
    for q in range(top_scores.shape[0]):
        best = scores[q * n_interests]
        for interest in range(1, n_interests):
            other = scores[q * n_interests + interest]
            for j in range(n_items):
                best[j] = max(best[j], other[j])
        taboo = excluded[excluded_offsets[q] : excluded_offsets[q + 1]]
        heap_scores, heap_items = top_scores[q], top_items[q]
        threshold = heap_scores[0]
        for start in range(0, n_items, 64):
            stop = min(start + 64, n_items)
            # Nearly every run of 64 holds nothing new; this loop has no branch, so it runs on vector registers.
            beats = 0
            for j in range(start, stop):
                beats |= best[j] > threshold
            if not beats:
                continue
            for j in range(start, stop):
                if (
                    best[j] > threshold
                    and not _contains(taboo, first_index + j)
                    and (len(allowed) == 0 or _contains(allowed, first_index + j))
                ):
                    heap_scores[0], heap_items[0] = best[j], first_index + j
                    _sift_down(heap_scores, heap_items, len(heap_scores))
                    threshold = heap_scores[0]


@njit(nogil=True, cache=True)
def _contains(sorted_items, item):
    place = np.searchsorted(sorted_items, item)
    return place < len(sorted_items) and sorted_items[place] == item


@njit(nogil=True, cache=True)
def _sift_down(scores, items, size):
    """Restore the heap after its root changed: the root is the worst, by score, then by larger index."""
    parent = 0
    while True:
        worst = parent
        for child in (2 * parent + 1, 2 * parent + 2):
            if child < size and (
                scores[child] < scores[worst] or (scores[child] == scores[worst] and items[child] > items[worst])
            ):
                worst = child
        if worst == parent:
            return
        scores[parent], scores[worst] = scores[worst], scores[parent]
        items[parent], items[worst] = items[worst], items[parent]
        parent = worst


@njit(nogil=True, cache=True)
def sort_best_first(top_scores, top_items):
    """Sort each heap in place: take the worst away to the end, again and again."""
    for q in range(top_scores.shape[0]):
        scores, items = top_scores[q], top_items[q]
        for end in range(len(scores) - 1, 0, -1):
            scores[0], scores[end] = scores[end], scores[0]
            items[0], items[end] = items[end], items[0]
            _sift_down(scores, items, end)
