"""Adversarial training with noise of the size of each tensor: any model learns its labels where its weights are shifted for the worse.

Paper: Tran, Sweeney and Lee, "Adversarial Mahalanobis Distance-based Attentive Song Recommender for Automatic Playlist Continuation",
SIGIR 2019, arXiv 1906.03450, section 4.5 (equations 23 and 24): ``loss(θ) + λ loss(θ + Δ)``, ``Δ = ε std(θ) g / |g|``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def perturbed(model: nn.Module, noise: float) -> Iterator[None]:
    """Within, each weight of ``model`` that has a gradient is shifted by `shift`; afterwards it is what it was, to the bit."""
    kept = [(weight, weight.detach().clone()) for weight in model.parameters() if weight.grad is not None]
    with torch.no_grad():
        for weight, _ in kept:
            assert weight.grad is not None
            weight.add_(shift(weight, weight.grad, noise))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in kept:
                weight.copy_(before)


def shift(weight: Tensor, gradient: Tensor, noise: float) -> Tensor:
    """Δ, of the shape of ``weight``: each row (the last dimension) of ``gradient`` cut or stretched to ``noise`` deviations of all
    of ``weight``. A row without a gradient, and a weight of one number, which has no deviation, stay where they are."""
    if weight.numel() < 2:
        return torch.zeros_like(weight)
    return noise * weight.std() * F.normalize(gradient, dim=-1)
