"""Softmax over the catalogue, whole or sampled. Losses take query vectors, labels and item vectors; they know no model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Sample:
    """Sampled classes shared by a batch: ``items`` int64 ``[S]`` (1-based, distinct), drawn in ``draws`` draws."""

    items: np.ndarray
    draws: int


def log_uniform_probability(items: np.ndarray, n_candidates: int) -> np.ndarray:
    """``P(i) = (log(i + 1) - log(i)) / log(N + 1)`` for 1-based indices that are sorted by falling frequency."""
    items = np.asarray(items, np.float64)
    return (np.log(items + 1) - np.log(items)) / np.log(n_candidates + 1)


def log_uniform_sample(rng: np.random.Generator, n_candidates: int, size: int) -> Sample:
    """``size`` distinct items, drawn log-uniformly until there are so many; counts the draws that it took.

    The semantics of TensorFlow's ``log_uniform_candidate_sampler(unique=True)``, which SDM's authors use.

    Raises:
        ValueError: ``size`` exceeds ``n_candidates``.
    """
    if size > n_candidates:
        raise ValueError(f"cannot draw {size} distinct items out of {n_candidates}")
    drawn = np.zeros(0, np.int64)
    while True:
        more = np.exp(rng.random(2 * size + 64) * np.log(n_candidates + 1)).astype(np.int64)
        drawn = np.concatenate([drawn, np.clip(more, 1, n_candidates)])
        items, first = np.unique(drawn, return_index=True)
        if len(items) >= size:
            break
    order = np.argsort(first)[:size]
    return Sample(items[order], int(first[order[-1]]) + 1)


def log_expected_count(items: np.ndarray, n_candidates: int, draws: int) -> np.ndarray:
    """Log of the chance that an item is among the distinct ones of ``draws`` draws: ``log(-expm1(draws log1p(-P)))``."""
    return np.log(-np.expm1(draws * np.log1p(-log_uniform_probability(items, n_candidates))))


def target_weights(targets: Tensor, dtype: torch.dtype) -> Tensor:
    """``[P, M]``: 1/m for each of a row's m targets, 0 where there is none (0 in ``targets``); m is at least 1."""
    present = (targets != 0).to(dtype)
    return present / present.sum(dim=1, keepdim=True)


def sampled_softmax(
    queries: Tensor, targets: Tensor, target_vectors: Tensor, sampled: Tensor, sampled_vectors: Tensor,
    log_expected_targets: Tensor, log_expected_sampled: Tensor,
) -> Tensor:  # fmt: skip
    """Mean cross-entropy of each row's targets among themselves and the sampled items, with the logQ correction.

    TensorFlow's ``sampled_softmax_loss`` with ``num_true`` M: a row's m targets stand beside each other in its softmax, and
    each is to get 1/m.

    Args:
        queries: ``[P, d]``; targets: ``[P, M]`` item indices, the first never 0, 0 for none; target_vectors: ``[P, M, d]``.
        sampled: ``[S]`` item indices; sampled_vectors: ``[S, d]``.
        log_expected_targets, log_expected_sampled: ``[P, M]`` and ``[S]``: log of the expected count under the sampler.

    A sampled item that is one of a row's own targets is left out of that row (an accidental hit), and only of that row.
    """
    positive = (queries[:, None] * target_vectors).sum(-1) - log_expected_targets  # [P, M]
    negative = queries @ sampled_vectors.T - log_expected_sampled  # [P, S]
    for place in range(targets.shape[1]):  # [P, M, S] at once would be the largest array of a step
        negative = negative.masked_fill(targets[:, place, None] == sampled, float("-inf"))
    logits = torch.cat([positive.masked_fill(targets == 0, float("-inf")), negative], dim=1)  # [P, M + S]
    return (torch.logsumexp(logits, dim=1) - (positive * target_weights(targets, queries.dtype)).sum(1)).mean()


def full_softmax(queries: Tensor, targets: Tensor, item_vectors: Tensor) -> Tensor:
    """Mean cross-entropy over all ``item_vectors`` ``[N, d]`` (row i is index i + 1), a row's m targets sharing the weight 1.

    ``queries`` ``[P, d]``; ``targets`` int64 ``[P, M]``, the first never 0, 0 for none.
    """
    log_chances = F.log_softmax(queries @ item_vectors.T, dim=1)  # [P, N]
    of_targets = log_chances.gather(1, torch.clamp(targets - 1, min=0))  # [P, M]
    return -(of_targets * target_weights(targets, queries.dtype)).sum(1).mean()
