"""GRU4Rec: the session through a GRU.

Papers: Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016, arXiv 1511.06939;
Hidasi and Karatzoglou, "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations", CIKM 2018,
arXiv 1706.03847. Differences to the original: docs/models.md. Not yet proven against the authors' code.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.inputs import ItemInputs, NoUserInputs, Sizes, glorot
from xdm.models.layers import to_width


class GRU4RecConfig(BaseModel):
    """GRU4Rec's settings. Defaults: the authors' best on RSC15 with cross-entropy and shared embeddings."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["gru4rec"] = "gru4rec"
    width: int = Field(100, ge=1, description="d: hidden units of every layer, input and item vectors")
    layers: int = Field(1, ge=1, le=8, description="recurrent layers")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="on the item inputs")
    hidden_dropout: float = Field(0.4, ge=0, lt=1, description="on the states of every layer")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors (constrained embedding)")


class GRU4Rec(nn.Module):
    """Item vectors, a stack of GRU layers, the state at each point."""

    def __init__(self, config: GRU4RecConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests = d, 1
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.layers = nn.ModuleList(nn.GRU(d, d, batch_first=True) for _ in range(config.layers))
        self.input_dropout, self.hidden_dropout = nn.Dropout(config.input_dropout), nn.Dropout(config.hidden_dropout)
        glorot(self.items.tables[0])
        for name, weight in self.layers.named_parameters():
            if "bias" in name:
                nn.init.zeros_(weight)
                continue
            for gate in range(3):  # each gate is a matrix of its own
                nn.init.xavier_uniform_(weight.data[gate * d : (gate + 1) * d])

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        x = self.input_dropout(self.project(self.items(batch.short)))  # [B, T, d]
        for layer in self.layers:
            states, _ = layer(x)
            x = self.hidden_dropout(states)  # [B, T, d]
        return x[batch.row, batch.position][:, None]
