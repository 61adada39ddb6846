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


def sampled_softmax(
    queries: Tensor, labels: Tensor, item_vectors: Tensor, sampled: Tensor, sampled_vectors: Tensor,
    log_expected_labels: Tensor, log_expected_sampled: Tensor,
) -> Tensor:  # fmt: skip
    """Mean cross-entropy of each label among itself and the sampled items, with the logQ correction.

    Args:
        queries: ``[P, d]``; labels: ``[P]`` item indices; item_vectors: ``[P, d]``, the labels' own.
        sampled: ``[S]`` item indices; sampled_vectors: ``[S, d]``.
        log_expected_labels, log_expected_sampled: ``[P]`` and ``[S]``: log of the expected count under the sampler.

    A sampled item that is a row's own label is left out of that row (an accidental hit), and only of that row.
    """
    positive = (queries * item_vectors).sum(-1) - log_expected_labels  # [P]
    negative = queries @ sampled_vectors.T - log_expected_sampled  # [P, S]
    negative = negative.masked_fill(labels[:, None] == sampled[None, :], float("-inf"))
    return (torch.logsumexp(torch.cat([positive[:, None], negative], dim=1), dim=1) - positive).mean()


def full_softmax(queries: Tensor, labels: Tensor, item_vectors: Tensor) -> Tensor:
    """Mean cross-entropy over all ``item_vectors`` ``[N, d]`` (row i is index i + 1); ``queries`` ``[P, d]``."""
    return F.cross_entropy(queries @ item_vectors.T, labels - 1)


def readout(queries: Tensor, vectors: Tensor) -> Tensor:
    """``[P, d]``: of K interests ``[P, K, d]`` the one that scores the label's vector ``[P, d]`` highest."""
    if queries.shape[1] == 1:
        return queries[:, 0]
    best = (queries * vectors[:, None]).sum(-1).argmax(dim=1)
    return queries[torch.arange(len(queries), device=queries.device), best]
