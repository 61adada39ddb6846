"""Approximate top-K search by an inverted file over half-precision vectors (faiss), whose candidates are scored exactly.

Items are parted into lists around centroids (spherical k-means); a search looks into the lists whose centroids are nearest the
query. How many is chosen when the index is built: `build_ivf` makes the lists, `choose_nprobe` measures against the exact search.
This is the one module that needs faiss.
"""

from __future__ import annotations

import math
from pathlib import Path

import faiss
import numpy as np

from xdm.retrieval.exact import ExactRetriever, checked_queries, checked_vectors, few
from xdm.retrieval.tree import inner_products, recall
from xdm.schema import ITEM_DTYPE, PADDING, SCORE_DTYPE, BundleError, InternalError

SEED = 7
TRAINED_ON = 64  # vectors a list that k-means looks at: more change little and take longer
SETTLED = 0.99  # an answer that shares so much with the one from fewer lists is not looked for any further
WIDER = 4  # times as many lists: twice as many often hold nothing new under a filter, and the answer seems settled
MOST = 8  # more than one list in so many, and those before, cost as much as the exact search


class AnnRetriever:
    """The best of what the nearest lists hold, with the scores of `ExactRetriever`; some of the exact answer may be missing.

    Each interest of a question is searched on its own, and all that they find is scored again in float32 over ``item_vectors``.
    How many lists are enough was measured for the best ``k`` of all items. Where an answer reaches deeper (more items asked
    for, the best ones excluded, others not allowed), more and more lists are looked into until the answer settles, and what does
    not settle within an eighth of them is searched exactly. So is everything where few items are allowed, and what the lists
    hold too little of: an answer is short only where the catalogue is. One thread, whatever the machine.
    """

    def __init__(self, item_vectors: np.ndarray, index: faiss.IndexIVF, nprobe: int, k: int = 100) -> None:
        """``item_vectors`` float32 ``[N, d]``: row i belongs to index i + 1, and is number i of ``index`` (`build_ivf`). ``nprobe``
        lists are enough for each interest to find the ``k`` best of all items.

        Raises:
            InternalError: vectors that `ExactRetriever` refuses, or an index that is not theirs.
        """
        self._exact = ExactRetriever(item_vectors)
        self.item_vectors = self._exact.item_vectors
        if (index.ntotal, index.d) != item_vectors.shape or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise InternalError(
                f"the index holds {index.ntotal} vectors of width {index.d}, the bundle {item_vectors.shape[0]} of width "
                f"{item_vectors.shape[1]}"
            )
        if not 1 <= nprobe <= index.nlist or k < 1:
            raise InternalError(f"nprobe must lie between 1 and the {index.nlist} lists, k from 1 on, not {nprobe} and {k}")
        self.index, self.nprobe, self.k = index, nprobe, k

    def __len__(self) -> int:
        return len(self.item_vectors)

    def top_k(
        self,
        queries: np.ndarray,
        k: int,
        exclude: list[np.ndarray] | None = None,
        allowed: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `xdm.retrieval.types.Retriever`; of equal scores the smaller index comes first.

        Raises:
            InternalError: a shape that does not fit, or a query that holds NaN or infinity.
        """
        queries = checked_queries(queries, self.item_vectors.shape[1], k, exclude)
        if few(allowed, len(self)):
            return self._exact.top_k(queries, k, exclude, allowed)
        faiss.omp_set_num_threads(1)  # of the calling thread: other requests have the other cores
        scores = np.full((len(queries), k), -np.inf, SCORE_DTYPE)
        items = np.full((len(queries), k), PADDING, ITEM_DTYPE)
        fitting = None if allowed is None else _only(allowed, len(self))
        unsettled = []
        for q, interests in enumerate(queries):
            answer = self._answer(interests, k, None if exclude is None else exclude[q], fitting)
            if answer is None:
                unsettled.append(q)
            else:
                scores[q], items[q] = answer
        if unsettled:
            some = None if exclude is None else [exclude[q] for q in unsettled]
            scores[unsettled], items[unsettled] = self._exact.top_k(queries[unsettled], k, some, allowed)
        return scores, items

    def _answer(
        self, interests: np.ndarray, k: int, left_out: np.ndarray | None, fitting: faiss.IDSelector | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Scores and items ``[k]`` of one question, None where it is to be searched exactly."""
        lists = self.nprobe
        scores, items = self.search_lists(interests, k, lists, left_out, fitting)
        if fitting is None and len(items) == k and k + self._better(interests, left_out, scores[-1]) <= self.k:
            return scores, items
        while WIDER * lists * MOST <= self.index.nlist:
            lists, before = WIDER * lists, items
            scores, items = self.search_lists(interests, k, lists, left_out, fitting)
            if len(items) == k and np.isin(items, before).mean() >= SETTLED:
                return scores, items
        return None

    def _better(self, interests: np.ndarray, left_out: np.ndarray | None, score: float) -> int:
        """How many of the items ``left_out`` would come before one of that ``score``."""
        if left_out is None or not len(left_out):
            return 0
        rows = np.unique(left_out[(left_out != PADDING) & (left_out <= len(self))]) - 1
        return int(np.count_nonzero(inner_products(interests, self.item_vectors, rows) >= score))

    def search_lists(
        self,
        interests: np.ndarray,
        k: int,
        lists: int,
        left_out: np.ndarray | None = None,
        fitting: faiss.IDSelector | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` best items of what the ``lists`` lists nearest each of ``interests`` ``[K, d]`` hold, or as many as there are:
        scores and indices, best first; never one of ``left_out``."""
        selector = fitting
        if left_out is not None and len(left_out):
            others = faiss.IDSelectorNot(faiss.IDSelectorBatch(np.asarray(left_out, np.int64) - 1))
            selector = others if fitting is None else faiss.IDSelectorAnd(fitting, others)
        parameters = faiss.SearchParametersIVF(nprobe=lists, sel=selector)  # type: ignore[call-arg]  # its stubs lack it
        rows = self.index.search(interests, k, params=parameters)[1]
        found = np.unique(rows[rows >= 0])
        scores = inner_products(interests, self.item_vectors, found)
        best = np.lexsort((found, -scores))[:k]
        return scores[best], (found[best] + 1).astype(ITEM_DTYPE)


def _only(allowed: np.ndarray, n_items: int) -> faiss.IDSelector:
    held = np.zeros(n_items, bool)
    held[allowed[allowed <= n_items] - 1] = True
    return faiss.IDSelectorBitmap(np.packbits(held, bitorder="little"))  # type: ignore[call-arg, arg-type]  # its stubs lack it


def build_ivf(item_vectors: np.ndarray, lists: int | None = None) -> faiss.IndexIVF:
    """An inverted file over ``item_vectors`` float32 ``[N, d]`` in half precision, of ``lists`` lists (None: 4 sqrt(N), at most N).
    The same vectors give the same index: one seed, one thread.

    Raises:
        InternalError: vectors that `ExactRetriever` refuses.
    """
    vectors = checked_vectors(item_vectors)
    n, d = vectors.shape
    lists = max(1, min(n, round(4 * math.sqrt(n)))) if lists is None else lists
    faiss.omp_set_num_threads(1)
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(d), d, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed, index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = SEED, TRAINED_ON, 1
    index.train(vectors)
    index.add(vectors)
    return index


def choose_nprobe(
    item_vectors: np.ndarray, index: faiss.IndexIVF, queries: np.ndarray, k: int, min_recall: float
) -> tuple[AnnRetriever | None, dict[int, float]]:
    """The retriever with the smallest power of two for ``nprobe``, less than all lists, that finds ``min_recall`` of the ``k`` best
    items of the exact search for ``queries`` ``[Q, K, d]``, or None; and the recall of each ``nprobe`` that was tried."""
    retriever = AnnRetriever(item_vectors, index, 1, k)
    queries = checked_queries(queries, item_vectors.shape[1], k, None)
    wanted = ExactRetriever(item_vectors).top_k(queries, k)[1]
    faiss.omp_set_num_threads(1)
    tried: dict[int, float] = {}
    nprobe = 1
    while nprobe < index.nlist:
        found = [retriever.search_lists(interests, k, nprobe)[1] for interests in queries]
        tried[nprobe] = recall(found, wanted)
        if tried[nprobe] >= min_recall:
            return AnnRetriever(item_vectors, index, nprobe, k), tried
        nprobe *= 2
    return None, tried


def write_ivf(index: faiss.IndexIVF, path: Path) -> None:
    """Write ``index`` to the file ``path``."""
    faiss.write_index(index, str(path))


def read_ivf(path: Path) -> faiss.IndexIVF:
    """The index in the file ``path``, mapped into memory: processes that read the same file share it.

    Raises:
        BundleError: the file cannot be read, or holds another kind of index.
    """
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except Exception as error:  # whatever faiss makes of a C++ exception
        raise BundleError(f"{path} cannot be read ({error}); write it again with: xdm index") from None
    if not isinstance(index, faiss.IndexIVFScalarQuantizer):
        raise BundleError(f"{path} holds another kind of index; write it again with: xdm index")
    return index
