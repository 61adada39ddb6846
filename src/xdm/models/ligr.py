"""LiGR: causal self-attention whose blocks have learned gates; with a sampled softmax it is eSASRec.

Papers: Borisyuk et al., "From Features to Transformers: Redefining Ranking for Scalable Impact", 2025, arXiv 2502.03417
(the gates); Tikhonovich et al., "eSASRec: Enhancing Transformer-based Recommendations in a Modular Fashion", RecSys 2025,
arXiv 2508.06450 (SASRec's task, these blocks, sampled softmax). Proven against RecTools, which eSASRec's authors wrote and
ran. Differences: docs/models/ligr.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, OWN_NEGATIVES, ModelEntry, Preset, of_last_200
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes
from xdm.models.shared.layers import Dropout, linear, to_width
from xdm.models.shared.transformer import Attention, Counted, Positions, check_heads, places, through


class LiGRConfig(BaseModel):
    """Settings of SASRec with LiGR blocks. Defaults: eSASRec's for ML-1M, unless a description says otherwise."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["ligr"] = "ligr"
    width: int = Field(64, ge=1, description="d: of the blocks and of the item vectors")
    blocks: int = Field(2, ge=1, le=32, description="gated blocks")
    heads: int = Field(1, ge=1, description="heads of the self-attention")
    dropout: float = Field(0.1, ge=0, lt=1, description="on inputs, attention weights, and both layers of each block")
    inner: int = Field(4, ge=1, description="width of the SwiGLU layer, in multiples of d")
    length: int = Field(
        200, ge=1, description="places with a learned position; at least as many as a sequence has clicks"
    )
    positions: Counted = Field(
        "from_start",
        description="what a place is counted from. from_end is the authors': the newest click has a place of its own. "
        "from_start is ours: no query then depends on how many clicks follow",
    )
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0: ids alone")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> LiGRConfig:
        check_heads(self.width, self.heads)
        return self


class LiGR(Encoder):
    """Item vectors with learned positions, then gated blocks; the last block's output is the query, without a norm."""

    def __init__(self, config: LiGRConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests = d, 1
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.positions = Positions(config.length, d, config.positions)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.dropout = Dropout(config.dropout)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                nn.init.xavier_normal_(weight)
            if "tables" in name:
                nn.init.zeros_(weight.data[0])

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        x = self.project(self.items(batch.short))  # [B, T, d]
        x = self.dropout(self.positions(x, batch.short_length))  # [B, T, d]
        return through(self.blocks, x, batch)[:, None]  # [P, 1, d]


class Block(nn.Module):
    """``x + σ(gate(x)) f(LN(x))`` with f causal self-attention, then the same with f a SwiGLU network."""

    def __init__(self, config: LiGRConfig) -> None:
        super().__init__()
        d, inner = config.width, config.inner * config.width
        self.attention = Attention(d, config.heads, config.dropout)
        self.gate_attention, self.gate_forward = linear(d, d), linear(d, d)
        self.norm_attention, self.norm_forward = nn.LayerNorm(d), nn.LayerNorm(d)
        self.switch, self.inner = linear(d, inner, bias=False), linear(d, inner, bias=False)
        self.outer = linear(inner, d, bias=False)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, asked: Tensor | None = None) -> Tensor:
        """``[B, T, d]`` to ``[B, T, d]``, or to ``[B, M, d]`` at the places ``asked`` ``[B, M]`` alone. The gates look at x itself,
        not at LN(x)."""
        here, visible = places(x, asked)  # [B, M, d]
        normed = self.norm_attention(here)  # [B, M, d]
        seen = normed if asked is None else self.norm_attention(x)  # [B, T, d]
        x = here + torch.sigmoid(self.gate_attention(here)) * self.dropout(self.attention(normed, seen, visible))  # [B, M, d]
        normed = self.norm_forward(x)  # [B, M, d]
        hidden = self.dropout(F.silu(self.switch(normed)) * self.inner(normed))  # [B, M, inner d]
        return x + torch.sigmoid(self.gate_forward(x)) * self.dropout(self.outer(hidden))  # [B, M, d]


ENTRIES = {
    "ligr": ModelEntry(
        LiGR, LiGRConfig, "LiGR (2025): causal self-attention in gated blocks, the network of eSASRec",
        paper="Borisyuk et al., 2025, arXiv 2502.03417; Tikhonovich et al., RecSys 2025, arXiv 2508.06450",
        settings={**IDS_ALONE, "behaviours": {"history_max": 200}},
        presets={
            "ligr-esasrec": Preset(
                "eSASRec (RecSys 2025): LiGR blocks and a softmax over 256 negatives",
                of_last_200(
                    {"name": "ligr", "positions": "from_end"}, 200, 50,
                    name="sampled_softmax", negatives=256, logq="none", mask_hits=False, **OWN_NEGATIVES,
                ),
            ),
        },
    ),
}  # fmt: skip
