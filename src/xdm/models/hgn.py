"""HGN: two gates, over the dimensions of the last clicks and over the clicks, told by the user.

Paper: Ma, Kang and Liu, "Hierarchical Gating Networks for Sequential Recommendation", KDD 2019, arXiv 1906.09217.
Differences to the original: docs/models/hgn.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, OWN_NEGATIVES, ModelEntry
from xdm.models.shared.inputs import ItemInputs, Sizes, UserInputs
from xdm.models.shared.layers import to_width
from xdm.models.shared.prefixes import newest_last, prefixes
from xdm.models.shared.scoring import InnerProduct

BATCH = 4096  # windows a step, with the authors


class HGNConfig(BaseModel):
    """HGN's settings. Defaults: the authors'."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["hgn"] = "hgn"
    width: int = Field(50, ge=1, description="d: of items, users and queries")
    window: int = Field(5, ge=1, le=50, description="L: how many of the last clicks are read")
    pooling: Literal["average", "max"] = Field("average", description="of the gated clicks; the paper's two variants")
    item_product: bool = Field(True, description="add the clicks themselves, without gates, to the query: the item-item product")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    tie_item_embedding: bool = Field(False, description="score items by their input vectors")


class HGN(Encoder):
    """``u + s + Σ_j S_j``: the user, the clicks of the window through both gates, and the clicks as they are."""

    def __init__(self, config: HGNConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d, self.window = config.width, config.window
        self.width, self.interests, self.config = d, 1, config
        self.scoring = InnerProduct(bias=True)  # W_2 and b_2 of the code
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = UserInputs(sizes, d, 0)
        self.project = to_width(self.items.width, d)
        self.padding = nn.Parameter(torch.empty(d))  # of a place before the first click; learned, as in the code
        self.gate_of_item, self.gate_of_user = nn.Linear(d, d), nn.Linear(d, d)
        self.instance_of_item = nn.Parameter(torch.empty(d, 1))  # w_3
        self.instance_of_user = nn.Parameter(torch.empty(d, self.window))  # W_4: the user's weight of each place
        nn.init.xavier_uniform_(self.instance_of_item)
        nn.init.xavier_uniform_(self.instance_of_user)
        nn.init.normal_(self.padding, std=1 / d)
        for table in [*self.items.tables.modules(), *self.users.modules()]:
            if isinstance(table, nn.Embedding):
                self.draw_scored(table)

    def draw_scored(self, table: nn.Embedding) -> None:
        """Normal with a deviation of 1 / width, as the authors draw every table; its padding row stays zero."""
        nn.init.normal_(table.weight, std=1 / table.embedding_dim)
        nn.init.zeros_(table.weight[0])

    def encode(self, batch: Batch) -> Tensor:
        """Queries at every point: ``[P, 1, d]``."""
        items, inside = newest_last(*prefixes(batch, self.window))  # each [P, L]
        clicks = torch.where(inside[..., None], self.project(self.items(items)), self.padding)  # [P, L, d]
        user = self.users(batch)[batch.row]  # [P, d]
        query = user + self.pooled(clicks, user)  # [P, d]
        return (query + clicks.sum(dim=1) if self.config.item_product else query)[:, None]

    def pooled(self, clicks: Tensor, user: Tensor) -> Tensor:
        """s ``[P, d]``: ``clicks`` ``[P, L, d]`` through the feature gate and the instance gate, both told by ``user`` ``[P, d]``."""
        gated = clicks * torch.sigmoid(self.gate_of_item(clicks) + self.gate_of_user(user)[:, None])  # [P, L, d]
        instance = torch.sigmoid((gated @ self.instance_of_item).squeeze(-1) + user @ self.instance_of_user)  # [P, L]
        gated = gated * instance[..., None]  # [P, L, d]
        if self.config.pooling == "max":
            return gated.amax(dim=1)
        return gated.sum(dim=1) / instance.sum(dim=1, keepdim=True)


ENTRIES = {
    "hgn": ModelEntry(
        HGN, HGNConfig, "HGN (KDD 2019): gates over the last five clicks, beside a vector of the user",
        paper="Ma et al., KDD 2019, arXiv 1906.09217", needs=("user",),
        settings={
            **IDS_ALONE, "behaviours": {"history_max": 50}, "data": {"n_targets": 3},
            "objective": {"name": "bpr", "negatives": 1, **OWN_NEGATIVES},
            # Their loss is a sum over 4096 windows of three targets: beside a mean, their L2 of 1e-3 is so much smaller.
            "training": {
                "order": "points", "batch_size": BATCH, "learning_rate": 1e-3, "weight_decay": 1e-3 / BATCH / 3, "epochs": 200,
                "patience": 10,
            },
        },
    ),
}  # fmt: skip
