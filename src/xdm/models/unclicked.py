"""XDM's extension: unclicked behaviours on top of any encoder.

Paper: Lv et al., "XDM: Improving Sequential Deep Matching with Unclicked User Behaviors for Recommender System",
DASFAA 2022, arXiv 2010.12837. Known from the paper: the unclicked sequence and its rules, the three representations
h (clicked), n (unclicked) and c (label), the confidence fusion network that gives ẑ, and the symmetric triplet loss.
Our reconstruction, each part a switch: how n is encoded, how the fusion is computed. See docs/models/xdm.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.shared.layers import linear
from xdm.models.shared.pooling import Pooling, SequencePooling, Sequences

Fusion = Literal["subtract", "gate", "scalar", "none"]
PUSHED_AWAY = 0.2  # how much of n is taken off at the start, before the confidence


class UnclickedConfig(BaseModel):
    """The unclicked branch. ``enabled: false`` leaves the encoder alone."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(False, description="whether the model reads the unclicked sequence")
    items: Literal["input", "output"] = Field(
        "output", description="what an unclicked item enters as: its scored vector, or tanh of its input embedding"
    )
    pooling: Pooling = Field(
        "sum", description="sum: each item weighs sigmoid(score), evidence adds up; attention: softmax, an average"
    )
    user_query: bool = Field(False, description="let an item's weight depend on the user profile e_u too")
    heads: int = Field(4, ge=1, description="heads of pooling self_attention")
    fusion: Fusion = Field(
        "subtract",
        description="subtract: h - g W n, g the confidence, per dimension; scalar: one g; gate: (1 - g) h + g W[h; n]; "
        "none: h, and n enters the metric loss alone",
    )
    confidence: float = Field(2.0, ge=-10, le=10, description="bias that g starts from: sigmoid(-2) = .12, sigmoid(2) = .88")
    dropout: float = Field(0.2, ge=0, lt=1, description="on the pooling weights")


@dataclass(frozen=True)
class Queries:
    """``query`` ``[P, K, d']`` is what is scored; ``fused`` ``[P, K, d]`` is ẑ and ``clicked`` ``[P, K, d]`` is h;
    ``unclicked`` ``[P, d]`` is n and ``has_unclicked`` ``[P]`` bool says where there is one. ``query`` is ẑ in the form that
    the encoder's scoring wants it; without the extension ẑ and h are the same."""

    query: Tensor
    fused: Tensor
    clicked: Tensor
    unclicked: Tensor | None = None
    has_unclicked: Tensor | None = None


class UnclickedExtension(nn.Module):
    """n from the unclicked sequence, and the confidence fusion of h and n."""

    def __init__(self, config: UnclickedConfig, encoder: Encoder) -> None:
        super().__init__()
        d = encoder.width
        self.config = config
        self.item = linear(encoder.items.width, d) if config.items == "input" else None
        self.pooling = SequencePooling(
            config.pooling, d, encoder.users.width if config.user_query else 0, config.heads, config.dropout
        )
        self.confidence: nn.Linear | None = None
        self.fuse: nn.Linear | None = None
        if config.fusion != "none":
            self.confidence = linear(3 * d + encoder.users.width, 1 if config.fusion == "scalar" else d)
            nn.init.constant_(self.confidence.bias, config.confidence)
            self.fuse = linear(2 * d if config.fusion == "gate" else d, d)
            if config.items == "output" and config.fusion != "gate":
                # n then lies in the space of what is scored, where an item is most like itself: to begin with, what was
                # skipped is pushed away a little, and training says how much. From random weights it takes many epochs.
                with torch.no_grad():
                    self.fuse.weight.copy_(PUSHED_AWAY * torch.eye(d))

    def sequences(self, batch: Batch, encoder: Encoder, vectors: Callable[[Tensor], Tensor]) -> Sequences:
        """The unclicked sequences of ``batch`` over the vectors of their items."""
        ones = torch.ones_like(batch.unclicked_of)
        lengths = torch.zeros_like(batch.unclicked_owner).scatter_add(0, batch.unclicked_of, ones)
        if torch.onnx.is_in_onnx_export():  # a graph cannot look at sizes to choose
            items, place = batch.unclicked, torch.arange(batch.unclicked.shape[0])
        elif encoder.items.codes.shape[1] <= len(batch.unclicked):  # every item of the catalogue, rather than sort the places
            items, place = torch.arange(encoder.items.codes.shape[1], device=ones.device), batch.unclicked
        else:
            items, place = torch.unique(batch.unclicked, return_inverse=True)
        table = vectors(items) if self.item is None else torch.tanh(self.item(encoder.items(items)))  # [I, d]
        return Sequences(table, place, batch.unclicked_of, lengths)

    def fusion(self, h: Tensor, n: Tensor, user: Tensor, present: Tensor) -> Tensor:
        """ẑ ``[P, K, d]`` from h ``[P, K, d]``, n ``[P, d]``, ``user`` ``[P, d_u]``; where ``present`` ``[P]`` is false, h itself."""
        if self.confidence is None or self.fuse is None:
            return h
        n, user = n[:, None].expand_as(h), user[:, None].expand(-1, h.shape[1], -1)
        g = torch.sigmoid(self.confidence(torch.cat([h, n, h * n, user], dim=-1)))  # [P, K, d], or [P, K, 1]
        gated = self.config.fusion == "gate"
        z = (1 - g) * h + g * self.fuse(torch.cat([h, n], dim=-1)) if gated else h - g * self.fuse(n)
        return torch.where(present[:, None, None], z, h)

    def forward(self, h: Tensor, encoder: Encoder, batch: Batch, vectors: Callable[[Tensor], Tensor]) -> Queries:
        """Queries from the encoder's ``h`` ``[P, K, d + beside]``; ``vectors`` gives the scored vectors of items. What stands beside
        says how a query is scored: it is left as it is."""
        beside = None
        if encoder.scoring.beside:
            h, beside = h[..., : encoder.width], h[..., encoder.width :]  # [P, K, d], [P, K, beside]
        user = encoder.users(batch)  # [B, d_u]
        sequences = self.sequences(batch, encoder, vectors)
        n = self.pooling(sequences, user[batch.unclicked_owner])[batch.unclicked_row]  # [P, d]
        present = sequences.present[batch.unclicked_row]  # [P]
        z = self.fusion(h, n, user[batch.row], present)
        asked = z if beside is None else torch.cat([z, beside], dim=-1)  # [P, K, d + beside]
        return Queries(encoder.scoring.queries(asked), z, h, n, present)
