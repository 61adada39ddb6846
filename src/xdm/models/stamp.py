"""STAMP: attention over the session that its mean and its last click ask, and the last click once more, multiplied.

Paper: Liu et al., "STAMP: Short-Term Attention/Memory Priority Model for Session-based Recommendation", KDD 2018,
doi 10.1145/3219819.3219950. Differences to the original: docs/models/stamp.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry, Preset, Settings
from xdm.models.shared.additive import attended
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes
from xdm.models.shared.layers import to_width
from xdm.models.shared.users import draw, into_ball


class STAMPConfig(BaseModel):
    """STAMP's settings. Defaults: the authors' code's for Yoochoose."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["stamp"] = "stamp"
    width: int = Field(100, ge=1, description="d: of items, states and queries")
    memory: Literal["attention", "mean"] = Field(
        "attention", description="what stands for the session: the clicks as attention weighs them (STAMP), or their mean (STMP)"
    )
    add_mean: bool = Field(True, description="add the mean to what attention found, as the authors' code does; the paper does not")
    bias: bool = Field(False, description="biases of the attention and of the two maps: in the paper, not in the code")
    max_norm: float = Field(1.0, ge=0, description="input vectors longer than this are cut to it; 1.5 for Diginetica; 0: none is cut")
    deviation: float = Field(0.002, gt=0, description="of the normal that item vectors are drawn from")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors, uncut")


class STAMP(Encoder):
    """``tanh(W_s m_a) ⊙ tanh(W_t x_t)``: the trilinear score of the paper is an inner product with the item then."""

    def __init__(self, config: STAMPConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests, self.config = d, 1, config
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.of_session, self.of_last = nn.Linear(d, d, bias=config.bias), nn.Linear(d, d, bias=config.bias)
        weights = [self.of_session.weight, self.of_last.weight]
        if config.memory == "attention":
            self.from_click, self.from_last = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
            self.from_mean = nn.Linear(d, d, bias=config.bias)
            self.weigh = nn.Parameter(torch.empty(d))
            weights += [self.from_click.weight, self.from_last.weight, self.from_mean.weight, self.weigh]
        for weight in weights:
            nn.init.normal_(weight, std=0.05)
        for layer in self.modules():
            if isinstance(layer, nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.draw_scored(self.items.tables[0])

    def draw_scored(self, table: nn.Module) -> None:
        """N(0, deviation²), as the input table."""
        assert isinstance(table, nn.Embedding)
        draw(table, self.config.deviation)

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        clicks = self.project(self.items(batch.short))  # [B, T, d]
        if self.config.max_norm:
            clicks = into_ball(clicks, self.config.max_norm)
        count = (batch.position + 1)[:, None]  # [P, 1]
        mean = clicks.cumsum(dim=1)[batch.row, batch.position] / count  # [P, d]
        last = clicks[batch.row, batch.position]  # [P, d]
        session = self.memory(clicks, mean, last, batch)  # [P, d]
        return (torch.tanh(self.of_session(session)) * torch.tanh(self.of_last(last)))[:, None]

    def memory(self, clicks: Tensor, mean: Tensor, last: Tensor, batch: Batch) -> Tensor:
        """m_a ``[P, d]``, or the mean itself, of ``clicks`` ``[B, T, d]``, ``mean`` and ``last`` ``[P, d]``. There is no softmax:
        weights may add up to anything."""
        if self.config.memory == "mean":
            return mean
        asked = self.from_last(last) + self.from_mean(mean)  # [P, d]
        found = attended(asked, self.from_click(clicks), clicks, self.weigh, batch, torch.sigmoid, softmax=False)  # [P, d]
        return found + mean if self.config.add_mean else found


_AUTHORS: Settings = {
    **IDS_ALONE, "data": {"label_scope": "session"}, "objective": {"name": "softmax"},
    "training": {"order": "points", "batch_size": 512, "learning_rate": 3e-3, "epochs": 10, "clip_norm": 150.0},
}  # fmt: skip
ENTRIES = {
    "stamp": ModelEntry(
        STAMP, STAMPConfig, "STAMP (KDD 2018): attention over the session that its mean and its last click ask",
        paper="Liu et al., KDD 2018, doi 10.1145/3219819.3219950", needs=("sessions",), settings=_AUTHORS,
        presets={
            "stamp-stmp": Preset(
                "STMP (KDD 2018): STAMP without attention, the mean of the session and its last click",
                {**_AUTHORS, "model": {"name": "stamp", "memory": "mean"}},
            ),
        },
    ),
}  # fmt: skip
