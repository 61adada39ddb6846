"""Dynamic routing in NumPy for one row of clicks: the judge of `xdm.models.shared.capsules`."""

from __future__ import annotations

import numpy as np


def softmax(scores: np.ndarray, axis: int) -> np.ndarray:
    chances = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return chances / chances.sum(axis=axis, keepdims=True)


def squash(z: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    square = (z**2).sum(-1, keepdims=True)
    return square / (1 + square) * z / np.sqrt(square + 1e-9)


def route(votes: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(interests [K, d], the last weights [K, n])`` from votes ``[K, n, d]`` and first logits ``[K, n]``, in three rounds."""
    for _ in range(3):
        weights = softmax(logits, axis=0)  # over the interests
        interests = squash(np.einsum("kt,ktd->kd", weights, votes))
        logits = logits + np.einsum("kd,ktd->kt", interests, votes)
    return interests, weights
