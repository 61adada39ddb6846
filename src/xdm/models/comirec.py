"""ComiRec-SA: several interests of a user, each its own pooling of the session by self-attention.

Paper: Cen et al., "Controllable Multi-Interest Framework for Recommendation", KDD 2020, arXiv 2005.09347. The sequence here is
the short-term session. Differences to the original: docs/models.md. Not yet proven against the authors' code.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.inputs import ItemInputs, NoUserInputs, Sizes, glorot
from xdm.models.layers import causal, linear, masked_softmax, to_width


class ComiRecConfig(BaseModel):
    """ComiRec's settings. Defaults: the authors'."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["comirec"] = "comirec"
    width: int = Field(64, ge=1, description="d: of the interests and of the item vectors")
    interests: int = Field(4, ge=1, le=32, description="K: vectors a user; an item's score is the best of theirs")
    hidden: int = Field(4, ge=1, description="hidden units of the attention, in multiples of the width")
    length: int = Field(50, ge=1, description="places with a learned position; at least behaviours.session_max")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")


class ComiRec(nn.Module):
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
        placed = x + self.positions[:length]
        scores = self.outer(torch.tanh(self.inner(placed))).transpose(1, 2)  # [B, K, T]
        # At place t the interests pool the places up to t alone: one softmax for each place. Padding, on the right, is never seen.
        visible = causal(length, x.device)[:, None]  # [T, 1, T]
        scores = scores[:, None].expand(-1, length, -1, -1)  # [B, T, K, T]
        weights = masked_softmax(scores, visible.expand_as(scores))
        pooled = (weights.flatten(1, 2) @ x).reshape(x.shape[0], length, self.interests, self.width)  # [B, T, K, d]
        return pooled[batch.row, batch.position]
