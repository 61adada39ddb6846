"""GRU4Rec: the session through a GRU.

Papers: Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016, arXiv 1511.06939;
Hidasi and Karatzoglou, "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations", CIKM 2018,
arXiv 1706.03847. Proven against the authors' PyTorch code: parity/gru4rec.py. Differences: docs/models/gru4rec.md.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry, Preset, Settings
from xdm.models.shared.gru import ResetAfter, ResetBefore
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes
from xdm.models.shared.layers import to_width
from xdm.models.shared.scoring import InnerProduct

Cell = Literal["torch", "paper"]


class GRU4RecConfig(BaseModel):
    """GRU4Rec's settings. Defaults: the authors' best on RSC15 with cross-entropy and shared embeddings."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["gru4rec"] = "gru4rec"
    width: int = Field(100, ge=1, description="d: hidden units of the last layer, width of the item vectors")
    lower_layers: tuple[int, ...] = Field((), max_length=7, description="hidden units of the layers below the last, from the lowest")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="on the item inputs; of one-hot items, on the states of the first layer")
    hidden_dropout: float = Field(0.4, ge=0, lt=1, description="on the states of every layer, and so on what is carried on")
    cell: Cell = Field(
        "torch", description="torch: the reset gate acts after the recurrent matrix, as in the authors' PyTorch code; paper: before it"
    )
    item_width: int = Field(
        0, ge=0, description="width of separate input vectors where tie_item_embedding is false; 0: none, items enter one-hot"
    )
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    bias: bool = Field(True, description="a learned bias of each item in its score")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors (constrained embedding)")

    @model_validator(mode="after")
    def _sizes_fit(self) -> GRU4RecConfig:
        if self.tie_item_embedding and self.item_width:
            raise ValueError("item_width is that of separate input vectors; it needs tie_item_embedding false")
        if any(units < 1 for units in self.lower_layers):
            raise ValueError(f"lower_layers {self.lower_layers} must be hidden units, each at least 1")
        return self

    @property
    def one_hot(self) -> bool:
        """Whether items enter the first layer without a vector of their own."""
        return not self.tie_item_embedding and not self.item_width


class GRU4Rec(Encoder):
    """Item vectors, a stack of GRU layers, the state at each point."""

    def __init__(self, config: GRU4RecConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        self.width, self.interests = config.width, 1
        self.units = units = (*config.lower_layers, config.width)
        self.scoring = InnerProduct(bias=config.bias)
        self.users = NoUserInputs()
        # A one-hot item times the input matrix of the three gates is a row of that matrix: the "vector" is the row.
        width_in = 3 * units[0] if config.one_hot else config.item_width or config.width
        self.items = ItemInputs(sizes, width_in, config.feature_width, codes)
        self.project = to_width(self.items.width, width_in)
        self.input_dropout = nn.Dropout(0.0 if config.one_hot else config.input_dropout)
        # As in the authors' code, the input dropout of one-hot items is that of the first layer's states.
        self.hidden_dropout = [config.hidden_dropout] * len(units)
        if config.one_hot:
            self.hidden_dropout[0] = config.input_dropout
        self.layers = nn.ModuleList()
        for number, width in enumerate(units):
            below = units[number - 1] if number else width_in
            if config.one_hot and number == 0:  # written in the paper's form in either code of the authors
                self.layers.append(ResetBefore(None, width))
            else:
                self.layers.append(ResetBefore(below, width) if config.cell == "paper" else ResetAfter(below, width))
        draw_rows(self.items.tables[0], gates=3 if config.one_hot else 1)

    def draw_scored(self, table: nn.Embedding) -> None:
        """As the authors draw it, and with it every other table."""
        draw_rows(table, gates=1)

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        states = self._states(batch.short, self.start(batch.short.shape[0]))[-1]  # [B, T, d]
        return states[batch.row, batch.position][:, None]

    def start(self, sessions: int) -> list[Tensor]:
        """The state of each layer before any click: zeros ``[sessions, units]``."""
        like = next(self.parameters())
        return [like.new_zeros((sessions, units)) for units in self.units]

    def advance(self, batch: Batch, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One click of each session (``batch.short`` is ``[B, 1]``) after ``states``, each ``[B, units]``.

        Returns the queries at the points, ``[P, 1, d]``, and the states after the click.
        """
        after = [layer[:, -1] for layer in self._states(batch.short, states)]  # each [B, units]
        return after[-1][batch.row][:, None], after

    def _states(self, items: Tensor, states: list[Tensor]) -> list[Tensor]:
        """The states of each layer after each of ``items`` ``[B, T]``: ``[B, T, units]`` each. What stands at padding, on the
        right, is asked for by nobody."""
        x = self.input_dropout(self.project(self.items(items)))  # [B, T, width_in]
        found = []
        for layer, state, rate in zip(self.layers, states, self.hidden_dropout, strict=True):
            x = layer(x, state, rate if self.training else 0.0)  # [B, T, units]
            found.append(x)
        return found


def draw_rows(table: nn.Module, gates: int) -> None:
    """Draw a table anew, uniform in ±sqrt(6 / (items + columns)), the columns being those of one of ``gates``; padding stays zero."""
    assert isinstance(table, nn.Embedding)
    limit = math.sqrt(6 / (table.num_embeddings - 1 + table.embedding_dim // gates))
    nn.init.uniform_(table.weight, -limit, limit)
    with torch.no_grad():
        table.weight[0] = 0


# By the authors' parameter files for RSC15 and, with BPR-max, Diginetica.
_AUTHORS: Settings = {
    "behaviours": {"session_max": 10_000}, "data": {"label_scope": "session"},
    "objective": {"sampler": "mixed", "negatives": 2048, "alpha": 0.5, "mask_hits": False, "logq": "support"},
    "training": {
        "order": "session_parallel", "optimizer": "adagrad_momentum", "batch_size": 32, "learning_rate": 0.2, "momentum": 0.2,
        "epochs": 10, "clip_norm": 1e6,
    },
}  # fmt: skip
_BPR_MAX: Settings = {
    **IDS_ALONE, **_AUTHORS, "model": {"name": "gru4rec", "width": 512, "input_dropout": 0.5, "hidden_dropout": 0.3},
    "objective": {
        "name": "bpr_max", "sampler": "mixed", "negatives": 2048, "alpha": 0.3, "mask_hits": False, "bpreg": 0.9, "elu": 1.0,
    },
    "training": {**_AUTHORS["training"], "batch_size": 128, "learning_rate": 0.05, "momentum": 0.15},
}  # fmt: skip
# By Tan et al., DLRS 2016: every prefix a row of its own, whole clicks left out at random, a softmax over all items.
_TAN: Settings = {
    **IDS_ALONE, "model": {"name": "gru4rec", "tie_item_embedding": False, "item_width": 50, "hidden_dropout": 0.0},
    "behaviours": {"session_max": 19}, "data": {"label_scope": "session", "item_dropout": 0.25}, "objective": {"name": "softmax"},
    "training": {"order": "points", "batch_size": 512, "learning_rate": 1e-3},
}  # fmt: skip
_TAN_VECTORS: Settings = {
    **_TAN, "model": {"name": "gru4rec", "bias": False, "hidden_dropout": 0.0}, "objective": {"name": "cosine"},
    "item_vectors": {"features": False, "pretrained": "item2vec", "frozen": True, "inputs": True, "scoring": "cosine"},
}  # fmt: skip
ENTRIES = {
    "gru4rec": ModelEntry(
        GRU4Rec, GRU4RecConfig, "GRU4Rec (ICLR 2016, CIKM 2018): the session through a GRU, in session-parallel steps",
        paper="Hidasi et al., ICLR 2016, arXiv 1511.06939; Hidasi and Karatzoglou, CIKM 2018, arXiv 1706.03847", needs=("sessions",),
        settings={**IDS_ALONE, **_AUTHORS},
        presets={
            "gru4rec-bpr-max": Preset("GRU4Rec with BPR-max, by the authors' settings for Diginetica", _BPR_MAX),
            "gru4rec-tan-m1": Preset("Tan et al. (2016), M1: every prefix a row, a quarter of the clicks left out", _TAN),
            "gru4rec-tan-m2": Preset(
                "Tan et al. (2016), M2: M1, then on the latest quarter of the labels alone",
                {**_TAN, "training": {**_TAN["training"], "recent_share": 0.25}},
            ),
            "gru4rec-tan-m3": Preset(
                "Tan et al. (2016), M3: M1, and the word of a teacher that has read what followed",
                {**_TAN, "training": {**_TAN["training"], "teacher_weight": 0.5, "teacher_temperature": 1.0}},
            ),
            "gru4rec-tan-m4": Preset(
                "Tan et al. (2016), M4: a regression on item vectors trained beforehand, the nearest items", _TAN_VECTORS
            ),
            "gru4rec-rows": Preset(
                "GRU4Rec trained as other encoders are: whole shuffled sessions, log-uniform negatives, Adam", IDS_ALONE
            ),
        },
    ),
}  # fmt: skip
