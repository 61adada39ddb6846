"""Cross-entropy over the whole catalogue that never holds the scores of all points with all items at once.

The same idea as CCE (Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", ICLR 2025, arXiv 2411.09009), for any
device, without dropping small gradients: items that are rarely a label live on those.
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


class _FullCrossEntropy(torch.autograd.Function):
    """Mean over points of ``logsumexp_j q.v_j - Σ_m w_m q.v_m``. The gradient is taken in the forward pass, while a block's
    scores are at hand: the loss is a scalar, so the backward pass only scales it."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, queries: Tensor, items: Tensor, targets: Tensor, weights: Tensor, scores: int
    ) -> Tensor:
        n_points, n_items = len(queries), len(items)
        wanted = any(ctx.needs_input_grad[:2])  # type: ignore[attr-defined]
        of_queries, of_items = torch.zeros_like(queries), torch.zeros_like(items)
        points, width = blocks(n_points, n_items, scores)
        total = queries.new_zeros(())
        for rows in _parts(n_points, points):
            q = queries[rows]  # [p, d]
            peak, mass = q.new_full((len(q),), float("-inf")), q.new_zeros(len(q))  # log of a sum: peak + log(mass)
            for tile in _parts(n_items, width):
                scaled = q @ items[tile].T  # [p, t]
                before, peak = peak, torch.maximum(peak, scaled.amax(dim=1))
                scaled.sub_(peak[:, None]).exp_()
                mass = mass * (before - peak).exp() + scaled.sum(dim=1)
            total += (peak + mass.log()).sum()
            if not wanted:
                continue
            for tile in _parts(n_items, width):
                if width < n_items:
                    scaled = (q @ items[tile].T).sub_(peak[:, None]).exp_()  # [p, t]
                of_queries[rows].addmm_(scaled, items[tile])
                of_items[tile].addmm_(scaled.T, q / mass[:, None])
            of_queries[rows] /= mass[:, None]
        own = items[targets]  # [P, M, d]
        total -= (torch.einsum("pd,pmd->pm", queries, own) * weights).sum()
        if wanted:
            pulled = own.mul_(weights[..., None])  # [P, M, d]
            of_queries -= pulled.sum(1)
            of_items.index_add_(0, targets.flatten(), (queries[:, None] * weights[..., None]).flatten(0, 1), alpha=-1)
        ctx.save_for_backward(of_queries, of_items)
        return total / n_points

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        of_queries, of_items = ctx.saved_tensors  # type: ignore[attr-defined]
        scale = gradient / len(of_queries)
        return of_queries * scale, of_items * scale, None, None, None


def full_cross_entropy(
    queries: Tensor, items: Tensor, targets: Tensor, weights: Tensor, scores: int = SCORES
) -> Tensor:
    """Mean cross-entropy of ``queries`` ``[P, d]`` over all ``items`` ``[N, d]``, a scalar; differentiable once.

    ``targets`` int64 ``[P, M]`` are rows of ``items``, ``weights`` ``[P, M]`` theirs, which sum to 1 in each row. Beyond the two
    gradients and the vectors of the targets, about ``scores`` numbers are held at once.
    """
    return _FullCrossEntropy.apply(queries, items, targets, weights, scores)
