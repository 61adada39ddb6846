"""NARM: a GRU over the session; its last state, and the states of all clicks weighed by attention that the last one asks.

Paper: Li et al., "Neural Attentive Session-based Recommendation", CIKM 2017, arXiv 1711.04725, section 3.
Differences to the original: docs/models/narm.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry
from xdm.models.shared.additive import attended
from xdm.models.shared.gru import ResetBefore, hard_sigmoid
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes
from xdm.models.shared.layers import states
from xdm.models.shared.users import draw


class NARMConfig(BaseModel):
    """NARM's settings. Defaults: the authors'."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["narm"] = "narm"
    width: int = Field(50, ge=1, description="d: of item vectors and queries")
    hidden: int = Field(100, ge=1, description="H: hidden units of the GRU and of the attention")
    attention: Literal["softmax", "sum"] = Field(
        "softmax", description="softmax: weights of all clicks add up to 1, as in the authors' code; sum: none, the paper's equation"
    )
    gate: Literal["hard_sigmoid", "sigmoid"] = Field(
        "hard_sigmoid", description="σ of the gates and of the attention: the authors' code's, or the paper's"
    )
    input_dropout: float = Field(0.25, ge=0, lt=1, description="on item inputs")
    dropout: float = Field(0.5, ge=0, lt=1, description="on what the query is made of: the attention's sum and the last state")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")


class NARM(Encoder):
    """States of a GRU, attention over those so far at every point, and a map of both to the width of items."""

    def __init__(self, config: NARMConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d, hidden, hard = config.width, config.hidden, config.gate == "hard_sigmoid"
        self.width, self.interests = d, 1
        self.softmax = config.attention == "softmax"
        self.activation = hard_sigmoid if hard else torch.sigmoid
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.input_dropout, self.dropout = nn.Dropout(config.input_dropout), nn.Dropout(config.dropout)
        self.gru = ResetBefore(self.items.width, hidden, hard=hard)
        self.of_click, self.of_last = nn.Linear(hidden, hidden, bias=False), nn.Linear(hidden, hidden, bias=False)
        self.weigh = nn.Parameter(torch.empty(hidden))
        self.decode = nn.Linear(2 * hidden, d, bias=False)
        self._draw()

    def _draw(self) -> None:
        """First weights as the authors draw them: N(0, 2 / rows) of the matrix as their code holds it."""
        for part in self.gru.recurrent.data.chunk(3):
            nn.init.orthogonal_(part)
        assert self.gru.input is not None
        for weight, rows in (
            (self.gru.input, self.gru.input.shape[1]), (self.of_click.weight, self.gru.width),
            (self.of_last.weight, self.gru.width), (self.weigh, 1), (self.decode.weight, self.width),
        ):  # fmt: skip
            nn.init.normal_(weight, std=(2 / rows) ** 0.5)
        self.draw_scored(self.items.tables[0])

    def draw_scored(self, table: nn.Module) -> None:
        """N(0, 2 / items), as the input table."""
        assert isinstance(table, nn.Embedding)
        draw(table, (2 / max(1, table.num_embeddings - 1)) ** 0.5)

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        h = states(self.gru, self.input_dropout(self.items(batch.short)))  # [B, T, H]
        last = h[batch.row, batch.position]  # [P, H]: the session as a whole
        local = attended(
            self.of_last(last), self.of_click(h), h, self.weigh, batch, self.activation, softmax=self.softmax
        )  # [P, H]: what it is about
        return self.decode(self.dropout(torch.cat([local, last], dim=-1)))[:, None]


ENTRIES = {
    "narm": ModelEntry(
        NARM, NARMConfig, "NARM (CIKM 2017): a GRU over the session, and attention over its states that the last one asks",
        paper="Li et al., CIKM 2017, arXiv 1711.04725", needs=("sessions",),
        settings={
            **IDS_ALONE, "behaviours": {"session_max": 19}, "data": {"label_scope": "session"}, "objective": {"name": "softmax"},
            "training": {"order": "points", "batch_size": 512, "learning_rate": 1e-3, "epochs": 30, "monitor": "recall@20"},
        },
    ),
}  # fmt: skip
