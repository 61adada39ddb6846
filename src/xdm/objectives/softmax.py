"""Softmax over the catalogue, whole or sampled. Losses take scores, or query and item vectors; they know no model."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from xdm.objectives.blockwise import mean_log_sum

FEW_SCORES = 1 << 18  # a matrix of up to so many scores costs less than going through it by blocks


def target_weights(targets: Tensor, dtype: torch.dtype) -> Tensor:
    """``[P, M]``: 1/m for each of a row's m targets, 0 where there is none (0 in ``targets``); m is at least 1."""
    present = (targets != 0).to(dtype)
    return present / present.sum(dim=1, keepdim=True)


def sampled_softmax(positive: Tensor, negative: Tensor, weights: Tensor, valid: Tensor) -> Tensor:
    """``[P]``: cross-entropy of each row's targets among themselves and the sampled items.

    TensorFlow's ``sampled_softmax_loss`` with ``num_true`` M: a row's m targets stand beside each other in its softmax, and
    each is to get 1/m.

    Args:
        positive: ``[P, M]`` scores of the targets, less the log of how often each is expected in the sample.
        negative: ``[P, S]`` scores of the sampled items, corrected alike.
        weights: ``[P, M]``, see `target_weights`; valid: ``[P, S]`` bool, which of the sampled items count for a row.
    """
    negative = negative.masked_fill(~valid, float("-inf"))
    logits = torch.cat([positive.masked_fill(weights == 0, float("-inf")), negative], dim=1)  # [P, M + S]
    return torch.logsumexp(logits, dim=1) - (positive * weights).sum(1)


def sampled_softmax_blockwise(
    queries: Tensor, vectors: Tensor, offset: Tensor, positive: Tensor, weights: Tensor, hits: Tensor
) -> Tensor:
    """The mean of `sampled_softmax`, a scalar, whose scores with the sampled items are never held all at once.

    Args:
        queries: ``[P, d]``; vectors: ``[S, d]`` of the sampled items; offset: ``[S]``, what is taken off their scores.
        positive, weights: ``[P, M]`` as there; hits: int64 ``[2, H]``, the pairs of a point and a sampled item that do not count.
    """
    own = positive.masked_fill(weights == 0, float("-inf"))
    return mean_log_sum(queries, vectors, own, offset, hits) - (positive * weights).sum(1).mean()


def softmax_over(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over all items from their ``scores`` ``[P, N]`` (column i is index i + 1), a row's m targets sharing
    the weight 1; ``targets`` int64 ``[P, M]``, the first never 0, 0 for none."""
    log_chances = F.log_softmax(scores, dim=1)  # [P, N]
    of_targets = log_chances.gather(1, torch.clamp(targets - 1, min=0))  # [P, M]
    return -(of_targets * target_weights(targets, scores.dtype)).sum(1).mean()


def full_softmax(queries: Tensor, targets: Tensor, item_vectors: Tensor) -> Tensor:
    """`softmax_over` all ``item_vectors`` ``[N, d]`` for ``queries`` ``[P, d]``; many scores are never held all at once."""
    if len(queries) * len(item_vectors) <= FEW_SCORES:
        return softmax_over(queries @ item_vectors.T, targets)
    of_targets = F.embedding(torch.clamp(targets - 1, min=0), item_vectors)  # [P, M, d]
    positive = (queries[:, None] * of_targets).sum(-1)  # [P, M]
    return mean_log_sum(queries, item_vectors) - (positive * target_weights(targets, queries.dtype)).sum(1).mean()
