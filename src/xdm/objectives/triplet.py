"""XDM's metric losses between clicked h, unclicked n and label c (arXiv 2010.12837, appendix).

Verified: D(h, c) becomes small, D(n, c) and D(n, h) large up to a margin; the symmetric triplet beats the ordinary one and
three pair losses. Our reconstruction: which distance, and what makes the triplet symmetric. Each is a switch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Distance = Literal["unit_squared", "squared", "l2"]
Form = Literal[
    "symmetric", "symmetric_mean", "symmetric_swap", "asymmetric",
    "unclicked_label", "label_clicked", "unclicked_clicked",
]  # fmt: skip


def unit_squared(a: Tensor, b: Tensor) -> Tensor:
    """``|a/|a| - b/|b||^2`` over the last dimension, in [0, 4]. Differentiable at zero vectors and at a = b."""
    return squared(F.normalize(a, dim=-1, eps=1e-8), F.normalize(b, dim=-1, eps=1e-8))


def squared(a: Tensor, b: Tensor) -> Tensor:
    """``|a - b|^2`` over the last dimension."""
    return (a - b).square().sum(-1)


def l2(a: Tensor, b: Tensor) -> Tensor:
    """``|a - b|`` over the last dimension; the small number inside keeps the gradient at a = b from being NaN."""
    return (squared(a, b) + 1e-12).sqrt()


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"unit_squared": unit_squared, "squared": squared, "l2": l2}


def triplet(
    h: Tensor, n: Tensor, c: Tensor, present: Tensor, margin: float, form: Form, distance: Distance = "unit_squared"
) -> Tensor:
    """The metric loss, averaged over all P points: those without an unclicked sequence count as zero, as do satisfied ones.

    With D the ``distance`` and m the ``margin``, for each point:

    - ``asymmetric``: ``[D(c,h) - D(c,n) + m]+``, the ordinary triplet with the label as anchor (the paper's "w/o sym");
    - ``symmetric``: the mean of that and ``[D(h,c) - D(h,n) + m]+``: both h and c are anchors;
    - ``symmetric_mean``: ``[D(c,h) - (D(c,n) + D(h,n)) / 2 + m]+``;
    - ``symmetric_swap``: ``[D(c,h) - min(D(c,n), D(h,n)) + m]+``, the anchor swap of the triplet literature;
    - ``label_clicked``: ``D(c,h)``; ``unclicked_label``: ``[m - D(n,c)]+``; ``unclicked_clicked``: ``[m - D(n,h)]+``.

    Args:
        h, n, c: ``[P, d]`` clicked, unclicked and label vectors; present: ``[P]`` bool, where there is an n.
    """
    between = DISTANCES[distance]
    if form == "label_clicked":
        loss = between(c, h)
    elif form == "unclicked_label":
        loss = torch.relu(margin - between(n, c))
    elif form == "unclicked_clicked":
        loss = torch.relu(margin - between(n, h))
    else:
        pulled, from_label = between(c, h), between(c, n)
        if form == "asymmetric":
            loss = torch.relu(pulled - from_label + margin)
        else:
            from_clicked = between(h, n)
            if form == "symmetric":
                loss = (torch.relu(pulled - from_label + margin) + torch.relu(pulled - from_clicked + margin)) / 2
            elif form == "symmetric_mean":
                loss = torch.relu(pulled - (from_label + from_clicked) / 2 + margin)
            else:
                loss = torch.relu(pulled - torch.minimum(from_label, from_clicked) + margin)
    return (loss * present.to(loss.dtype)).mean()
