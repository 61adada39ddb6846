"""A memory that gives each pair of a user and an item a relation of its own. Shared by LRML and MRMN.

Paper: Tay, Luu and Hui, "Latent Relational Metric Learning via Memory-based Attention for Collaborative Ranking", WWW 2018,
arXiv 1707.05176.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from xdm.models.shared.scoring import PairScoring
from xdm.models.shared.users import into_ball

SMOOTH = 1e-3  # under the root, so that it has a gradient at distance 0
Weights = Literal["softmax", "linear"]


class MemoryScoring(PairScoring):
    """``-sqrt(|p + r - q|² + 1e-3)``, ``r = softmax((p ⊙ q) K) M``: keys K ``[d, N]``, memory M ``[N, d]``; with ``weights`` linear
    there is no softmax."""

    def __init__(self, width: int, slots: int, deviation: float, unit_ball: bool, weights: Weights = "softmax") -> None:
        """``deviation``: of the first keys and memory; ``unit_ball``: vectors of users and items enter cut to length 1."""
        super().__init__()
        self.unit_ball, self.weights = unit_ball, weights
        self.kind = "pairs_in_unit_ball" if unit_ball else "pairs"
        self.keys = nn.Parameter(torch.randn(width, slots) * deviation)
        self.memory = nn.Parameter(torch.randn(slots, width) * deviation)

    def queries(self, z: Tensor) -> Tensor:
        return into_ball(z) if self.unit_ball else z

    def items(self, v: Tensor, bias: Tensor | None) -> Tensor:
        return into_ball(v) if self.unit_ball else v

    def attention(self, p: Tensor, q: Tensor, keys: Tensor | None = None) -> Tensor:
        """Weights of the slots: ``[P, S, N]`` of ``p`` ``[P, d]`` with ``q`` ``[S, d]`` or ``[P, S, d]``; ``keys`` ``[d, N]``: other
        ones than K."""
        own = p[:, :, None] * (self.keys if keys is None else keys)  # [P, d, N]
        return torch.softmax(q @ own, dim=-1) if self.weights == "softmax" else q @ own  # [P, S, N]

    def distance(self, p: Tensor, q: Tensor, attention: Tensor) -> Tensor:
        """``|p + r - q|²``, ``[P, S]``. Written out, so that no relation of a pair, ``[P, S, d]``, is ever made:
        ``|p - q|² + |r|² + 2 r.(p - q)`` with ``r = a M``."""
        across = p @ q.T if q.dim() == 2 else (q @ p[:, :, None]).squeeze(-1)  # [P, S]
        apart = p.square().sum(-1, keepdim=True) + q.square().sum(-1) - 2 * across  # [P, S]
        relation = (attention @ (self.memory @ self.memory.T) * attention).sum(-1)  # [P, S]
        towards = (p @ self.memory.T)[:, None] - q @ self.memory.T  # [P, S, N]
        return apart + relation + 2 * (attention * towards).sum(-1)

    def scores(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """See `PairScoring`; K is 1."""
        p = queries[:, 0]  # [P, d]
        return closeness(self.distance(p, vectors, self.attention(p, vectors)))


def closeness(squared_distance: Tensor) -> Tensor:
    """``-sqrt(x + 1e-3)``; what rounding takes below 0 is 0."""
    return -torch.sqrt(squared_distance.clamp(min=0) + SMOOTH)


def draw_uniform(table: nn.Embedding, deviation: float) -> None:
    """Draw a table anew, uniform in ± ``deviation``; its padding row stays zero."""
    nn.init.uniform_(table.weight, -deviation, deviation)
    with torch.no_grad():
        table.weight[0] = 0
