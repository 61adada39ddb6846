"""SASRec: the clicks so far through causal self-attention blocks.

Paper: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, arXiv 1808.09781. gSASRec (Petrov and
Macdonald, RecSys 2023, arXiv 2308.07192) is the same network with another loss. Differences to the original, and what is
proven against which code: docs/models/sasrec.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, OWN_NEGATIVES, ModelEntry, Preset, Settings, of_last_200
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes, glorot
from xdm.models.shared.layers import Dropout, linear, to_width
from xdm.models.shared.transformer import Attention, Counted, Positions, check_heads, places, through

Norm = Literal["pre", "post", "original"]


class SASRecConfig(BaseModel):
    """SASRec's settings. Defaults: the authors', unless a description says otherwise."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["sasrec"] = "sasrec"
    width: int = Field(50, ge=1, description="d: of the blocks and of the item vectors")
    blocks: int = Field(2, ge=1, le=16, description="self-attention blocks")
    heads: int = Field(1, ge=1, description="heads of the self-attention")
    dropout: float = Field(0.5, ge=0, lt=1, description="on inputs, attention weights and the feed-forward layers")
    length: int = Field(
        50, ge=1, description="places with a learned position; at least as many as a sequence has clicks"
    )
    positions: Counted = Field(
        "from_start",
        description="what a place is counted from. from_end, as the authors pad: a row's newest click has the last place. "
        "from_start is ours: no query then depends on how many clicks follow",
    )
    norm: Norm = Field(
        "pre",
        description="pre: the paper's x + f(LN(x)); original: the authors' code, which adds f to LN(x) and not to x; "
        "post: LN(x + f(x)), of their PyTorch port",
    )
    norm_eps: float = Field(1e-8, gt=0, description="what every LN adds to the variance; gSASRec: 1e-5")
    scale_inputs: bool = Field(True, description="item vectors times √d before positions are added; gSASRec: false")
    attention_output: bool = Field(
        False, description="a dense layer behind the heads, as the standard transformer and the PyTorch port have it"
    )
    feature_width: int = Field(
        0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone"
    )
    tie_item_embedding: bool = Field(True, description="score items by their input vectors; gSASRec: false")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> SASRecConfig:
        check_heads(self.width, self.heads)
        return self


class SASRec(Encoder):
    """Item vectors with learned positions, then blocks of causal self-attention and a feed-forward network."""

    def __init__(self, config: SASRecConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests = d, 1
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.scale = d**0.5 if config.scale_inputs else 1.0
        self.positions = Positions(config.length, d, config.positions)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(d, config.norm_eps)
        self.dropout = Dropout(config.dropout)
        glorot(self.items.tables[0])

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        x = self.project(self.items(batch.short)) * self.scale  # [B, T, d]
        x = self.dropout(self.positions(x, batch.short_length))  # [B, T, d]
        return self.norm(through(self.blocks, x, batch))[:, None]  # [P, 1, d]


class Block(nn.Module):
    """Causal self-attention, then two dense layers at every place; each with dropout and residual."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        d, self.layout = config.width, config.norm
        self.attention = Attention(d, config.heads, config.dropout, output=config.attention_output)
        self.inner, self.outer = linear(d, d), linear(d, d)
        self.norm_attention, self.norm_forward = nn.LayerNorm(d, config.norm_eps), nn.LayerNorm(d, config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, asked: Tensor | None = None) -> Tensor:
        """``[B, T, d]`` to ``[B, T, d]``, or to ``[B, M, d]`` at the places ``asked`` ``[B, M]`` alone."""
        here, visible = places(x, asked)  # [B, M, d]
        if self.layout == "post":
            y = self.norm_attention(here + self.dropout(self.attention(here, x, visible)))  # [B, M, d]
            return self.norm_forward(y + self._forward(y))
        normed = self.norm_attention(here)  # [B, M, d]
        if self.layout == "original":
            y = self.norm_forward(normed + self.attention(normed, x, visible))  # [B, M, d]
            return y + self._forward(y)
        seen = normed if asked is None else self.norm_attention(x)  # [B, T, d]
        y = here + self.dropout(self.attention(normed, seen, visible))  # [B, M, d]
        return y + self._forward(self.norm_forward(y))

    def _forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(torch.relu(self.inner(x)))  # [B, M, d]
        return self.dropout(self.outer(hidden))  # [B, M, d]


_ML1M: Settings = {"name": "sasrec", "length": 200, "norm": "original"}
_GSASREC: Settings = {
    **_ML1M, "width": 128, "positions": "from_end", "scale_inputs": False, "norm_eps": 1e-5, "tie_item_embedding": False,
}  # fmt: skip
ENTRIES = {
    "sasrec": ModelEntry(
        SASRec, SASRecConfig, "SASRec (ICDM 2018): the clicks through causal self-attention blocks",
        paper="Kang and McAuley, ICDM 2018, arXiv 1808.09781",
        settings=IDS_ALONE,
        presets={
            "sasrec-bce": Preset(
                "SASRec by its authors' code: binary cross-entropy with one negative",
                of_last_200({**_ML1M, "dropout": 0.2, "positions": "from_end"}, 201, 20, name="bce", negatives=1, **OWN_NEGATIVES),
            ),
            "gsasrec": Preset(
                "gSASRec (RecSys 2023): SASRec with 256 negatives and a calibrated binary cross-entropy",
                of_last_200(_GSASREC, 1000, 20, name="gbce", negatives=256, t=0.75, mask_hits=False, **OWN_NEGATIVES),
            ),
            "sasrec-softmax": Preset(
                "SASRec with the full softmax (RecSys 2023, arXiv 2309.07602)",
                of_last_200({**_ML1M, "width": 64, "dropout": 0.1, "attention_output": True}, 100, 10, name="softmax"),
            ),
        },
    ),
}  # fmt: skip
