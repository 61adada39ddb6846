"""HierTCN: convolutions over the clicks of a session, told by a GRU over the user's sessions.

Paper: You et al., "Hierarchical Temporal Convolutional Networks for Dynamic Recommender Systems", WWW 2019, arXiv 1904.04381.
Proven against the authors' TensorFlow code: parity/hiertcn.py. Differences: docs/models/hiertcn.md.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry, Preset, Settings
from xdm.models.shared.gru import ResetBefore
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes, glorot
from xdm.models.shared.layers import linear, to_width
from xdm.models.shared.scoring import InnerProduct, SquaredDistance
from xdm.models.shared.sessions import Sessions, before

Form = Literal["xing", "pinterest"]


class HierTCNConfig(BaseModel):
    """HierTCN's settings. Defaults: the authors' for XING."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["hiertcn"] = "hiertcn"
    form: Form = Field(
        "xing", description="xing: inner product and a bias an item; pinterest: a query of length one, by its distance to items"
    )
    width: int = Field(128, ge=1, description="of the item inputs, and of what enters the convolutions")
    channels: tuple[int, ...] = Field(
        (128, 128), min_length=1, max_length=8, description="of each block, from the lowest; the last is d, of queries and items"
    )
    kernel: int = Field(5, ge=1, le=20, description="places that each block reads, 1, 2, 4, ... apart")
    user_width: int = Field(128, ge=1, description="hidden units of each layer of the user's level")
    user_layers: int = Field(2, ge=1, le=4, description="layers of the user's level; what the clicks are told is all of their states")
    dropout: float = Field(0.0, ge=0, lt=1, description="on what each convolution found, whole channels at once")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    tie_item_embedding: bool = Field(False, description="score items by their input vectors")

    @model_validator(mode="after")
    def _sizes_fit(self) -> HierTCNConfig:
        if any(width < 1 for width in self.channels):
            raise ValueError(f"channels {self.channels} must be widths, each at least 1")
        if self.tie_item_embedding and self.channels[-1] != self.width:
            raise ValueError(f"tie_item_embedding needs item inputs as wide as queries: width {self.width}, channels {self.channels}")
        return self


class HierTCN(Encoder):
    """A GRU over the means of finished sessions, and causal convolutions within a session, whose clicks are told its state."""

    def __init__(self, config: HierTCNConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        width = config.width
        self.width, self.interests, self.user_width = config.channels[-1], 1, config.user_width
        self.scoring = InnerProduct(bias=True) if config.form == "xing" else SquaredDistance()
        self.users = NoUserInputs()
        self.items = ItemInputs(sizes, width, config.feature_width, codes)
        self.project = to_width(self.items.width, width)
        self.mean_bias = nn.Parameter(torch.zeros(width))  # theirs on a session's mean, and not on its clicks
        below = [width] + [config.user_width] * (config.user_layers - 1)
        self.levels = nn.ModuleList(ResetBefore(one, config.user_width) for one in below)
        self.of_item, self.of_user = (
            linear(one, width, bias=False) for one in (width, config.user_layers * config.user_width)
        )
        draw_together(self.of_item, self.of_user)
        self.leave = linear(self.width, self.width) if config.form == "pinterest" else None  # with XING it is the item vectors
        widths = (width, *config.channels)
        self.blocks = nn.ModuleList(
            Block(widths[i], widths[i + 1], config.kernel, 2**i, config.dropout) for i in range(len(config.channels))
        )
        glorot(self.items.tables[0])
        for level in self.levels:
            draw_cell(level)

    def draw_scored(self, table: nn.Embedding) -> None:
        """As the authors' last layer: glorot-uniform."""
        glorot(table)

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        sessions = Sessions.of(batch.short_session)
        clicked = self.project(self.items(batch.short))  # [B, T, width]
        # Before its first click a session has a place of its own, whose item is nothing: from it the first was predicted.
        start = self.of_user(self._user_states(clicked, sessions))  # [B, S, width]
        x = self.of_item(clicked) + sessions.at_clicks(start)  # [B, T, width]
        for block in self.blocks:
            x, start = block(x, start, sessions)  # [B, T, channels], [B, S, channels]
        found = x[batch.row, batch.position]  # [P, d]
        if self.leave is not None:
            found = F.normalize(self.leave(found), dim=-1, eps=1e-6)
        return found[:, None]

    def _user_states(self, clicked: Tensor, sessions: Sessions) -> Tensor:
        """The user's states before each session of ``clicked`` ``[B, T, width]``, made of finished ones alone:
        ``[B, S, user_layers * user_width]``."""
        x = sessions.means(clicked) + self.mean_bias  # [B, S, width]
        states = []
        for level in self.levels:
            x = level(x, x.new_zeros((x.shape[0], self.user_width)), 0.0)  # [B, S, user_width]
            states.append(x)
        return before(torch.cat(states, dim=-1))


class Block(nn.Module):
    """``relu(dropout(relu(convolution)) + x)``, x by a dense layer where the widths differ; within a session, of the past alone.

    One convolution, as in the authors' code; the block of the paper that they follow has two.
    """

    def __init__(self, width_in: int, width: int, kernel: int, apart: int, dropout: float) -> None:
        super().__init__()
        self.offsets = [apart * k for k in reversed(range(kernel))]  # oldest first
        self.filters = linear(kernel * width_in, width)
        limit = math.sqrt(6 / (kernel * (width_in + width)))  # glorot of a convolution
        nn.init.uniform_(self.filters.weight, -limit, limit)
        self.residual = nn.Identity() if width_in == width else linear(width_in, width)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: Tensor, start: Tensor, sessions: Sessions) -> tuple[Tensor, Tensor]:
        """``x`` ``[B, T, width_in]`` at the clicks and ``start`` ``[B, S, width_in]`` at the place before the first click of each
        session to ``[B, T, width]`` and ``[B, S, width]``."""
        started, at = sessions.at_clicks(start), sessions.place[..., None]  # [B, T, width_in], [B, T, 1]
        seen = []
        for offset in self.offsets:
            earlier = F.pad(x, (0, 0, offset, 0))[:, : x.shape[1]]  # [B, T, width_in]
            at_start = torch.where(at == offset - 1, started, torch.zeros_like(started))  # and nothing before a session's start
            seen.append(torch.where(at >= offset, earlier, at_start))
        newest = self.filters.weight[:, -start.shape[2] :]  # [width, width_in]: all that the first place has something for
        return (
            self._joined(self.filters(torch.cat(seen, dim=-1)), x),
            self._joined(F.linear(start, newest, self.filters.bias), start),
        )

    def _joined(self, found: Tensor, x: Tensor) -> Tensor:
        kept = self.dropout(torch.relu(found).transpose(1, 2)).transpose(1, 2)  # [B, T or S, width]
        return torch.relu(kept + self.residual(x))


def draw_together(*layers: nn.Linear) -> None:
    """Draw layers anew as one whose inputs theirs are side by side: uniform in ±sqrt(6 / (all inputs + outputs))."""
    limit = math.sqrt(6 / (sum(layer.in_features for layer in layers) + layers[0].out_features))
    for layer in layers:
        nn.init.uniform_(layer.weight, -limit, limit)


def draw_cell(level: nn.Module) -> None:
    """First weights as TensorFlow's GRU cell has them by default: of input and state one matrix for both gates and one for the
    candidate, glorot-uniform; the gates start open for the state, with biases of 1. (z here is 1 less theirs.)"""
    assert isinstance(level, ResetBefore)
    assert level.input is not None
    d, inputs = level.width, level.width + level.input.shape[1]
    for weight in (level.input, level.recurrent):
        for rows, columns in ((slice(0, 2 * d), 2 * d), (slice(2 * d, 3 * d), d)):
            limit = math.sqrt(6 / (inputs + columns))
            nn.init.uniform_(weight.data[rows], -limit, limit)
    level.bias.data[:d], level.bias.data[d : 2 * d] = 1.0, -1.0


_AUTHORS: Settings = {
    **IDS_ALONE, "behaviours": {"history_max": 200}, "objective": {"name": "softmax"},
    "training": {"batch_size": 32, "learning_rate": 1e-2, "decay": 0.2, "decay_epochs": 60, "epochs": 100},
}  # fmt: skip
ENTRIES = {
    "hiertcn": ModelEntry(
        HierTCN, HierTCNConfig, "HierTCN (WWW 2019): convolutions over a session's clicks, told by a GRU over the user's sessions",
        paper="You et al., WWW 2019, arXiv 1904.04381", needs=("sessions",), settings=_AUTHORS,
        presets={
            "hiertcn-pinterest": Preset(
                "HierTCN with queries of length one and a hinge loss, in the form that Pinterest's log was given",
                {"model": {"name": "hiertcn", "form": "pinterest", "channels": [128] * 4}, **_AUTHORS,
                 "objective": {"name": "hinge", "negatives": 20, "negatives_for": "label", "ranking_margin": 0.1}},
            ),
        },
    ),
}  # fmt: skip
