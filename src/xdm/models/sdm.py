"""SDM: Sequential Deep Matching.

Paper: Lv et al., "SDM: Sequential Deep Matching Model for Online Large-scale Recommender System", CIKM 2019,
arXiv 1909.00385. Section numbers below are the paper's. Differences to the original: docs/models.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.inputs import ItemInputs, Sizes, UserInputs
from xdm.models.layers import RecurrentStack, SelfAttention, causal, linear, masked_softmax


class SDMConfig(BaseModel):
    """SDM's settings. Defaults: the paper's offline setting, with the embedding widths of the authors' code."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["sdm"] = "sdm"
    width: int = Field(64, ge=1, description="d: hidden units and size of the user and item vectors")
    heads: int = Field(4, ge=1, description="heads of the self-attention")
    cell: Literal["lstm", "gru"] = Field("lstm", description="recurrent cell")
    layers: int = Field(1, ge=1, le=8, description="recurrent layers, with a residual from the second on")
    dropout: float = Field(0.2, ge=0, lt=1, description="on recurrent inputs, attention weights and attention output")
    item_width: int = Field(64, ge=1, description="input width of the item id")
    feature_width: int = Field(16, ge=1, description="input width of each side feature of an item")
    user_width: int = Field(16, ge=0, description="input width of the user id; 0 leaves it out")
    field_width: int = Field(4, ge=1, description="input width of each profile field")
    user_residual: bool = Field(
        True, description="add the last position to the user attention's result, as the code does"
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> SDMConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided by {self.heads} heads")
        return self


class SDM(nn.Module):
    """Short-term session through LSTM and self-attention, long-term lists through attention, joined by a gate."""

    def __init__(self, config: SDMConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests, self.user_residual = d, 1, config.user_residual
        self.items = ItemInputs(sizes, config.item_width, config.feature_width, codes)
        self.users = UserInputs(sizes, config.user_width, config.field_width)
        self.recurrent = RecurrentStack(config.cell, self.items.width, d, config.layers, config.dropout)
        self.self_attention = SelfAttention(d, config.heads, config.dropout)
        self.user_query = linear(self.users.width, d)
        self.dropout = nn.Dropout(config.dropout)
        self.long_scores = nn.ModuleList(linear(self.users.width + width, 1) for width in self.items.widths)
        self.long_out = linear(self.items.width, d, orthogonal=True)
        self.gate = linear(2 * d + self.users.width, d)

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        user = self.users(batch)  # [B, d_u]
        short = self.short_term(self.items(batch.short), user)  # [B, T, d]
        at = short.reshape(-1, self.width)[batch.row * short.shape[1] + batch.position]  # [P, d]
        return self.fused(at, batch, user)

    def fused(self, at: Tensor, batch: Batch, user: Tensor) -> Tensor:
        """The short-term state ``at`` ``[P, d]`` of every point with the long term, by the gate: ``[P, 1, d]``."""
        long = self.long_term(batch, user)[batch.row]  # [P, d]
        gate = torch.sigmoid(self.gate(torch.cat([at, long, user[batch.row]], dim=-1)))  # [P, d], section 3.5
        return (gate * at + (1 - gate) * long)[:, None]  # the gate lets the short term through

    def short_term(self, x: Tensor, user: Tensor) -> Tensor:
        """``s_t`` at every position (sections 3.3.1 to 3.3.3): ``[B, T, d]``; ``x`` ``[B, T, d_in]``, ``user`` ``[B, d_u]``."""
        hidden = self.recurrent(x)  # [B, T, d]
        # Padding stands on the right, so no place that is asked for ever sees it: causality is mask enough.
        visible = causal(hidden.shape[1], hidden.device).expand(hidden.shape[0], -1, -1)  # [B, T, T]
        attended = self.self_attention(hidden, visible)  # [B, T, d]
        query = torch.tanh(self.user_query(user))  # [B, d]
        scores = (attended @ query[:, :, None]).squeeze(-1) * self.width**-0.5  # [B, T]
        weights = self.dropout(masked_softmax(scores[:, None].expand_as(visible), visible))  # [B, T, T]
        mixed = weights @ attended  # [B, T, d]
        return mixed + attended if self.user_residual else mixed

    def long_term(self, batch: Batch, user: Tensor) -> Tensor:
        """``p`` (section 3.4): each feature's list through attention, then one dense layer: ``[B, d]``."""
        parts = []
        for f, score in enumerate(self.long_scores):
            codes = batch.long[:, f]  # [B, M]
            g = self.items.of_feature(f, codes)  # [B, M, w_f]
            who = user[:, None].expand(-1, g.shape[1], -1)  # [B, M, d_u]
            scores = torch.tanh(score(torch.cat([who, g], dim=-1))).squeeze(-1) * g.shape[-1] ** -0.5  # [B, M]
            weights = self.dropout(masked_softmax(scores, codes != 0))
            parts.append((weights[:, None] @ g).squeeze(1))  # [B, w_f]
        return torch.tanh(self.long_out(torch.cat(parts, dim=-1)))  # [B, d]
