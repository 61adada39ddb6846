"""ComiRec: several interests of a user, pooled from the clicks by self-attention (SA) or by dynamic routing (DR).

Paper: Cen et al., "Controllable Multi-Interest Framework for Recommendation", KDD 2020, arXiv 2005.09347.
Authors' code: THUDM/ComiRec. Differences to the original: docs/models/comirec.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry
from xdm.models.shared.capsules import route
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes, glorot
from xdm.models.shared.layers import causal, linear, masked_softmax, to_width


class ComiRecConfig(BaseModel):
    """ComiRec-SA's settings. Defaults: the authors'."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["comirec"] = "comirec"
    width: int = Field(64, ge=1, description="d: of the interests and of the item vectors")
    interests: int = Field(4, ge=1, le=32, description="K: vectors a user; an item's score is the best of theirs")
    hidden: int = Field(4, ge=1, description="hidden units of the attention, in multiples of the width")
    length: int = Field(50, ge=1, description="places with a learned position; at least behaviours.session_max")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")


class ComiRecDRConfig(BaseModel):
    """ComiRec-DR's settings. Defaults: the authors'."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["comirec_dr"] = "comirec_dr"
    width: int = Field(64, ge=1, description="d: of the interests and of the item vectors")
    interests: int = Field(4, ge=1, le=32, description="K: vectors a user; an item's score is the best of theirs")
    length: int = Field(50, ge=1, description="places with maps of their own; at least behaviours.session_max")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")


class ComiRec(Encoder):
    """K averages of the clicked items' vectors; the weights come from vectors and positions."""

    def __init__(self, config: ComiRecConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests = d, config.interests
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.positions = nn.Parameter(torch.empty(config.length, d))
        self.inner = linear(d, config.hidden * d)
        self.outer = linear(config.hidden * d, config.interests, bias=False)  # a bias would change no softmax over places
        glorot(self.items.tables[0])
        nn.init.xavier_uniform_(self.positions)

    def encode(self, batch: Batch) -> Tensor:
        """Interests at every point: ``[P, K, d]``."""
        x = self.project(self.items(batch.short))  # [B, T, d]
        length = x.shape[1]
        placed = x + self.positions[:length]  # [B, T, d]
        scores = self.outer(torch.tanh(self.inner(placed))).transpose(1, 2)  # [B, K, T]
        # At place t the interests pool the places up to t alone: one softmax for each place. Padding, on the right, is never seen.
        visible = causal(length, x.device)[:, None]  # [T, 1, T]
        scores = scores[:, None].expand(-1, length, -1, -1)  # [B, T, K, T]
        weights = masked_softmax(scores, visible.expand_as(scores))  # [B, T, K, T]
        pooled = (weights.flatten(1, 2) @ x).reshape(x.shape[0], length, self.interests, self.width)  # [B, T, K, d]
        return pooled[batch.row, batch.position]  # [P, K, d]


class ComiRecDR(Encoder):
    """K capsules, which the clicks are routed to; every place has a map of its own to each of them."""

    def __init__(self, config: ComiRecDRConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d, self.width, self.interests = config.width, config.width, config.interests
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.maps = nn.Parameter(torch.empty(config.length, config.interests * d, d))
        glorot(self.items.tables[0])
        nn.init.normal_(self.maps)

    def encode(self, batch: Batch) -> Tensor:
        """Interests at every point: ``[P, K, d]``."""
        x = self.project(self.items(batch.short))  # [B, T, d]
        rows, length, d = x.shape
        votes = x.transpose(0, 1) @ self.maps[:length].transpose(1, 2)  # [T, B, K d]
        votes = votes.reshape(length, rows, self.interests, d).permute(1, 2, 0, 3)  # [B, K, T, d]
        # All logits start at 0: the maps, which differ, are what tells one interest from another.
        logits = x.new_zeros((rows, self.interests, length, length))  # [B, K, T, T]
        return route(votes, logits)[batch.row, batch.position]  # [P, K, d]


ENTRIES = {
    "comirec": ModelEntry(
        ComiRec, ComiRecConfig, "ComiRec-SA (KDD 2020): several interests, each its own pooling of the clicks",
        paper="Cen et al., KDD 2020, arXiv 2005.09347",
        settings=IDS_ALONE,
    ),
    "comirec_dr": ModelEntry(
        ComiRecDR, ComiRecDRConfig, "ComiRec-DR (KDD 2020): several interests, capsules that the clicks are routed to",
        paper="Cen et al., KDD 2020, arXiv 2005.09347",
        settings={**IDS_ALONE, "behaviours": {"history_max": 50}, "training": {"learning_rate": 5e-3}},
    ),
}  # fmt: skip
