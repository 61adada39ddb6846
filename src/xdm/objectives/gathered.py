"""Scores of every point with items of its own, without holding a vector for each pair."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

HELD = 1 << 21  # numbers that are held at once: 8 MiB
# One of a matrix product's numbers costs so much less than a vector fetched from memory, on the processors that were measured.
DENSE = 32


def _blocks(n_points: int, numbers_a_point: int) -> Iterator[slice]:
    size = max(HELD // numbers_a_point, 1)
    return (slice(begin, min(begin + size, n_points)) for begin in range(0, n_points, size))


class _OwnScores(torch.autograd.Function):
    """Both passes go block by block of points. Where the points' items are no small part of all, a product with all items and
    a choice among its scores beats fetching the vectors of the items."""

    @staticmethod
    def forward(ctx: FunctionCtx, queries: Tensor, vectors: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(queries, vectors, rows)
        scores = queries.new_empty(rows.shape)
        dense = len(vectors) <= DENSE * rows.shape[1]
        for part in _blocks(len(rows), len(vectors) if dense else rows.shape[1] * vectors.shape[1]):
            q = queries[part]  # [p, d]
            if dense:
                scores[part] = (q @ vectors.T).gather(1, rows[part])
            else:
                scores[part] = vectors[rows[part]].mul_(q[:, None]).sum(-1)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        queries, vectors, rows = ctx.saved_tensors  # type: ignore[attr-defined]
        of_queries, of_vectors = torch.empty_like(queries), torch.zeros_like(vectors)
        dense = len(vectors) <= DENSE * rows.shape[1]
        for part in _blocks(len(rows), len(vectors) if dense else rows.shape[1] * vectors.shape[1]):
            q, g, which = queries[part], gradient[part], rows[part]  # [p, d], [p, S], [p, S]
            if dense:
                spread = q.new_zeros((len(q), len(vectors))).scatter_add_(1, which, g)  # [p, N]
                of_queries[part] = spread @ vectors
                of_vectors.addmm_(spread.T, q)
            else:
                of_queries[part] = vectors[which].mul_(g[..., None]).sum(1)
                of_vectors.index_add_(0, which.flatten(), (g[..., None] * q[:, None]).flatten(0, 1))
        return of_queries, of_vectors, None


def own_scores(queries: Tensor, vectors: Tensor, rows: Tensor) -> Tensor:
    """``[P, S]``: inner products of each query ``[P, d]`` with its own ``rows`` int64 ``[P, S]`` of ``vectors`` ``[N, d]``.

    Differentiable once. At most 8 MiB are held beyond result and gradients (or one point's vectors or scores, if more).
    """
    return _OwnScores.apply(queries, vectors, rows)
