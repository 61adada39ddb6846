"""Caser: the last clicks as an image, read by convolutions over time and over dimensions, beside a vector of the user.

Paper: Tang and Wang, "Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding", WSDM 2018,
arXiv 1809.07426. Differences to the original: docs/models/caser.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes, UserInputs
from xdm.models.shared.layers import to_width
from xdm.models.shared.prefixes import newest_last, prefixes
from xdm.models.shared.scoring import InnerProduct

Activation = Literal["relu", "tanh", "sigmoid", "identity"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "identity": lambda x: x,
}  # fmt: skip


class CaserConfig(BaseModel):
    """Caser's settings. Defaults: the authors' for ML-1M."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["caser"] = "caser"
    width: int = Field(50, ge=1, description="d: of the item inputs and of z; a query is z and the user's vector beside it")
    user_width: int = Field(50, ge=0, description="of the user's vector, d with the authors; 0 leaves the user id out")
    window: int = Field(5, ge=1, le=50, description="L: how many of the last clicks are read")
    horizontal: int = Field(16, ge=1, description="filters of each height 1 to L, over whole item vectors")
    vertical: int = Field(4, ge=1, description="filters over the L clicks, one dimension at a time")
    conv_activation: Activation = Field("relu", description="φ_c, after the horizontal filters")
    dense_activation: Activation = Field("relu", description="φ_a, after the dense layer")
    dropout: float = Field(0.5, ge=0, lt=1, description="on what the filters found")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")

    # What is scored is wider than what is read, so the two tables cannot be one.
    tie_item_embedding: ClassVar[bool] = False


class Caser(Encoder):
    """Horizontal and vertical convolutions over the window of the last clicks, a dense layer, and the user's vector."""

    def __init__(self, config: CaserConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d, self.window = config.width, config.window
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = UserInputs(sizes, config.user_width, 0) if config.user_width else NoUserInputs()
        self.width, self.interests = d + self.users.width, 1
        self.scoring = InnerProduct(bias=True)  # W' and b' of the paper
        self.project = to_width(self.items.width, d)
        self.padding = nn.Parameter(torch.empty(d))  # of a place before the first click; learned, as in the code
        self.horizontal = nn.ModuleList(nn.Conv1d(d, config.horizontal, height + 1) for height in range(self.window))
        self.vertical = nn.Linear(self.window, config.vertical)
        self.dense = nn.Linear(config.vertical * d + config.horizontal * self.window, d)
        self.conv_activation = ACTIVATIONS[config.conv_activation]
        self.dense_activation = ACTIVATIONS[config.dense_activation]
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.padding, std=1 / d)
        for table in [*self.items.tables.modules(), *self.users.modules()]:
            if isinstance(table, nn.Embedding):
                self.draw_scored(table)

    def draw_scored(self, table: nn.Embedding) -> None:
        """Normal with a deviation of 1 / width, as the authors draw every table; its padding row stays zero."""
        nn.init.normal_(table.weight, std=1 / table.embedding_dim)
        nn.init.zeros_(table.weight[0])

    def encode(self, batch: Batch) -> Tensor:
        """Queries at every point: ``[P, 1, d + d_u]``."""
        z = self.convolved(self.image(*prefixes(batch, self.window)))  # [P, d]
        user = self.users(batch)[batch.row]  # [P, d_u]
        return torch.cat([z, user], dim=-1)[:, None]

    def image(self, items: Tensor, lengths: Tensor) -> Tensor:
        """E: the vectors of each window, ``[P, L, d]``; ``items`` ``[P, L]`` of ``lengths`` ``[P]`` clicks.

        The newest click stands in the last place, whatever the length: each vertical filter has a weight for each place.
        """
        items, inside = newest_last(items, lengths)  # each [P, L]
        return torch.where(inside[..., None], self.project(self.items(items)), self.padding)  # [P, L, d]

    def convolved(self, image: Tensor) -> Tensor:
        """z: ``[P, d]`` of windows ``[P, L, d]``."""
        by_dimension = image.transpose(1, 2)  # [P, d, L]
        vertical = self.vertical(by_dimension).transpose(1, 2).flatten(1)  # [P, vertical * d]
        found = [self.conv_activation(conv(by_dimension)) for conv in self.horizontal]  # L of [P, horizontal, L - h + 1]
        highest = [one.amax(dim=-1) for one in found]  # L of [P, horizontal]
        both = self.dropout(torch.cat([vertical, *highest], dim=-1))  # [P, vertical * d + horizontal * L]
        return self.dense_activation(self.dense(both))  # [P, d]


ENTRIES = {
    "caser": ModelEntry(
        Caser, CaserConfig, "Caser (WSDM 2018): convolutions over the last five clicks, beside a vector of the user",
        paper="Tang and Wang, WSDM 2018, arXiv 1809.07426", needs=("user",),
        settings={
            **IDS_ALONE, "behaviours": {"history_max": 50}, "data": {"n_targets": 3},
            "objective": {"name": "bce", "negatives": 1, "negatives_for": "label"},
            "training": {"order": "points", "batch_size": 512, "learning_rate": 1e-3, "weight_decay": 1e-6, "epochs": 50},
        },
    ),
}  # fmt: skip
