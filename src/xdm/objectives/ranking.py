"""Losses over scores: of a label and of the items it is compared with.

All take ``positive`` r ``[P]``, ``negative`` r_j ``[P, S]`` and ``valid`` bool ``[P, S]`` (which of the negatives count) and give one
loss a point, ``[P]``: 0, or the positive's own part, where no negative is valid. None knows how the scores were made.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

NOWHERE = float("-inf")


def mean_over(values: Tensor, valid: Tensor) -> Tensor:
    """``[P]``: the mean of the valid ``values`` ``[P, S]``; 0 where there are none."""
    return torch.where(valid, values, 0.0).sum(1) / valid.sum(1).clamp(min=1)


def binary(positive: Tensor, negative: Tensor, valid: Tensor) -> Tensor:
    """``-log σ(r) - Σ_j log(1 - σ(r_j))``: binary cross-entropy, the negatives summed.

    SASRec's (Kang and McAuley, ICDM 2018, arXiv 1808.09781, section III.E), with its one negative.
    """
    return F.softplus(-positive) + torch.where(valid, F.softplus(negative), 0.0).sum(1)


def generalised_binary(positive: Tensor, negative: Tensor, valid: Tensor, n_items: int, calibration: float) -> Tensor:
    """``-(β log σ(r) + Σ_j log(1 - σ(r_j))) / (k + 1)``, with k valid negatives.

    gSASRec's gBCE (Petrov and Macdonald, RecSys 2023, arXiv 2308.07192): with the sampling rate α = k / (N - 1) and the
    ``calibration`` t, β = α (t (1 - 1/α) + 1/α) = 1 - t (1 - α): 1 for t = 0, plain binary cross-entropy; α for t = 1,
    whose scores are those of all items as negatives. σ(r)^β needs no power in double precision, its log is β log σ(r).
    """
    k = valid.sum(1, dtype=positive.dtype)
    alpha = (k / max(n_items - 1, 1)).clamp(max=1.0)
    beta = 1 - calibration * (1 - alpha)
    return (beta * F.softplus(-positive) + torch.where(valid, F.softplus(negative), 0.0).sum(1)) / (k + 1)


def bpr(positive: Tensor, negative: Tensor, valid: Tensor) -> Tensor:
    """``-mean_j log σ(r - r_j)`` (Rendle et al., UAI 2009, arXiv 1205.2618)."""
    return mean_over(F.softplus(negative - positive[:, None]), valid)


def top1(positive: Tensor, negative: Tensor, valid: Tensor) -> Tensor:
    """``mean_j σ(r_j - r) + σ(r_j²)`` (Hidasi et al., ICLR 2016, arXiv 1511.06939, section 3.2.1)."""
    return mean_over(torch.sigmoid(negative - positive[:, None]) + torch.sigmoid(negative.square()), valid)


def log_weights(negative: Tensor, valid: Tensor) -> Tensor:
    """``[P, S]``: log s_j, a softmax over the valid negatives alone, without the label; 0 weight elsewhere."""
    # A row without any is a softmax over zeros, and multiplied away by the caller: -inf alone would be NaN.
    some = valid.any(dim=1, keepdim=True)
    return torch.log_softmax(negative.masked_fill(~valid & some, NOWHERE), dim=1)


def top1_max(positive: Tensor, negative: Tensor, valid: Tensor) -> Tensor:
    """``Σ_j s_j (σ(r_j - r) + σ(r_j²))``, s the softmax over negatives (Hidasi and Karatzoglou, CIKM 2018, arXiv 1706.03847)."""
    terms = torch.sigmoid(negative - positive[:, None]) + torch.sigmoid(negative.square())
    return torch.where(valid, log_weights(negative, valid).exp() * terms, 0.0).sum(1)


def bpr_max(positive: Tensor, negative: Tensor, valid: Tensor, regularisation: float, elu: float) -> Tensor:
    """``-log Σ_j s_j σ(r - r_j) + regularisation Σ_j s_j r_j²``, s the softmax over negatives (CIKM 2018, arXiv 1706.03847).

    With ``elu`` above 0 all scores first go through ELU with that α, as in the authors' code. Theirs adds 1e-24 inside the log,
    which caps the loss at 55 and has no gradient there; the sum in logs needs none.
    """
    if elu:
        positive, negative = F.elu(positive, elu), F.elu(negative, elu)
    log_s = log_weights(negative, valid)
    ranked = torch.logsumexp(log_s + F.logsigmoid(positive[:, None] - negative), dim=1)
    drawn_to_zero = torch.where(valid, log_s.exp() * negative.square(), 0.0).sum(1)
    return torch.where(valid.any(dim=1), -ranked + regularisation * drawn_to_zero, 0.0)


def hinge(positive: Tensor, negative: Tensor, valid: Tensor, margin: float) -> Tensor:
    """``mean_j [margin - r + r_j]+``."""
    return mean_over(torch.relu(margin - positive[:, None] + negative), valid)


def warp(positive: Tensor, negative: Tensor, valid: Tensor, margin: float, log_expected: Tensor) -> Tensor:
    """``log(1 + rank) [margin - r + max_j r_j]+``: the hardest negative, weighed by how far down the label stands.

    CML's form (Hsieh et al., WWW 2017, and its authors' code) of WARP (Weston et al., IJCAI 2011). WARP draws until an item
    comes within the margin, takes the rank from the number of draws and weighs by ``Σ_{i <= rank} 1/i``, which log(1 + rank)
    follows up to a constant. Here all negatives are scored anyhow, and counting them says more: each within the margin
    stands for ``1 / exp(log_expected)`` items (``log_expected`` ``[S]`` or ``[P, S]``: how often it was to be expected among the
    negatives); with uniform negatives the rank is N times the share within the margin, as CML has it. It has no gradient.
    """
    some = valid.any(dim=1)
    violation = torch.relu(margin - positive[:, None] + negative)
    inside = valid & (violation.detach() > 0)
    rank = torch.where(inside, torch.exp(-log_expected), 0.0).sum(1)
    hardest = torch.where(valid, violation, 0.0).amax(dim=1)
    return torch.where(some, torch.log1p(rank) * hardest, 0.0)
