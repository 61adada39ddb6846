"""BINN: what a user does now, of any kind, and what was liked before, by LSTMs whose gates are told the kind of each behaviour.

Paper: Li et al., "Learning from History and Present: Next-item Recommendation via Discriminatively Exploiting User Behaviors",
KDD 2018, arXiv 1808.01075. Known in full here are its parts; the gates are from memory. See docs/models/binn.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from xdm.data.batches import Batch
from xdm.models.actions import ACTIONS
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry, Preset, Settings
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes
from xdm.models.shared.layers import linear, to_width
from xdm.models.shared.loops import looped
from xdm.models.shared.prefixes import latest_exposures, prefixes


class BINNConfig(BaseModel):
    """BINN's settings. ``present`` is the authors'; their widths are not known here."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["binn"] = "binn"
    width: int = Field(64, ge=1, description="d: of states, queries and item vectors")
    behaviours: Literal["exposures", "clicks"] = Field(
        "exposures",
        description="what the present holds: the latest exposures, skipped or clicked, whose stream behaviours.stream_max must reach; "
        "or the latest clicks, which leaves one kind of behaviour and no term for it",
    )
    present: int = Field(10, ge=1, description="how many of the latest behaviours are the present")
    history: int = Field(50, ge=1, description="how many of the latest clicks are the history")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0: ids alone")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")

    @property
    def reads_stream(self) -> bool:
        """Whether the model reads the stream of exposures."""
        return self.behaviours == "exposures"


class BINN(Encoder):
    """``W [present; history] + b``: the last state over the present, and the mean of the states, both ways, over the history.

    The way back through the history starts at the latest click, so every point is a row of its own.
    """

    def __init__(self, config: BINNConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.config, self.width, self.interests = config, d, 1
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.present = BehaviourLSTM(d, ACTIONS if config.reads_stream else 0)
        self.forwards, self.backwards = BehaviourLSTM(d, 0), BehaviourLSTM(d, 0)  # clicks alone are of one kind
        self.join = linear(3 * d, d)

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        joined = torch.cat([self._present(batch), self._history(batch)], dim=-1)  # [P, 3 d]
        return self.join(joined)[:, None]

    def _present(self, batch: Batch) -> Tensor:
        """The last state over the latest behaviours: ``[P, d]``."""
        actions = None
        if self.config.reads_stream:
            items, actions, lengths = latest_exposures(batch, self.config.present)  # [P, T], [P, T], [P]
        else:
            items, lengths = prefixes(batch, self.config.present)  # [P, T], [P]
        states = self.present(self.project(self.items(items)), actions)  # [P, T, d]
        last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, self.width)
        return states.gather(1, last).squeeze(1)

    def _history(self, batch: Batch) -> Tensor:
        """The mean of the states over the clicks, of both directions: ``[P, 2 d]``."""
        items, lengths = prefixes(batch, self.config.history)  # [P, history], [P]
        items = items[:, : batch.short.shape[1]]  # [P, L]: no prefix is longer than the longest session
        places = torch.arange(items.shape[1], device=items.device)  # [L]
        inside = (places < lengths[:, None])[..., None]  # [P, L, 1]
        x = self.project(self.items(items))  # [P, L, d]
        turned = (lengths[:, None] - 1 - places).clamp(min=0)[..., None].expand_as(x)  # [P, L, d]: newest first, padding last
        both = torch.cat([self.forwards(x), self.backwards(x.gather(1, turned))], dim=-1)  # [P, L, 2 d]
        return (both * inside).sum(dim=1) / lengths[:, None]  # a mean does not ask which state stood where


class BehaviourLSTM(nn.Module):
    """An LSTM with peepholes whose gates have a term of the behaviour's kind; without kinds, one with peepholes.

    ``i, f = σ(W x + U h + p ⊙ c + B b)``, ``c' = f ⊙ c + i ⊙ tanh(W x + U h + B b)``, ``o = σ(W x + U h + p ⊙ c' + B b)``,
    ``h' = o ⊙ tanh(c')``, each with weights of its own and a bias; b is one-hot, so B is a table.
    """

    def __init__(self, width: int, kinds: int) -> None:
        super().__init__()
        self.input, self.recurrent = linear(width, 4 * width), linear(width, 4 * width, bias=False)  # rows: i, f, c, o
        self.peepholes = nn.Parameter(torch.zeros(3, width))  # of i, f, o
        self.of_kind = nn.Embedding(kinds + 1, 4 * width, padding_idx=0) if kinds else None
        if self.of_kind is not None:
            nn.init.xavier_uniform_(self.of_kind.weight)
            with torch.no_grad():
                self.of_kind.weight[0] = 0

    def forward(self, x: Tensor, kinds: Tensor | None = None) -> Tensor:
        """States ``[P, T, d]`` after each of ``x`` ``[P, T, d]`` of the given ``kinds`` ``[P, T]``, from 1."""
        inputs = self.input(x)  # [P, T, 4 d]
        if self.of_kind is not None and kinds is not None:
            inputs = inputs + self.of_kind(kinds)
        return looped(peeping, inputs, self.recurrent.weight, self.peepholes)


def peeping(inputs: Tensor, recurrent: Tensor, peepholes: Tensor) -> Tensor:
    """The behaviours of `BehaviourLSTM` one after the other: ``inputs`` ``[P, T, 4 d]`` to states ``[P, T, d]``."""
    state = torch.zeros_like(inputs[:, 0, : recurrent.shape[1]])
    cell = torch.zeros_like(state)
    after: list[Tensor] = []
    for t in range(inputs.shape[1]):
        i, f, c, o = (inputs[:, t] + F.linear(state, recurrent)).chunk(4, dim=1)  # each [P, d]
        i, f = torch.sigmoid(i + peepholes[0] * cell), torch.sigmoid(f + peepholes[1] * cell)
        cell = f * cell + i * torch.tanh(c)
        state = torch.sigmoid(o + peepholes[2] * cell) * torch.tanh(cell)
        after.append(state)
    return torch.stack(after, dim=1)


_BEHAVIOURS: Settings = {"stream_max": 10, "history_max": 50}
ENTRIES = {
    "binn": ModelEntry(
        BINN, BINNConfig, "BINN (KDD 2018), end to end: LSTMs told the kind of behaviour, over the present and the history",
        paper="Li et al., KDD 2018, arXiv 1808.01075", needs=("exposures",),
        label="end to end; the original regresses on frozen vectors: binn-original",
        settings={**IDS_ALONE, "behaviours": _BEHAVIOURS, "training": {"order": "points", "learning_rate": 1e-3}},
        presets={
            "binn-original": Preset(
                "BINN in its two stages: w-item2vec vectors that stay, a regression on the label's, the nearest items",
                {
                    "item_vectors": {
                        "features": False, "pretrained": "item2vec", "frozen": True, "scoring": "squared_distance",
                        "item2vec": {"weighted": True},
                    },
                    "objective": {"name": "squared_error"}, "behaviours": _BEHAVIOURS,
                    "training": {"order": "points", "learning_rate": 1e-3},
                },
            ),
        },
    ),
}  # fmt: skip
