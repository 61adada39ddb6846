"""SASRec: the session through causal self-attention blocks.

Paper: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, arXiv 1808.09781. The sequence here is the
short-term session. Differences to the original: docs/models.md. Not yet proven against the authors' code.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.inputs import ItemInputs, NoUserInputs, Sizes, glorot
from xdm.models.layers import causal, linear, masked_softmax, to_width

Norm = Literal["pre", "original"]


class SASRecConfig(BaseModel):
    """SASRec's settings. Defaults: the authors'."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["sasrec"] = "sasrec"
    width: int = Field(50, ge=1, description="d: of the blocks and of the item vectors")
    blocks: int = Field(2, ge=1, le=16, description="self-attention blocks")
    heads: int = Field(1, ge=1, description="heads of the self-attention")
    dropout: float = Field(0.5, ge=0, lt=1, description="on inputs, attention weights and the feed-forward layers")
    length: int = Field(50, ge=1, description="places with a learned position; at least behaviours.session_max")
    norm: Norm = Field(
        "pre", description="pre: the paper's x + f(LN(x)); original: the authors' code, which adds f to LN(x) and not to x"
    )
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> SASRecConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided by {self.heads} heads")
        return self


class SASRec(nn.Module):
    """Item vectors with learned positions, then blocks of causal self-attention and a feed-forward network."""

    def __init__(self, config: SASRecConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests = d, 1
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.positions = nn.Parameter(torch.empty(config.length, d))
        self.blocks = nn.ModuleList(Block(d, config.heads, config.dropout, config.norm) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(d, eps=1e-8)
        self.dropout = nn.Dropout(config.dropout)
        glorot(self.items.tables[0])
        nn.init.xavier_uniform_(self.positions)

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        length = batch.short.shape[1]
        x = self.project(self.items(batch.short)) * self.width**0.5  # [B, T, d]
        x = self.dropout(x + self.positions[:length])  # [B, T, d]
        # Padding stands on the right, so no place that is asked for ever sees it: causality is mask enough.
        visible = causal(length, x.device)  # [T, T]
        for block in self.blocks:
            x = block(x, visible)
        return self.norm(x)[batch.row, batch.position][:, None]


class Block(nn.Module):
    """Causal self-attention without an output layer, then two dense layers at every place; each with dropout and residual."""

    def __init__(self, width: int, heads: int, dropout: float, norm: Norm) -> None:
        super().__init__()
        self.heads, self.original = heads, norm == "original"
        self.query, self.key_value = linear(width, width), linear(width, 2 * width)
        self.inner, self.outer = linear(width, width), linear(width, width)
        self.norm_attention, self.norm_forward = nn.LayerNorm(width, eps=1e-8), nn.LayerNorm(width, eps=1e-8)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """``[B, T, d]`` to ``[B, T, d]``; ``visible`` bool ``[T, T]``, row t says which places t may see."""
        normed = self.norm_attention(x)
        if self.original:
            y = normed + self._attention(normed, x, visible)
            normed = self.norm_forward(y)
            return normed + self._forward(normed)
        y = x + self.dropout(self._attention(normed, normed, visible))
        return y + self._forward(self.norm_forward(y))

    def _attention(self, queries: Tensor, keys: Tensor, visible: Tensor) -> Tensor:
        batch, length, width = queries.shape
        q = self.query(queries).reshape(batch, length, self.heads, -1).transpose(1, 2)  # [B, heads, T, d / heads]
        both = self.key_value(keys).reshape(batch, length, 2, self.heads, width // self.heads)
        k, v = both.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, heads, T, d / heads]
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5  # [B, heads, T, T]
        weights = self.dropout(masked_softmax(scores, visible.expand_as(scores)))
        return (weights @ v).transpose(1, 2).reshape(batch, length, width)

    def _forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.outer(self.dropout(torch.relu(self.inner(x)))))
