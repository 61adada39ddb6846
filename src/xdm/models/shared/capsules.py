"""Dynamic routing from clicks to interests, at every place of a row at once. Shared by ComiRec-DR and MIND.

Papers: Sabour et al., "Dynamic Routing Between Capsules", NeurIPS 2017, arXiv 1710.09829; Li et al., "Multi-Interest Network
with Dynamic Routing for Recommendation at Tmall", CIKM 2019, arXiv 1904.08030, section 4.2 (behaviours to interests).
"""

from __future__ import annotations

import torch
from torch import Tensor

from xdm.models.shared.layers import HIDDEN_SCORE, causal

ITERATIONS = 3  # both papers'


def squash(z: Tensor) -> Tensor:
    """``|z|² / (1 + |z|²) · z / |z|`` along the last dimension: lengths from 0 to 1, and no NaN at z = 0."""
    square = z.square().sum(dim=-1, keepdim=True)
    return square / (1 + square) * z * torch.rsqrt(square + 1e-9)


def route(votes: Tensor, logits: Tensor, used: Tensor | None = None) -> Tensor:
    """Interests at every place from the clicks up to it: ``[B, T, K, d]``.

    ``votes`` ``[B, K, T, d]``: what click t says of interest k. ``logits``, which broadcasts with ``[B, K, T, T]``: how much
    click t (last) belongs to interest k at first, at each place. ``used`` bool ``[T, K]``: the interests that a place has;
    no click votes for another. A row's clicks stand first and its padding after them, where no place of theirs looks.

    Every place routes for itself (its interests are those of a row that ends there), but the votes are shared, so T places
    cost T² products of d numbers an interest and no copy of the row. Gradients flow through the last iteration alone.
    """
    visible = causal(votes.shape[2], votes.device)  # [T, T]
    fixed = votes.detach()  # [B, K, T, d]
    for iteration in range(1, ITERATIONS + 1):
        last = iteration == ITERATIONS
        masked = logits if used is None else logits.masked_fill(~used.T[:, :, None], HIDDEN_SCORE)  # [B, K, T, T]
        # Among interests, not clicks: each click hands out a weight of 1. Clicks that are not visible are left out after that.
        weights = torch.softmax(masked, dim=1) * visible  # [B, K, T, T]
        interests = squash(weights @ (votes if last else fixed))  # [B, K, T, d]
        if not last:
            logits = logits + interests @ fixed.transpose(-1, -2)  # [B, K, T, T]
    return interests.transpose(1, 2)  # [B, T, K, d]
