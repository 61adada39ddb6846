"""The binary tree over the items of TDM: its numbering, its first shape, and its learning by balanced 2-means.

Paper: Zhu et al., "Learning Tree-based Deep Model for Recommender Systems", KDD 2018, arXiv 1801.02294, sections 3.2, 3.4.

Nodes are numbered in heap order: the root is 1, the children of c are 2c and 2c + 1, level j holds 2^j to 2^(j + 1) - 1.
Every leaf stands on the last level, ``depth_of(N)``, and holds one item; every level above it is full. A tree is therefore
one array: ``leaves`` int64 ``[N]``, the node of each item (entry i belongs to index i + 1).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xdm.schema import InternalError

ROUNDS = 20  # of 2-means a node, at most; it has nearly always settled by then
REGROUPED = {"reassoc", "contract", "nsz"}  # sums may be regrouped, so that they run on vector registers


def depth_of(n_items: int) -> int:
    """The level of the leaves: the smallest L with 2^L >= ``n_items``; 0 for a single item or none."""
    return max(0, n_items - 1).bit_length()


def halved(order: np.ndarray) -> np.ndarray:
    """``leaves`` of the tree that halves the list ``order`` (the numbers 0 to N - 1) again and again; the left half is the
    larger one. Neighbours in the list are neighbours in the tree."""
    depth = depth_of(len(order))
    bounds = np.array([0, len(order)])
    for _ in range(depth):
        bounds = _halve(bounds)
    leaves = np.empty(len(order), np.int64)
    leaves[order] = 2**depth + np.flatnonzero(np.diff(bounds))
    return leaves


def first_leaves(categories: np.ndarray | None, n_items: int, rng: np.random.Generator) -> np.ndarray:
    """``leaves`` of the paper's first tree: categories in random order, the items of one in random order beside each other.

    ``categories`` int ``[N]`` is the category of each item (0 for none); without categories the whole order is random.
    """
    order = rng.permutation(n_items)
    if categories is not None:
        rank = rng.permutation(int(categories.max(initial=0)) + 1)
        order = order[np.argsort(rank[categories[order]], kind="stable")]
    return halved(order)


def learned_leaves(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``leaves`` of the tree that parts the items by balanced 2-means, node by node from the root.

    Unlike the paper's code, which balances sizes once at the end, every round gives each centre its half: that is the best
    division for these centres, so the summed squared distance falls with every round. Among equal items the smaller index
    goes left.

    ``vectors`` float32 ``[N, d]``: the vectors of the leaves' items.

    Raises:
        InternalError: vectors that are not finite.
    """
    if not np.isfinite(vectors).all():
        raise InternalError("the tree cannot be learned: an item vector holds NaN or infinity")
    vectors = np.ascontiguousarray(vectors, np.float32)
    order = np.arange(len(vectors))
    bounds = np.array([0, len(vectors)])
    for _ in range(depth_of(len(vectors))):
        _part_all(vectors, order, bounds, rng.random(len(bounds) - 1))
        bounds = _halve(bounds)
    return halved(order)


def node_means(leaves: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The mean of the item vectors below every inner node, float32 ``[2^depth, d]``; row c is node c, row 0 zeros."""
    depth = depth_of(len(leaves))
    sums = np.zeros((2 ** (depth + 1), vectors.shape[1] + 1))
    sums[leaves, :-1], sums[leaves, -1] = vectors, 1
    for level in range(depth - 1, -1, -1):
        nodes = np.arange(2**level, 2 ** (level + 1))
        sums[nodes] = sums[2 * nodes] + sums[2 * nodes + 1]
    sums = sums[: 2**depth]
    return (sums[:, :-1] / np.maximum(sums[:, -1:], 1)).astype(np.float32)


def _halve(bounds: np.ndarray) -> np.ndarray:
    """Bounds of lists to the bounds of their halves, the left one larger."""
    halves = np.empty(2 * len(bounds) - 1, np.int64)
    halves[::2] = bounds
    halves[1::2] = (bounds[:-1] + bounds[1:] + 1) // 2
    return halves


@njit(nogil=True, cache=True)
def largest(values, count):
    """Which of ``values`` (``[n]``) are the ``count`` largest, bool ``[n]``; of equal ones the first."""
    n = len(values)
    kept = np.ones(n, np.bool_) if count >= n else np.zeros(n, np.bool_)
    if count >= n or count < 1:
        return kept
    threshold = _kth_smallest(values.copy(), n - count)
    room = count
    for i in range(n):
        kept[i] = values[i] > threshold
        room -= kept[i]
    for i in range(n):
        if room and values[i] == threshold:
            kept[i] = True
            room -= 1
    return kept


@njit(nogil=True, cache=True)
def _kth_smallest(values, k):
    """The value at place ``k`` (from 0) of ``values`` in rising order, by quickselect; ``values`` is scratch.

    numba's own partition does the same and takes ten times as long to compile.
    """
    first, last = 0, len(values) - 1
    while first < last:
        pivot, i, j = values[(first + last) // 2], first, last
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if k <= j:
            last = j
        elif k >= i:
            first = i
        else:
            break
    return values[k]


@njit(nogil=True, cache=True)
def _part_all(vectors, order, bounds, draws):
    """Part each list of ``order`` between ``bounds``; ``draws`` in [0, 1) picks its first centre."""
    for s in range(len(bounds) - 1):
        if bounds[s + 1] - bounds[s] > 1:
            _part(vectors, order[bounds[s] : bounds[s + 1]], draws[s])


@njit(nogil=True, cache=True, fastmath=REGROUPED)
def _part(vectors, members, draw):
    """Reorder ``members`` (rising) so that the half of the first centre comes first, each half rising."""
    n, d = len(members), vectors.shape[1]
    axis = _first_axis(vectors, members, draw)
    along, left = np.empty(n), np.zeros(n, np.bool_)
    for _ in range(ROUNDS):
        # Of two centres the nearer one is told by the product with their difference.
        for i in range(n):
            row, total = vectors[members[i]], 0.0
            for j in range(d):
                total += row[j] * axis[j]
            along[i] = total
        chosen = largest(along, (n + 1) // 2)
        if (chosen == left).all():
            break
        left = chosen
        axis = _difference_of_means(vectors, members, left)
    rising, places = members.copy(), [0, (n + 1) // 2]
    for i in range(n):
        side = 0 if left[i] else 1
        members[places[side]] = rising[i]
        places[side] += 1


@njit(nogil=True, cache=True, fastmath=REGROUPED)
def _first_axis(vectors, members, draw):
    """From the member farthest from a drawn one to the drawn one: float64 ``[d]``."""
    first = vectors[members[int(draw * len(members))]]
    farthest, second = -1.0, first
    for i in range(len(members)):
        row, distance = vectors[members[i]], 0.0
        for j in range(vectors.shape[1]):
            distance += (row[j] - first[j]) ** 2
        if distance > farthest:
            farthest, second = distance, row
    return first.astype(np.float64) - second


@njit(nogil=True, cache=True, fastmath=REGROUPED)
def _difference_of_means(vectors, members, left):
    d = vectors.shape[1]
    sums = np.zeros((2, d))
    for i in range(len(members)):
        row, side = vectors[members[i]], sums[0 if left[i] else 1]
        for j in range(d):
            side[j] += row[j]
    n_left = (len(members) + 1) // 2
    return sums[0] / n_left - sums[1] / (len(members) - n_left)
