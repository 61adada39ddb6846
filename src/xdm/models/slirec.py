"""SLi-Rec in a form for retrieval: attention for the long term, an LSTM with gates of time for the short term, and a weight between.

Paper: Yu et al., "Adaptive User Modeling with Long and Short-Term Preferences for Personalized Recommendation", IJCAI 2019. The
original is a ranking model, told the candidate in three places. What stands here instead: docs/models/slirec.md.
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
from xdm.models.entry import ModelEntry
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes, glorot
from xdm.models.shared.layers import linear, masked_softmax, to_width
from xdm.models.shared.loops import looped
from xdm.models.shared.prefixes import prefix_times, prefixes
from xdm.schema import DAY

HIDDEN = (80, 40)  # of the two networks that weigh
SHORTEST = 0.5  # days: time spans below count as this
FIXED_WEIGHT = 0.2  # of the long term, in the authors' variant without an adaptive one


class SLiRecConfig(BaseModel):
    """SLi-Rec's settings. Defaults: the authors'."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["slirec"] = "slirec"
    width: int = Field(36, ge=1, description="d: of the LSTM's states, queries and item vectors")
    item_width: int = Field(18, ge=1, description="input width of the item id")
    feature_width: int = Field(18, ge=0, description="input width of each side feature of an item; 0 leaves them out")
    attention: int = Field(36, ge=1, description="width of the long-term attention")
    fusion: Literal["adaptive", "fixed"] = Field(
        "adaptive", description="the weight of the long term: a network's, at each point; or 0.2, the authors' variant"
    )
    window: int = Field(50, ge=1, description="how many of the last clicks are read")
    tie_item_embedding: bool = Field(False, description="score items by their input vectors; needs item_width equal to width")

    @model_validator(mode="after")
    def _tied_widths_fit(self) -> SLiRecConfig:
        if self.tie_item_embedding and self.item_width != self.width:
            raise ValueError(f"tie_item_embedding needs item_width {self.item_width} equal to width {self.width}")
        return self


class SLiRec(Encoder):
    """``W (α p_long + (1 - α) p_short)``.

    How long ago a click was depends on when the question is asked, and the gates of the LSTM depend on that: a state at a click
    is another one at each later point. So every point is a row of its own, as it is when it is served.
    """

    def __init__(self, config: SLiRecConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests, self.window = d, 1, config.window
        self.items = ItemInputs(sizes, config.item_width, config.feature_width, codes)
        self.users = NoUserInputs()
        self.of_click = nn.Linear(self.items.width, config.attention)
        self.weigh_click = nn.Linear(config.attention, 1, bias=False)
        self.long_to_short = to_width(self.items.width, d)
        self.short_term = Time4LSTM(self.items.width, d)
        self.ask, self.slopes = linear(d, d), nn.Parameter(torch.full((d,), 0.1))  # of the PReLU behind it
        self.weigh_state = network(4 * d, bias=False)  # a softmax is blind to what all places share
        self.weigh_long = network(3 * d + 1) if config.fusion == "adaptive" else None
        self.out = linear(d, d)
        for weight in (*self.of_click.parameters(), *self.weigh_click.parameters()):
            nn.init.normal_(weight, std=0.1)
        for table in self.items.tables:
            glorot(table)

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        asking, long, short, span = self.terms(batch)
        share: Tensor | float = FIXED_WEIGHT
        if self.weigh_long is not None:
            share = torch.sigmoid(self.weigh_long(torch.cat([asking, long, short, span], dim=-1)))  # [P, 1]
        return self.out(share * long + (1 - share) * short)[:, None]

    def terms(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """At every point: the LSTM's last state, ``p_long`` and ``p_short``, ``[P, d]`` each, and the log of the days since the last
        click ``[P, 1]``."""
        longest = batch.short.shape[1]  # no prefix is longer than the longest session
        items, lengths = prefixes(batch, self.window)  # [P, window], [P]
        items, times = items[:, :longest], prefix_times(batch, self.window)[:, :longest]  # [P, L] each
        inside = torch.arange(items.shape[1], device=items.device) < lengths[:, None]  # [P, L]
        x = self.items(items)  # [P, L, d_in]
        now, last = time_spans(times, batch.time, inside)  # [P, L] each
        states = self.short_term(x, now, last)  # [P, L, d]
        at_last = (lengths - 1)[:, None]  # [P, 1]
        asking = states.gather(1, at_last[:, :, None].expand(-1, -1, self.width)).squeeze(1)  # [P, d]
        weights = masked_softmax(self.weigh_click(torch.tanh(self.of_click(x))).squeeze(-1), inside)  # [P, L]
        long = self.long_to_short((weights[:, None] @ x).squeeze(1))  # [P, d]
        return asking, long, self._short(asking, states, inside), now.gather(1, at_last)

    def _short(self, asking: Tensor, states: Tensor, inside: Tensor) -> Tensor:
        """``p_short`` ``[P, d]``: the ``states`` ``[P, L, d]``, weighed by a network that compares each with ``asking`` ``[P, d]``."""
        query = F.prelu(self.ask(asking), self.slopes)[:, None].expand_as(states)  # [P, L, d]
        scores = self.weigh_state(torch.cat([query, states, query - states, query * states], dim=-1)).squeeze(-1)  # [P, L]
        return (masked_softmax(scores, inside)[:, None] @ states).squeeze(1)


class Time4LSTM(nn.Module):
    """An LSTM with two gates more, for the time since the click before and the time until now; section 3.3, and the authors' code.

    ``τ = tanh(Δ w + b)`` for both spans; ``T = σ(W x + U τ + b)``; ``c' = σ(f + 1) ⊙ T_last ⊙ c + σ(i) ⊙ T_now ⊙ tanh(j)``; the output
    gate sees both τ.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.of_now, self.of_last = nn.Linear(1, width), nn.Linear(1, width)  # τ
        self.now_of_input, self.last_of_input = nn.Linear(width_in, width), nn.Linear(width_in, width)
        self.now_of_time, self.last_of_time = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.input, self.recurrent = nn.Linear(width_in, 4 * width), nn.Linear(width, 4 * width, bias=False)  # rows: i, j, f, o
        self.output_of_now, self.output_of_last = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        for weight in self.parameters():  # as TensorFlow draws them: the biases of the time gates too
            limit = math.sqrt(3 / width) if weight.dim() == 1 or weight.shape[1] == 1 else math.sqrt(6 / sum(weight.shape))
            nn.init.uniform_(weight, -limit, limit)
        both = math.sqrt(6 / (width_in + width + 4 * width))  # one matrix there, over click and state
        nn.init.uniform_(self.input.weight, -both, both)
        nn.init.uniform_(self.recurrent.weight, -both, both)
        nn.init.zeros_(self.input.bias)

    def forward(self, x: Tensor, now: Tensor, last: Tensor) -> Tensor:
        """States ``[P, L, d]`` of clicks ``x`` ``[P, L, d_in]`` with their spans ``now`` and ``last`` ``[P, L]``."""
        now, last = torch.tanh(self.of_now(now[..., None])), torch.tanh(self.of_last(last[..., None]))  # [P, L, d] each: τ
        new = torch.sigmoid(self.now_of_input(x) + self.now_of_time(now))  # [P, L, d]
        kept = torch.sigmoid(self.last_of_input(x) + self.last_of_time(last))  # [P, L, d]
        told = self.output_of_now(now) + self.output_of_last(last)  # [P, L, d]
        inputs = self.input(x) + F.pad(told, (3 * told.shape[2], 0))  # [P, L, 4 d]
        return looped(time_gated, inputs, new, kept, self.recurrent.weight)


def time_gated(inputs: Tensor, new: Tensor, kept: Tensor, recurrent: Tensor) -> Tensor:
    """The clicks of `Time4LSTM` one after the other: ``inputs`` ``[P, L, 4 d]`` and the gates ``new`` and ``kept`` ``[P, L, d]`` to
    states ``[P, L, d]``."""
    state = torch.zeros_like(new[:, 0])
    cell = torch.zeros_like(state)
    after: list[Tensor] = []
    for t in range(inputs.shape[1]):
        i, j, f, o = (inputs[:, t] + F.linear(state, recurrent)).chunk(4, dim=1)  # each [P, d]
        cell = torch.sigmoid(f + 1) * kept[:, t] * cell + torch.sigmoid(i) * new[:, t] * torch.tanh(j)
        state = torch.sigmoid(o) * torch.tanh(cell)
        after.append(state)
    return torch.stack(after, dim=1)


def time_spans(times: Tensor, asked: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """``(now, last)`` ``[P, L]`` each: log of the days from each of ``times`` ``[P, L]`` until ``asked`` ``[P]`` and since the click
    before, no less than half a day; 0 where ``inside`` is false, and since before the first click."""
    now = log_days(asked[:, None] - times)
    last = F.pad(log_days(times[:, 1:] - times[:, :-1]), (1, 0))
    return torch.where(inside, now, 0.0), torch.where(inside, last, 0.0)


def log_days(seconds: Tensor) -> Tensor:
    """The log of a time span, counted in days."""
    return torch.log((seconds / DAY).clamp(min=SHORTEST))


def network(width_in: int, *, bias: bool = True) -> nn.Sequential:
    """80 and 40 sigmoid units, and one number; ``bias``: of that number."""
    first, second = HIDDEN
    last = linear(second, 1, bias=bias)
    return nn.Sequential(linear(width_in, first), nn.Sigmoid(), linear(first, second), nn.Sigmoid(), last)


ENTRIES = {
    "slirec": ModelEntry(
        SLiRec, SLiRecConfig, "SLi-Rec (IJCAI 2019), for retrieval: attention, an LSTM with gates of time, an adaptive weight",
        paper="Yu et al., IJCAI 2019", needs=("times", "features"),
        label="a form for retrieval: the original ranks, told the candidate",
        settings={
            "behaviours": {"history_max": 50},
            "training": {"order": "points", "learning_rate": 1e-3},
        },
    ),
}  # fmt: skip
