"""MRMN: LRML for several types of action; each type reads the one memory with keys of its own. Here: clicked and skipped.

Paper: Zhou, Liu, Lian and Xie, "Collaborative Metric Learning with Memory Network for Multi-Relational Recommender Systems",
IJCAI 2019, arXiv 1906.09882. After its authors' code; the paper's own equations were not at hand. Differences: docs/models/mrmn.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry, Preset, Settings
from xdm.models.shared.exposures import skipped_before
from xdm.models.shared.inputs import ItemInputs, Sizes
from xdm.models.shared.memory import MemoryScoring, Weights, closeness, draw_uniform
from xdm.models.shared.users import UserVectors

if TYPE_CHECKING:
    from xdm.models.retrieval_model import RetrievalModel


class MRMNConfig(BaseModel):
    """MRMN's settings. Defaults: the authors' script, whose five types have the margins .25, .20, .15, .10 and .05."""

    model_config = ConfigDict(extra="forbid")
    tie_item_embedding: ClassVar[bool] = True  # one vector an item
    reads_stream: ClassVar[bool] = True  # in training

    name: Literal["mrmn"] = "mrmn"
    width: int = Field(50, ge=1, description="d: of user and item vectors and of the memory's slots")
    slots: int = Field(100, ge=1, description="N: slots of the memory, which both types read")
    weights: Weights = Field(
        "linear", description="of the slots: linear, the products with the keys themselves, as the authors' code; softmax, as LRML"
    )
    deviation: float = Field(
        0.1, gt=0, description="of the first weights: tables uniform in ± this, memory and keys normal"
    )
    unit_ball: bool = Field(True, description="user and item vectors enter the score cut to length 1")
    negative_relation: Literal["clicked", "positive", "own"] = Field(
        "clicked",
        description="the relation over which a negative item is scored in training: clicked, what the positive pair has as a click, "
        "whatever its own type (the authors'); positive, the positive pair's of its type; own, its own, as when it is searched",
    )
    negatives: int = Field(1, ge=1, description="uniform negatives of each click; a skip has one")
    skips: int = Field(1, ge=0, description="skipped items drawn before each click; 0: clicks alone")
    skipped_as: Literal["type", "negative"] = Field(
        "type", description="type: a skip is the weaker type of action, which its pairs are drawn near by; negative: it is one "
        "more negative of the click"
    )  # fmt: skip
    margin: float = Field(0.25, ge=0, description="of clicks: margin of the hinge; the authors' strongest type's")
    skipped_margin: float = Field(0.05, ge=0, description="of skips as a type; the authors' weakest type's")


class MRMN(Encoder):
    """The user's vector is the query; it is searched as the type clicked."""

    users: UserVectors
    scoring: MemoryScoring

    def __init__(self, config: MRMNConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`; ids alone are read."""
        super().__init__()
        d = config.width
        self.config, self.width, self.interests = config, d, 1
        self.items = ItemInputs(sizes, d, 0, codes)
        self.users = UserVectors(sizes, d)
        self.scoring = MemoryScoring(d, config.slots, config.deviation, config.unit_ball, config.weights)
        for table in (self.users.vectors, self.items.tables[0]):
            assert isinstance(table, nn.Embedding)
            draw_uniform(table, config.deviation)
        if config.skips and config.skipped_as == "type":
            self.skipped_keys = nn.Parameter(torch.randn(d, config.slots) * config.deviation)  # K of skips; of clicks: scoring's

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        return self.users.at_points(batch, self.items)

    def hinges(self, p: Tensor, positive: Tensor, negative: Tensor, keys: Tensor, margin: float) -> Tensor:
        """``[margin - s(p, q, r) + s(p, q', r')]+``, ``[P, S]``, of users ``p`` ``[P, d]`` with ``positive`` and ``negative``
        ``[P, S, d]``; r of the positive pair by ``keys`` ``[d, N]``, r' as `MRMNConfig.negative_relation` says."""
        scoring, relation = self.scoring, self.config.negative_relation
        attention = scoring.attention(p, positive, keys)  # [P, S, N]
        other = {
            "clicked": lambda: scoring.attention(p, positive), "positive": lambda: attention,
            "own": lambda: scoring.attention(p, negative, keys),
        }[relation]()  # [P, S, N]  # fmt: skip
        near = closeness(scoring.distance(p, positive, attention))  # [P, S]
        return torch.relu(margin - near + closeness(scoring.distance(p, negative, other)))

    def own_loss(
        self, queries: Tensor, targets: Tensor, batch: Batch, model: RetrievalModel, rng: np.random.Generator
    ) -> Tensor:
        """The hinges of all clicks and skips, a sum over types and a mean over points. Only the first target counts; a negative
        that is its own positive counts nothing."""
        config, n = self.config, model.sizes.n_candidates
        labels = targets[:, :1]  # [P, 1]
        points = len(labels)
        drawn = torch.from_numpy(rng.integers(1, n + 1, (points, config.negatives))).to(labels.device)  # [P, S]
        p = self.scoring.queries(queries)[:, 0]  # [P, d]
        positive, keys = model.scored(labels), self.scoring.keys  # [P, 1, d], [d, N]

        def of_clicks(negatives: Tensor) -> Tensor:
            hinges = self.hinges(p, positive.expand(-1, negatives.shape[1], -1), model.scored(negatives), keys, config.margin)
            return hinges.masked_fill((negatives == labels) | (negatives == 0), 0.0).sum()

        total = of_clicks(drawn)
        if config.skips:
            skipped = skipped_before(batch, rng.random((points, config.skips)), n)  # [P, k], 0 for none
            if config.skipped_as == "negative":
                total = total + of_clicks(skipped)
            else:
                others = torch.from_numpy(rng.integers(1, n + 1, (points, config.skips))).to(labels.device)  # [P, k]
                hinges = self.hinges(p, model.scored(skipped), model.scored(others), self.skipped_keys, config.skipped_margin)
                total = total + hinges.masked_fill((others == skipped) | (skipped == 0), 0.0).sum()
        return total / points


_SHARED: Settings = {
    **IDS_ALONE, "behaviours": {"stream_max": 50},
    "training": {"order": "points", "batch_size": 64, "learning_rate": 1e-3},  # 64 clicks a step, as the authors
}  # fmt: skip
ENTRIES = {
    "mrmn": ModelEntry(
        MRMN, MRMNConfig, "MRMN (IJCAI 2019): LRML with clicks and skips as types, one memory with keys for each; scored pair by pair",
        paper="Zhou et al., IJCAI 2019, arXiv 1906.09882", needs=("user", "exposures"), retrieved="scoring every pair",
        label="after its authors' code; the paper's equations were not read",
        # trained as it is searched: with the authors' loss it stays below popularity, see docs/models/mrmn.md
        settings={"model": {"name": "mrmn", "negative_relation": "own"}, **_SHARED},
        presets={"mrmn-original": Preset("MRMN with its authors' loss: a negative over the positive pair's relation", _SHARED)},
    ),
}  # fmt: skip
