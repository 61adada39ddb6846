"""LRML: a user reaches an item by a relation that a memory gives to just this pair.

Paper: Tay, Luu and Hui, "Latent Relational Metric Learning via Memory-based Attention for Collaborative Ranking", WWW 2018,
arXiv 1707.05176. Differences to the original: docs/models/lrml.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, OWN_NEGATIVES, ModelEntry
from xdm.models.shared.inputs import ItemInputs, Sizes
from xdm.models.shared.scoring import PairScoring
from xdm.models.shared.users import UserVectors, into_ball

if TYPE_CHECKING:
    from xdm.models.retrieval_model import RetrievalModel

SMOOTH = 1e-3  # under the root, so that it has a gradient at distance 0


class LRMLConfig(BaseModel):
    """LRML's settings. The released code names no values; the defaults are of the order that the paper's grids have."""

    model_config = ConfigDict(extra="forbid")
    tie_item_embedding: ClassVar[bool] = True  # one vector an item

    name: Literal["lrml"] = "lrml"
    width: int = Field(50, ge=1, description="d: of user and item vectors and of the memory's slots")
    slots: int = Field(20, ge=1, description="N: slots of the memory")
    deviation: float = Field(
        0.1, gt=0, description="of the first weights: tables uniform in ± this, memory and keys normal"
    )
    unit_ball: bool = Field(True, description="user and item vectors enter the score cut to length 1")
    negative_relation: Literal["positive", "own"] = Field(
        "positive",
        description="in training a negative item is scored with the positive pair's relation, by the authors' own hinge loss, or "
        "with its own, as when it is searched, by the configured objective",
    )
    negatives: int = Field(1, ge=1, description="of negative_relation positive: uniform negatives of each label")
    margin: float = Field(0.2, ge=0, description="of negative_relation positive: margin of the hinge")


class LRMLScoring(PairScoring):
    """``-sqrt(|p + r - q|² + 1e-3)``, ``r = softmax((p ⊙ q) K) M``: keys K ``[d, N]``, memory M ``[N, d]``."""

    def __init__(self, width: int, slots: int, deviation: float, unit_ball: bool) -> None:
        super().__init__()
        self.unit_ball = unit_ball
        self.keys = nn.Parameter(torch.randn(width, slots) * deviation)
        self.memory = nn.Parameter(torch.randn(slots, width) * deviation)

    def queries(self, z: Tensor) -> Tensor:
        return into_ball(z) if self.unit_ball else z

    def items(self, v: Tensor, bias: Tensor | None) -> Tensor:
        return into_ball(v) if self.unit_ball else v

    def attention(self, p: Tensor, q: Tensor) -> Tensor:
        """Weights of the slots: ``[P, S, N]`` of ``p`` ``[P, d]`` with ``q`` ``[S, d]`` or ``[P, S, d]``."""
        keys = p[:, :, None] * self.keys  # [P, d, N]
        return torch.softmax(q @ keys, dim=-1)  # [P, S, N]

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


class LRML(Encoder):
    """The user's vector is the query; what else there is to the model is its scoring."""

    users: UserVectors
    scoring: LRMLScoring

    def __init__(self, config: LRMLConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`; ids alone are read."""
        super().__init__()
        d = config.width
        self.config, self.width, self.interests = config, d, 1
        self.items = ItemInputs(sizes, d, 0, codes)
        self.users = UserVectors(sizes, d)
        self.scoring = LRMLScoring(d, config.slots, config.deviation, config.unit_ball)
        for table in (self.users.vectors, self.items.tables[0]):
            assert isinstance(table, nn.Embedding)
            nn.init.uniform_(table.weight, -config.deviation, config.deviation)
            with torch.no_grad():
                table.weight[0] = 0

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        return self.users.at_points(batch, self.items)

    def own_loss(
        self, queries: Tensor, targets: Tensor, batch: Batch, model: RetrievalModel, rng: np.random.Generator
    ) -> Tensor | None:
        """``Σ [margin - s(p, q, r) + s(p, q', r)]+``, the mean over points, r the relation of the positive pair; None where
        every pair has its own relation. Only the first target counts; a negative that is the label counts nothing."""
        if self.config.negative_relation == "own":
            return None
        labels = targets[:, 0]  # [P]
        drawn = rng.integers(1, model.sizes.n_candidates + 1, (len(labels), self.config.negatives))
        negatives = torch.from_numpy(drawn).to(labels.device)  # [P, S]
        p = self.scoring.queries(queries)[:, 0]  # [P, d]
        positive = model.scored(labels)[:, None]  # [P, 1, d]
        attention = self.scoring.attention(p, positive)  # [P, 1, N]
        near = closeness(self.scoring.distance(p, positive, attention))  # [P, 1]
        vectors = model.scored(negatives)  # [P, S, d]
        far = closeness(self.scoring.distance(p, vectors, attention.expand(-1, vectors.shape[1], -1)))  # [P, S]
        hinge = torch.relu(self.config.margin - near + far).masked_fill(negatives == labels[:, None], 0.0)  # [P, S]
        return hinge.sum(1).mean()


ENTRIES = {
    "lrml": ModelEntry(
        LRML, LRMLConfig, "LRML (WWW 2018): a relation of each user and item from a memory; scored pair by pair",
        paper="Tay et al., WWW 2018, arXiv 1707.05176", needs=("user",), retrieved="scoring every pair",
        # the objective is that of model.negative_relation own; the authors' is the model's
        settings={**IDS_ALONE, "objective": {"name": "hinge", "ranking_margin": 0.2, "negatives": 1, **OWN_NEGATIVES}},
    ),
}  # fmt: skip
