"""The denominator of a softmax over many items, without ever holding the scores of all points with all of them.

The same idea as CCE (Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", ICLR 2025, arXiv 2411.09009), for any
device, and without dropping small gradients: items that are rarely a label live on those.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

SCORES = 1 << 21  # scores that are held at once: 8 MiB, which stay near the processor
FEWEST_POINTS = 64  # fewer points a block would read all item vectors for little work: items are then tiled, and scored twice


def blocks(n_points: int, n_items: int, scores: int) -> tuple[int, int]:
    """How many points and items a block of at most ``scores`` scores spans; all items, where at least 64 points go with them."""
    items = min(n_items, max(scores // FEWEST_POINTS, 1))
    if items < n_items:
        items = max(int(scores**0.5), 1)
    return min(n_points, max(scores // items, 1)), items


def _parts(n: int, size: int) -> Iterator[slice]:
    return (slice(begin, min(begin + size, n)) for begin in range(0, n, size))


class _MeanLogSum(torch.autograd.Function):
    """The gradient is taken in the forward pass, while a block's scores are at hand: the result is a scalar, so that the
    backward pass only scales it."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, queries: Tensor, vectors: Tensor, own: Tensor, offset: Tensor, hits: Tensor, scores: int
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad[:3])  # type: ignore[attr-defined]
        of_queries, of_vectors, of_own = torch.zeros_like(queries), torch.zeros_like(vectors), torch.zeros_like(own)
        points, width = blocks(len(queries), len(vectors), scores)

        def scored(rows: slice, tile: slice) -> Tensor:
            """``[p, t]``: the scores of a block, -inf at its hits."""
            of_block = torch.addmm(-offset[tile], queries[rows], vectors[tile].T)
            begin, end = torch.searchsorted(hits[0], torch.tensor([rows.start, rows.stop])).tolist()
            point, item = hits[0, begin:end] - rows.start, hits[1, begin:end] - tile.start
            inside = (item >= 0) & (item < of_block.shape[1])
            of_block[point[inside], item[inside]] = float("-inf")
            return of_block

        total = queries.new_zeros(())
        for rows in _parts(len(queries), points):
            q, alone = queries[rows], own[rows]  # [p, d], [p, M]
            # The log of the sum is peak + log(mass).
            peak = alone.amax(dim=1) if own.shape[1] else q.new_full((len(q),), float("-inf"))  # [p]
            mass = (alone - peak[:, None]).exp().sum(dim=1)  # [p]
            for tile in _parts(len(vectors), width):
                scaled = scored(rows, tile)
                before, peak = peak, torch.maximum(peak, scaled.amax(dim=1))
                scaled.sub_(peak[:, None]).exp_()
                mass = mass * (before - peak).exp() + scaled.sum(dim=1)
            total += (peak + mass.log()).sum()
            if not wanted:
                continue
            of_own[rows] = (alone - peak[:, None]).exp() / mass[:, None]
            for tile in _parts(len(vectors), width):
                if width < len(vectors):
                    scaled = scored(rows, tile).sub_(peak[:, None]).exp_()
                of_queries[rows].addmm_(scaled, vectors[tile])
                of_vectors[tile].addmm_(scaled.T, q / mass[:, None])
            of_queries[rows] /= mass[:, None]
        ctx.save_for_backward(of_queries, of_vectors, of_own)
        return total / len(queries)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors  # type: ignore[attr-defined]
        scale = gradient / len(gradients[0])
        return *(of * scale for of in gradients), None, None, None


def mean_log_sum(
    queries: Tensor, vectors: Tensor, own: Tensor | None = None, offset: Tensor | None = None, hits: Tensor | None = None,
    scores: int = SCORES,
) -> Tensor:  # fmt: skip
    """The mean over points of ``log(Σ_j exp(q.v_j - offset_j) + Σ_m exp(own_m))``, a scalar; differentiable once, by the first three.

    Args:
        queries: ``[P, d]``; vectors: ``[N, d]``, which each point is scored with; offset: ``[N]``, none by default.
        own: ``[P, M]`` further scores of each point, -inf for none, but not all of them.
        hits: int64 ``[2, H]``, by rising point: which ``(point, vector)`` pairs are left out; only with ``own``.
        scores: how many numbers are held at once, about, beyond the gradients.
    """
    own = queries.new_zeros((len(queries), 0)) if own is None else own
    offset = queries.new_zeros(len(vectors)) if offset is None else offset
    hits = torch.zeros((2, 0), dtype=torch.int64) if hits is None else hits
    return _MeanLogSum.apply(queries, vectors, own, offset, hits, scores)


def hits_of(targets: Tensor, items: Tensor) -> Tensor:
    """Where ``items`` ``[S]``, in any order and with doubles, are targets ``[P, M]`` of a point: int64 ``[2, H]``, by rising point."""
    order = torch.argsort(items)
    begin, end = (torch.searchsorted(items[order], targets.flatten(), right=right) for right in (False, True))
    counts = end - begin  # [P * M]
    which = torch.repeat_interleave(torch.arange(len(counts)), counts)  # [H]
    place = begin[which] + torch.arange(len(which)) - (counts.cumsum(0) - counts)[which]
    return torch.stack([which // targets.shape[1], order[place]])
