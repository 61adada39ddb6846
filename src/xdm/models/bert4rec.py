"""BERT4Rec: the clicks so far, and a mask behind them, through bidirectional self-attention.

Paper: Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer", CIKM
2019, arXiv 1904.06690; replicated by Petrov and Macdonald, RecSys 2022, arXiv 2207.07483. Not causal: each point is a row of
its own, its clicks and the mask. Differences to the original, and what is proven: docs/models/bert4rec.md.
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
from xdm.models.entry import IDS_ALONE, ModelEntry
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes
from xdm.models.shared.layers import Dropout, linear, to_width
from xdm.models.shared.prefixes import prefixes
from xdm.models.shared.scoring import InnerProduct
from xdm.models.shared.transformer import Attention, Positions, check_heads

NORM_EPS = 1e-12  # of the authors' LayerNorm
DEVIATION = 0.02  # of the authors' first weights, cut off at twice as much


class BERT4RecConfig(BaseModel):
    """BERT4Rec's settings. Defaults: the authors' for ML-1M with 64 dimensions."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["bert4rec"] = "bert4rec"
    width: int = Field(64, ge=1, description="d: of the blocks and of the item vectors")
    blocks: int = Field(2, ge=1, le=32, description="transformer layers")
    heads: int = Field(2, ge=1, description="heads of the self-attention")
    inner: int = Field(256, ge=1, description="width of each block's inner dense layer")
    dropout: float = Field(0.2, ge=0, lt=1, description="on inputs and on what each layer adds")
    attention_dropout: float = Field(0.2, ge=0, lt=1, description="on attention weights")
    length: int = Field(
        200,
        ge=2,
        description="places with a learned position, the mask's among them; no fewer than a sequence has clicks",
    )
    mask_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of a row's clicks that are masked and asked for in training; 0: only what follows",
    )
    last_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the rows that are asked, in a step of training, for what follows their clicks; at least one row",
    )
    head: bool = Field(
        True, description="a dense layer in front of the table and a bias of each item, as the authors have; false: neither"
    )
    feature_width: int = Field(
        0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone"
    )
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> BERT4RecConfig:
        check_heads(self.width, self.heads)
        return self


class BERT4Rec(Encoder):
    """Item vectors with learned positions, post-norm transformer layers, and a dense layer at each mask."""

    def __init__(self, config: BERT4RecConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests = d, 1
        self.scoring = InnerProduct(bias=config.head)
        self.length, self.n_candidates = config.length, sizes.n_candidates
        self.mask_share, self.last_share = config.mask_share, config.last_share
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.mask = nn.Parameter(torch.empty(1, d))  # the input vector of [MASK]
        self.positions = Positions(config.length, d)
        self.norm = nn.LayerNorm(d, NORM_EPS)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.with_head = config.head
        if config.head:
            self.head, self.norm_head = linear(d, d), nn.LayerNorm(d, NORM_EPS)
        self.dropout = Dropout(config.dropout)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                nn.init.trunc_normal_(weight, std=DEVIATION, a=-2 * DEVIATION, b=2 * DEVIATION)
            if "tables" in name:
                nn.init.zeros_(weight.data[0])

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        items, lengths = prefixes(batch, self.length - 1)  # [P, N - 1], [P]
        items = F.pad(items[:, : batch.short.shape[1]], (0, 1))  # [P, L], with a place for the mask behind the longest
        masked = torch.arange(items.shape[1], device=items.device) == lengths[:, None]  # [P, L]
        return self._at_mask(self._transformed(items, masked, lengths + 1, lengths[:, None]))  # [P, 1, d]

    def trained(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """The last point of a share of the rows: the authors' copy of a row whose last item alone is masked. `extra` is the others."""
        last = torch.cat([batch.row[1:] != batch.row[:-1], torch.ones_like(batch.row[:1], dtype=torch.bool)])  # [P]
        rows = last.nonzero()[:, 0]  # of each row that has a point
        drawn = torch.from_numpy(rng.permutation(len(rows))[: max(1, round(self.last_share * len(rows)))]).to(rows.device)
        return torch.zeros_like(last).index_fill(0, rows[drawn], value=True)

    def extra(self, batch: Batch, rng: np.random.Generator) -> tuple[Tensor, Tensor] | None:
        """Each row once more with some of its clicks masked: queries ``[Q, 1, d]`` at the masks, and the clicks ``[Q]``."""
        drawn = masked_places(batch.short.numpy(), batch.short_length.numpy(), self.mask_share, self.n_candidates, rng)
        masked = torch.from_numpy(drawn)  # [B, T]
        if not masked.any():
            return None
        most = int(masked.sum(dim=1).max())  # M
        places = masked.byte().argsort(dim=1, descending=True, stable=True)[:, :most]  # [B, M], masks first
        x = self._transformed(batch.short, masked, batch.short_length, places)[masked.gather(1, places)]  # [Q, d]
        return self._at_mask(x)[:, None], batch.short[masked]  # [Q, 1, d], [Q]

    def _transformed(self, items: Tensor, masked: Tensor, lengths: Tensor, places: Tensor) -> Tensor:
        """``[R, M, d]`` at ``places`` ``[R, M]`` of the rows ``items`` ``[R, L]`` of ``lengths`` ``[R]``, of which the ``masked``
        places are hidden.

        The last block is asked for those places alone: nobody reads what it would make of the others.
        """
        x = torch.where(masked[..., None], self.mask, self.project(self.items(items)))  # [R, L, d]
        x = self.dropout(self.norm(self.positions(x, lengths)))  # [R, L, d]
        inside = (torch.arange(items.shape[1], device=items.device) < lengths[:, None])[:, None, None]  # [R, 1, 1, L]
        for block in self.blocks[:-1]:
            x = block(x, x, inside)  # [R, L, d]
        return self.blocks[-1](x.gather(1, places[..., None].expand(-1, -1, self.width)), x, inside)  # [R, M, d]

    def _at_mask(self, x: Tensor) -> Tensor:
        """``[..., d]``: the queries made of what stands at the masks."""
        return self.norm_head(F.gelu(self.head(x))) if self.with_head else x


class Block(nn.Module):
    """Self-attention, then two dense layers; each adds to its input, and a LayerNorm follows."""

    def __init__(self, config: BERT4RecConfig) -> None:
        super().__init__()
        d = config.width
        self.attention = Attention(d, config.heads, config.attention_dropout)
        self.inner, self.outer = linear(d, config.inner), linear(config.inner, d)
        self.norm_attention, self.norm_forward = nn.LayerNorm(d, NORM_EPS), nn.LayerNorm(d, NORM_EPS)
        self.dropout = Dropout(config.dropout)

    def forward(self, asked: Tensor, seen: Tensor, visible: Tensor) -> Tensor:
        """``[R, M, d]``, of the places ``asked`` ``[R, M, d]`` among those ``seen`` ``[R, L, d]``; ``visible`` bool ``[R, 1, 1, L]``:
        those that are no padding."""
        x = self.norm_attention(asked + self.dropout(self.attention(asked, seen, visible)))  # [R, M, d]
        return self.norm_forward(x + self.dropout(self.outer(F.gelu(self.inner(x)))))  # [R, M, d]


def masked_places(
    items: np.ndarray, lengths: np.ndarray, share: float, n_candidates: int, rng: np.random.Generator
) -> np.ndarray:
    """Which places of the rows ``items`` ``[B, T]`` are masked, bool ``[B, T]``: of each row round(share * length) at random,
    at least one where ``share`` is above 0. What cannot be recommended (an index above ``n_candidates``) is no label, nor is a
    click that was left out (0)."""
    inside = np.arange(items.shape[1]) < lengths[:, None]  # [B, T]
    counts = np.maximum(np.round(share * lengths), share > 0)  # [B]
    order = np.where(inside, rng.random(items.shape), 2.0).argsort(axis=1)  # [B, T]; padding last
    chosen = np.zeros(items.shape, bool)
    np.put_along_axis(chosen, order, np.arange(items.shape[1]) < counts[:, None], axis=1)
    return chosen & inside & (items > 0) & (items <= n_candidates)


ENTRIES = {
    "bert4rec": ModelEntry(
        BERT4Rec, BERT4RecConfig, "BERT4Rec (CIKM 2019): clicks and a mask behind them, through bidirectional self-attention",
        paper="Sun et al., CIKM 2019, arXiv 1904.06690",
        settings={**IDS_ALONE, "behaviours": {"history_max": 200}, "objective": {"name": "softmax"}},
    ),
}  # fmt: skip
