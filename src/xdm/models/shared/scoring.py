"""How a query and an item vector make a score.

Most scores are, or fold exactly into, one inner product, so that any index of inner products can search them. With q the
query and v the vector of an item whose bias is b:

- inner product: ``q.v + b`` = ``[q; 1].[v; b]``
- cosine over a temperature τ: ``cos(q, v) / τ + b`` = ``[q / |q|τ; 1].[v / |v|; b]``
- squared distance: ``b - |q - v|²`` ranks as ``[2q; 1].[v; b - |v|²]``, which leaves out ``|q|²``, the same for every item, though not
  for every interest of a user: it goes with one query a user
- squared distances in two spaces, the first of weight w: ``-w |q₁ - v₁|² - (1 - w) |q₂ - v₂|²`` ranks as
  ``[2w q₁; 2(1 - w) q₂; w; 1 - w].[v₁; v₂; -|v₁|²; -|v₂|²]``, whatever the w of a query

A model whose score needs the candidate beside the query is a `PairScoring`; it is searched by scoring everything.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Kind = Literal["inner_product", "cosine", "squared_distance", "two_squared_distances", "pairs", "pairs_in_unit_ball", "pairs_layered"]


class Scoring(nn.Module):
    """Base of all: what is ``foldable`` says how its queries and item vectors become those of an inner product. ``kind`` is its name
    in a bundle, for those who fold a vector without torch."""

    kind: Kind
    foldable = True
    bias = False  # whether each item has a learned bias
    beside = 0  # coordinates that a query has behind the d of item vectors: how it is scored, not where it lies

    def queries(self, z: Tensor) -> Tensor:
        """Folded queries ``[..., d']`` of ``z`` ``[..., d + beside]``."""
        return z

    def items(self, v: Tensor, bias: Tensor | None) -> Tensor:
        """Folded item vectors ``[..., d']`` of ``v`` ``[..., d]`` and their ``bias`` ``[...]``."""
        return v

    def distances(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """``[...]``: how far folded ``queries`` ``[..., d']`` are from folded item ``vectors`` ``[..., d']``, the biases left out."""
        raise NotImplementedError


class InnerProduct(Scoring):
    """``q.v``, and ``+ b`` with ``bias``."""

    kind: Kind = "inner_product"

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.bias = bias

    def queries(self, z: Tensor) -> Tensor:
        return one_more(z, 1.0) if self.bias else z

    def items(self, v: Tensor, bias: Tensor | None) -> Tensor:
        return v if bias is None else torch.cat([v, bias[..., None]], dim=-1)


class Cosine(InnerProduct):
    """The cosine divided by ``temperature``, and ``+ b`` with ``bias``. Vectors shorter than 1e-6 count as zeros."""

    kind: Kind = "cosine"

    def __init__(self, temperature: float, bias: bool = False) -> None:
        super().__init__(bias)
        self.temperature = temperature

    def queries(self, z: Tensor) -> Tensor:
        return super().queries(F.normalize(z, dim=-1, eps=1e-6) / self.temperature)

    def items(self, v: Tensor, bias: Tensor | None) -> Tensor:
        return super().items(F.normalize(v, dim=-1, eps=1e-6), bias)

    def distances(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """``1 - cos(q, v)``."""
        if self.bias:
            queries, vectors = queries[..., :-1], vectors[..., :-1]
        return 1 - self.temperature * (queries * vectors).sum(-1)


class SquaredDistance(Scoring):
    """``-|q - v|²``, and ``+ b`` with ``bias``, less ``|q|²``, which ranks nothing."""

    kind: Kind = "squared_distance"

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.bias = bias

    def queries(self, z: Tensor) -> Tensor:
        return one_more(2 * z, 1.0)

    def items(self, v: Tensor, bias: Tensor | None) -> Tensor:
        squared = v.square().sum(-1, keepdim=True)
        return torch.cat([v, -squared if bias is None else bias[..., None] - squared], dim=-1)

    def distances(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """``|q - v|²``."""
        return (queries[..., :-1] / 2 - vectors[..., :-1]).square().sum(-1)


class TwoSquaredDistances(Scoring):
    """``-w |q₁ - v₁|² - (1 - w) |q₂ - v₂|²`` over the two halves of the vectors, less what ranks nothing; each query has its own w,
    as its last coordinate."""

    kind: Kind = "two_squared_distances"
    beside = 1

    def queries(self, z: Tensor) -> Tensor:
        w = z[..., -1:]
        first, second = z[..., :-1].chunk(2, dim=-1)  # each [..., d / 2]
        return torch.cat([2 * w * first, 2 * (1 - w) * second, w, 1 - w], dim=-1)

    def items(self, v: Tensor, bias: Tensor | None) -> Tensor:
        first, second = v.square().chunk(2, dim=-1)  # each [..., d / 2]
        return torch.cat([v, -first.sum(-1, keepdim=True), -second.sum(-1, keepdim=True)], dim=-1)


class PairScoring(Scoring):
    """A score of its own for each pair of a query and an item vector."""

    kind: Kind = "pairs"
    foldable = False

    def scores(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """``[P, N]`` of ``queries`` ``[P, K, d]`` with ``vectors`` ``[N, d]``, or ``[P, S]`` with ``[P, S, d]``, each point's own."""
        raise NotImplementedError


def one_more(x: Tensor, value: float) -> Tensor:
    """``[..., d + 1]``: ``x`` ``[..., d]`` and one more coordinate of ``value``."""
    return torch.cat([x, torch.full_like(x[..., :1], value)], dim=-1)
