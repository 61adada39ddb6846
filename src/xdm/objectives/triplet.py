"""XDM's metric losses between clicked h, unclicked n and label c (arXiv 2010.12837; the exact form is our reconstruction).

Verified: D(h, c) becomes small, D(n, c) and D(n, h) large up to a margin; the symmetric form treats both h and c as
anchors. Ours: the distance is squared Euclidean between unit vectors, in [0, 4], so that a margin has one meaning.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Form = Literal["symmetric", "asymmetric"]


def unit_distance(a: Tensor, b: Tensor) -> Tensor:
    """``|a/|a| - b/|b||^2`` over the last dimension; larger is farther. Differentiable at zero vectors and at a = b."""
    return (F.normalize(a, dim=-1, eps=1e-8) - F.normalize(b, dim=-1, eps=1e-8)).square().sum(-1)


def triplet(h: Tensor, n: Tensor, c: Tensor, present: Tensor, margin: float, form: Form) -> Tensor:
    """The triplet loss, averaged over all P points, those without an unclicked sequence and zeros included.

    Args:
        h, n, c: ``[P, d]`` clicked, unclicked and label vectors; present: ``[P]`` bool, where there is an n.
        margin: how much farther the unclicked must be, in squared distance between unit vectors.
        form: asymmetric ``[D(c,h) - D(c,n) + m]+``; symmetric the mean of that and ``[D(h,c) - D(h,n) + m]+``.
    """
    pulled = unit_distance(c, h)
    loss = torch.relu(pulled - unit_distance(c, n) + margin)
    if form == "symmetric":
        loss = (loss + torch.relu(pulled - unit_distance(h, n) + margin)) / 2
    return (loss * present.to(loss.dtype)).mean()
