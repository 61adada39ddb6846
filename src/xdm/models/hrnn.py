"""HRNN: a GRU over the clicks of a session, and one over the user's sessions from which each session begins.

Paper: Quadrana et al., "Personalizing Session-based Recommendations with Hierarchical Recurrent Neural Networks",
RecSys 2017, arXiv 1706.04148. Proven against the authors' code: parity/hrnn.py. Differences: docs/models/hrnn.md.
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
from xdm.models.entry import IDS_ALONE, ModelEntry, Preset, Settings
from xdm.models.gru4rec import draw_rows
from xdm.models.shared.gru import ResetBefore, after_click, dropped, gates
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes
from xdm.models.shared.layers import linear, to_width
from xdm.models.shared.loops import looped
from xdm.models.shared.scoring import InnerProduct
from xdm.models.shared.sessions import opens_session

Variant = Literal["init", "all"]


class HRNNConfig(BaseModel):
    """HRNN's settings. Defaults: the authors' small network with HRNN All."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["hrnn"] = "hrnn"
    variant: Variant = Field(
        "all", description="init: the user's state begins each session; all: it enters the gates at every click too"
    )
    width: int = Field(100, ge=1, description="d: hidden units of the session's level, width of the item vectors")
    user_width: int = Field(100, ge=1, description="hidden units of the user's level")
    session_dropout: float = Field(0.1, ge=0, lt=1, description="on the session's states, and so on what is carried on")
    user_dropout: float = Field(0.1, ge=0, lt=1, description="on the user's state, when a session has changed it")
    begin_dropout: float = Field(0.2, ge=0, lt=1, description="on the state that a session begins with")
    item_width: int = Field(
        0, ge=0, description="width of separate input vectors where tie_item_embedding is false; 0: none, items enter one-hot"
    )
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    bias: bool = Field(True, description="a learned bias of each item in its score")
    tie_item_embedding: bool = Field(False, description="score items by their input vectors")

    @model_validator(mode="after")
    def _sizes_fit(self) -> HRNNConfig:
        if self.tie_item_embedding and self.item_width:
            raise ValueError("item_width is that of separate input vectors; it needs tie_item_embedding false")
        return self

    @property
    def one_hot(self) -> bool:
        """Whether items enter the session's level without a vector of their own."""
        return not self.tie_item_embedding and not self.item_width


class HRNN(Encoder):
    """The two levels, click by click: when a session opens, the last state of the one before changes the user's state."""

    def __init__(self, config: HRNNConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d, user = config.width, config.user_width
        self.width, self.interests = d, 1
        self.dropout = (config.session_dropout, config.user_dropout, config.begin_dropout)
        self.scoring = InnerProduct(bias=config.bias)
        self.users = NoUserInputs()
        # A one-hot item times the input matrix of the three gates is a row of that matrix: the "vector" is the row.
        width_in = 3 * d if config.one_hot else config.item_width or d
        self.items = ItemInputs(sizes, width_in, config.feature_width, codes)
        self.project = to_width(self.items.width, width_in)
        self.session = ResetBefore(None if config.one_hot else width_in, d)
        self.user = ResetBefore(d, user)
        self.begin = linear(user, d)
        # Rows r, z alone: in the authors' code the user's state does not enter the candidate.
        self.of_user = nn.Parameter(gates(d, user).data[: 2 * d].clone()) if config.variant == "all" else None
        draw_rows(self.items.tables[0], gates=3 if config.one_hot else 1)

    def draw_scored(self, table: nn.Embedding) -> None:
        """As the authors draw it."""
        draw_rows(table, gates=1)

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        session, user, _ = self.start(batch.short.shape[0])
        states = self._states(batch.short, opens_session(batch.short_session), session, user)[..., : self.width]  # [B, T, d]
        return states[batch.row, batch.position][:, None]

    def start(self, sessions: int) -> list[Tensor]:
        """The states before any click, of either level, zeros ``[sessions, units]``; and the number of the session at which each
        row is, ``[sessions, 1]``, 0 for none."""
        zeros = self.session.recurrent.new_zeros
        return [zeros((sessions, self.width)), zeros((sessions, self.user.width)), zeros((sessions, 1))]

    def advance(self, batch: Batch, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One click of each row (``batch.short`` is ``[B, 1]``) after ``states``, as `start` has them.

        Returns the queries at the points, ``[P, 1, d]``, and the states after the click.
        """
        session, user, last = states
        number = batch.short_session.to(last.dtype)  # [B, 1]
        after = self._states(batch.short, (last > 0) & (number != last), session, user)[:, 0]  # [B, d + user width]
        session, user = after.split([self.width, self.user.width], dim=1)
        return session[batch.row][:, None], [session, user, number]

    def _states(self, items: Tensor, opens: Tensor, session: Tensor, user: Tensor) -> Tensor:
        """The states of both levels after each of ``items`` ``[B, T]``: ``[B, T, d + u]``, u the user's width.

        ``opens`` bool ``[B, T]``: which of them open a session; ``session`` ``[B, d]`` and ``user`` ``[B, u]``: the states before.
        What stands at padding, on the right, is asked for by nobody.
        """
        x = self.project(self.items(items))  # [B, T, width_in]
        inputs = x + self.session.bias if self.session.input is None else F.linear(x, self.session.input, self.session.bias)
        d, above = self.width, self.user
        assert above.input is not None
        of_user = inputs.new_zeros((2 * d, above.width)) if self.of_user is None else self.of_user
        kept = [
            dropped(inputs, width if self.training else 1, rate if self.training else 0.0)
            for width, rate in zip((d, above.width, d), self.dropout, strict=True)
        ]
        return looped(
            two_levels, inputs, opens[..., None], session, user, self.session.recurrent, above.input, above.bias, above.recurrent,
            self.begin.weight, self.begin.bias, of_user, *kept,
        )  # fmt: skip


def two_levels(
    inputs: Tensor, opens: Tensor, session: Tensor, user: Tensor, recurrent: Tensor, user_input: Tensor, user_bias: Tensor,
    user_recurrent: Tensor, begin: Tensor, begin_bias: Tensor, of_user: Tensor, kept: Tensor, user_kept: Tensor, begin_kept: Tensor,
) -> Tensor:  # fmt: skip
    """The states after each click, the session's and the user's side by side: ``[B, T, d + u]``.

    ``inputs`` ``[B, T, 3 d]``: of the clicked items to the session's gates r, z, n; ``opens`` bool ``[B, T, 1]``; ``session``
    ``[B, d]`` and ``user`` ``[B, u]``: the states before; ``of_user`` ``[2 d, u]``: from the user's state to r and z; ``kept`` and
    the like ``[B, T, width or 1]``: what the states are multiplied with.
    """
    after: list[Tensor] = []
    for t in range(inputs.shape[1]):
        opened = opens[:, t]  # [B, 1]
        changed = after_click(F.linear(session, user_input, user_bias), user, user_recurrent) * user_kept[:, t]  # [B, u]
        user = torch.where(opened, changed, user)
        begun = torch.tanh(F.linear(user, begin, begin_bias)) * begin_kept[:, t]  # [B, d]
        session = torch.where(opened, begun, session)
        told = F.pad(F.linear(user, of_user), (0, session.shape[1]))  # [B, 3 d]: nothing for the candidate
        session = after_click(inputs[:, t] + told, session, recurrent) * kept[:, t]  # [B, d]
        after.append(torch.cat([session, user], dim=1))
    return torch.stack(after, dim=1)


_AUTHORS: Settings = {
    **IDS_ALONE, "behaviours": {"history_max": 200}, "objective": {"name": "top1", "sampler": "in_batch", "mask_hits": False},
    "training": {
        "order": "session_parallel", "optimizer": "adagrad_momentum", "batch_size": 50, "learning_rate": 0.1, "epochs": 10,
        "clip_norm": 1e6,
    },
}  # fmt: skip
_INIT: Settings = {
    "model": {"name": "hrnn", "variant": "init", "user_dropout": 0.0, "session_dropout": 0.1, "begin_dropout": 0.0}, **_AUTHORS,
}  # fmt: skip
_ALL: Settings = {**_AUTHORS, "training": {**_AUTHORS["training"], "batch_size": 100, "momentum": 0.2}}
ENTRIES = {
    "hrnn": ModelEntry(
        HRNN, HRNNConfig, "HRNN (RecSys 2017): a GRU over clicks, begun by a GRU over the user's sessions, in user-parallel steps",
        paper="Quadrana et al., RecSys 2017, arXiv 1706.04148", needs=("sessions",),
        settings=_ALL,
        presets={
            "hrnn-init": Preset("HRNN Init: the user's state begins each session, and is read nowhere else", _INIT),
            "hrnn-rows": Preset(
                "HRNN trained as other encoders are: the user's last 200 clicks as a row, log-uniform negatives, Adam",
                {"model": {"name": "hrnn"}, **IDS_ALONE, "behaviours": {"history_max": 200}},
            ),
        },
    ),
}  # fmt: skip
