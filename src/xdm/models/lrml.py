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
from xdm.models.shared.memory import MemoryScoring, closeness, draw_uniform
from xdm.models.shared.users import UserVectors

if TYPE_CHECKING:
    from xdm.models.retrieval_model import RetrievalModel


class LRMLConfig(BaseModel):
    """LRML's settings. The released code names no values; the defaults are of the order that the paper's grids have."""

    model_config = ConfigDict(extra="forbid")
    reads_clicks: ClassVar[bool] = False  # in training: it learns of the user's vector
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


class LRML(Encoder):
    """The user's vector is the query; what else there is to the model is its scoring."""

    users: UserVectors
    scoring: MemoryScoring

    def __init__(self, config: LRMLConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`; ids alone are read."""
        super().__init__()
        d = config.width
        self.config, self.width, self.interests = config, d, 1
        self.items = ItemInputs(sizes, d, 0, codes)
        self.users = UserVectors(sizes, d)
        self.scoring = MemoryScoring(d, config.slots, config.deviation, config.unit_ball)
        for table in (self.users.vectors, self.items.tables[0]):
            assert isinstance(table, nn.Embedding)
            draw_uniform(table, config.deviation)

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
