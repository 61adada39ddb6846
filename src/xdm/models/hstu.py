"""HSTU: the clicks so far, and when they were, through pointwise attention without a softmax.

Paper: Zhai et al., "Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
Recommendations", ICML 2024, arXiv 2402.17152. This is the retrieval model of its experiments on public data. Differences to
the original, and what is proven against the authors' code: docs/models/hstu.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, OWN_NEGATIVES, ModelEntry, Preset, Settings, of_last_200
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes
from xdm.models.shared.layers import Dropout, causal, linear, to_width
from xdm.models.shared.scoring import Cosine
from xdm.models.shared.transformer import Positions, split_heads

NORM_EPS = 1e-6  # of both norms, which have no weights
DEVIATION = 0.02  # of the first weights of tables, biases and the inner map
BUCKETS = 128  # of time spans: floor(ln(seconds) / 0.301), at most 128
BUCKET_WIDTH = 0.301


class HSTUConfig(BaseModel):
    """HSTU's settings. Defaults: the authors' for ML-1M (base), unless a description says otherwise."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["hstu"] = "hstu"
    width: int = Field(50, ge=1, description="d: of the blocks and of the item vectors")
    blocks: int = Field(2, ge=1, le=64, description="attention blocks")
    heads: int = Field(1, ge=1, description="heads of the attention")
    key_width: int = Field(50, ge=1, description="width of queries and keys in each head")
    value_width: int = Field(50, ge=1, description="width of values and gates in each head")
    dropout: float = Field(0.2, ge=0, lt=1, description="on the inputs and on each block's gated result")
    length: int = Field(
        211, ge=1,
        description="places with a learned position; attention is divided by it. No fewer than a sequence has clicks; the "
        "authors add 11 to the 200 that they keep",
    )  # fmt: skip
    time_bias: Literal["causal", "request", "none"] = Field(
        "causal",
        description="the time span that attention looks at. causal: from each earlier click to the click that looks; request: "
        "to the question after it, as the authors have it, which in training and in their evaluation is when the label was "
        "clicked; none: places alone",
    )
    temperature: float = Field(0.05, gt=0, description="scores are cosines divided by it")
    feature_width: int = Field(
        0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone"
    )
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")


class HSTU(Encoder):
    """Item vectors with learned positions, then blocks of gated attention whose weights are SiLU(q·k + bias) / length."""

    def __init__(self, config: HSTUConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests = d, 1
        self.scoring = Cosine(config.temperature)
        self.time_bias = config.time_bias
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.positions = Positions(config.length, d)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.dropout = Dropout(config.dropout)
        truncated_normal(self.positions.weight, d**-0.5)
        for table in self.items.tables:
            truncated_normal(table.weight, DEVIATION)  # type: ignore[arg-type]
            nn.init.zeros_(table.weight.data[0])  # type: ignore[index]

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``, of any length; the scoring makes them unit vectors."""
        x = self.project(self.items(batch.short)) * self.width**0.5  # [B, T, d]
        x = self.dropout(self.positions(x, batch.short_length))  # [B, T, d]
        places = torch.arange(x.shape[1], device=x.device)  # [T]
        lags = (places[:, None] - places).clamp(min=0)  # [T, T]
        spans = None if self.time_bias == "none" else buckets(self._asked(batch), batch.short_time)  # [B, T, T]
        visible = causal(x.shape[1], x.device)  # [T, T]; padding, on the right, is never seen
        for block in self.blocks:
            x = block(x, lags, spans, visible)  # [B, T, d]
        return x[batch.row, batch.position][:, None]  # [P, 1, d]

    def _asked(self, batch: Batch) -> Tensor:
        """The time ``[B, T]`` at which each place looks back. For ``request`` that is when the question after its click was
        asked, and where there was none, when the next click came."""
        times = batch.short_time  # [B, T]
        if self.time_bias == "causal":
            return times
        following = torch.cat([times[:, 1:], times[:, -1:]], dim=1)  # [B, T]
        return following.index_put((batch.row, batch.position), batch.time)


class Block(nn.Module):
    """``x + W_o (U ⊙ LN(A V))`` with ``[U, V, Q, K] = SiLU(W LN(x))`` and ``A = SiLU(Q Kᵀ + bias) / length``, causal."""

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        d, self.heads, self.length = config.width, config.heads, config.length
        keys, values = config.heads * config.key_width, config.heads * config.value_width
        self.widths = [values, values, keys, keys]
        self.inner = nn.Linear(d, sum(self.widths), bias=False)
        self.output = linear(values, d)
        self.position_bias = nn.Parameter(torch.randn(config.length) * DEVIATION)  # by the lag, 0 for a click itself
        if config.time_bias != "none":
            self.time_bias = nn.Parameter(torch.randn(BUCKETS + 1) * DEVIATION)  # by the bucket of the time span
        self.norm_input = nn.LayerNorm(d, NORM_EPS, elementwise_affine=False)
        self.norm_mixed = nn.LayerNorm(values, NORM_EPS, elementwise_affine=False)
        self.dropout = Dropout(config.dropout)
        nn.init.normal_(self.inner.weight, std=DEVIATION)

    def forward(self, x: Tensor, lags: Tensor, spans: Tensor | None, visible: Tensor) -> Tensor:
        """``[B, T, d]`` to ``[B, T, d]``; ``lags`` ``[T, T]`` in clicks, ``spans`` ``[B, T, T]`` in buckets of time, ``visible``
        bool ``[T, T]``."""
        u, v, q, k = F.silu(self.inner(self.norm_input(x))).split(self.widths, dim=-1)  # [B, T, heads * their widths]
        q, k, v = (
            split_heads(q, self.heads),
            split_heads(k, self.heads),
            split_heads(v, self.heads),
        )  # [B, heads, T, ...]
        bias = looked_up(self.position_bias, lags)  # [T, T]
        if spans is not None:
            bias = (bias + looked_up(self.time_bias, spans))[:, None]  # [B, 1, T, T]
        weights = F.silu(q @ k.transpose(-1, -2) + bias) * (visible / self.length)  # [B, heads, T, T]
        mixed = (weights @ v).transpose(1, 2).flatten(2)  # [B, T, heads * value width]
        return x + self.output(self.dropout(u * self.norm_mixed(mixed)))  # [B, T, d]


def buckets(asked: Tensor, clicked: Tensor) -> Tensor:
    """``[B, T, T]`` int64 in 0..128: the logarithm of the seconds between ``asked`` ``[B, T]`` (rows) and ``clicked`` (columns)."""
    seconds = (asked[:, :, None] - clicked[:, None]).abs().clamp(min=1).float()  # [B, T, T]
    return (torch.log(seconds) / BUCKET_WIDTH).long().clamp(max=BUCKETS)  # [B, T, T]


def looked_up(table: Tensor, at: Tensor) -> Tensor:
    """``table[at]``, whose gradient comes twenty times as fast where few entries are read very often."""
    return table.index_select(0, at.flatten()).reshape(at.shape)


def truncated_normal(weight: Tensor, deviation: float) -> None:
    """Draw ``weight`` anew, cut off at twice the deviation."""
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)


_ML1M: Settings = {"name": "hstu", "time_bias": "request"}
_LOSS: Settings = {
    "epochs": 101, "patience": 101, "name": "sampled_softmax", "negatives": 128, "logq": "none", **OWN_NEGATIVES,
}  # fmt: skip
ENTRIES = {
    "hstu": ModelEntry(
        HSTU, HSTUConfig, "HSTU (ICML 2024): gated attention without a softmax, by places and times",
        paper="Zhai et al., ICML 2024, arXiv 2402.17152", needs=("times",),
        settings={**IDS_ALONE, "behaviours": {"history_max": 200}},
        presets={
            "hstu-paper": Preset(
                "HSTU by its authors' code: told the time of the question, which in training is the label's",
                of_last_200(_ML1M, **_LOSS),
            ),
            "hstu-large": Preset(
                "HSTU-large by its authors' code: eight blocks of two heads",
                of_last_200({**_ML1M, "blocks": 8, "heads": 2, "key_width": 25, "value_width": 25}, **_LOSS),
            ),
        },
    ),
}  # fmt: skip
