"""M3: a tiny, a short and a long range encoder of the user's clicks, mixed by a gate.

Paper: Tang et al., "Towards Neural Mixture Recommender for Long Range Dependent User Sequences", WWW 2019, arXiv 1902.08588.
No code was published, and of the paper only the abstract could be read here: what lies beyond it is from memory, so this is
M3-style. See docs/models/m3.md.
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
from xdm.models.entry import IDS_ALONE, ModelEntry, Preset, Settings
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes, table
from xdm.models.shared.layers import Dropout, causal, linear, masked_softmax

Short = Literal["recurrent", "convolution"]
SPANS = 32  # of time, by powers of two: up to 68 years


class M3Config(BaseModel):
    """M3's settings. Defaults are ours: the authors' are not known."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["m3"] = "m3"
    width: int = Field(64, ge=1, description="d: of all three encoders, whose outputs are summed, of queries and item vectors")
    short: Short = Field("recurrent", description="the short range: recurrent, a GRU (M3R); convolution over the last clicks (M3C)")
    window: int = Field(5, ge=1, le=50, description="of convolution: how many of the last clicks it reads")
    context_width: int = Field(
        0, ge=0, description="width of each context, a vector of a span of time: since the click before, which the encoders and the "
        "gate read, and between click and question, which the output reads; 0: no contexts"
    )  # fmt: skip
    dropout: float = Field(0.2, ge=0, lt=1, description="on what enters the encoders")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0: ids alone")
    tie_item_embedding: bool = Field(False, description="score items by their input vectors; the paper has a table of its own, Q")


class M3(Encoder):
    """``g_1 o_tiny + g_2 o_short + g_3 o_long``, and a dense network over the mixture."""

    def __init__(self, config: M3Config, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d, contexts = config.width, config.context_width
        self.width, self.interests = d, 1
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.enter = linear(self.items.width + contexts, d)
        self.dropout = Dropout(config.dropout)
        self.short = RecurrentRange(d) if config.short == "recurrent" else ConvolutionRange(d, config.window)
        self.long = LongRange(d)
        self.gate = linear(d + contexts, 3)
        self.hidden, self.leave = linear(d + contexts, d), linear(d, d)
        self.since_click = table(SPANS, contexts) if contexts else None
        self.until_question = table(SPANS, contexts) if contexts else None

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        mixed = self.mixture(batch)[batch.row, batch.position]  # [P, d]
        if self.until_question is not None:
            waited = batch.time - batch.short_time[batch.row, batch.position]  # [P]
            mixed = torch.cat([mixed, self.until_question(spans(waited))], dim=-1)  # [P, d + context_width]
        return self.leave(torch.relu(self.hidden(mixed)))[:, None]  # [P, 1, d]

    def mixture(self, batch: Batch) -> Tensor:
        """What the three encoders found after each click, mixed: ``[B, T, d]``; place t knows of clicks up to t alone."""
        context = self._since_click(batch.short_time)  # [B, T, context_width], or none
        z = torch.relu(self.enter(torch.cat([self.items(batch.short), *context], dim=-1)))  # [B, T, d]
        # Each encoder may be wholly on or off, whatever the others: a sigmoid each and no softmax among them.
        g = torch.sigmoid(self.gate(torch.cat([z, *context], dim=-1)))  # [B, T, 3]
        z = self.dropout(z)
        return g[..., :1] * z + g[..., 1:2] * self.short(z) + g[..., 2:] * self.long(z)

    def _since_click(self, times: Tensor) -> list[Tensor]:
        """The context of each click at ``times`` ``[B, T]``: the time since the click before; zeros for the first of a row."""
        if self.since_click is None:
            return []
        since = spans(times[:, 1:] - times[:, :-1])  # [B, T - 1]
        return [self.since_click(F.pad(since, (1, 0)))]  # [B, T, context_width]


class RecurrentRange(nn.Module):
    """M3R's short range: a GRU, which forgets as it learns to."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, z: Tensor) -> Tensor:
        """``[B, T, d]`` to ``[B, T, d]``."""
        return self.gru(z)[0]


class ConvolutionRange(nn.Module):
    """M3C's short range: one convolution over the last ``window`` clicks, and of nothing before them."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.filters = nn.Conv1d(width, width, window)

    def forward(self, z: Tensor) -> Tensor:
        """``[B, T, d]`` to ``[B, T, d]``."""
        padded = F.pad(z.transpose(1, 2), (self.window - 1, 0))  # [B, d, window - 1 + T]: on the left alone
        return torch.relu(self.filters(padded)).transpose(1, 2)


class LongRange(nn.Module):
    """Attention over all clicks so far, asked by the last. It knows no positions, so that what is far weighs as what is near."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = linear(width, width, bias=False), linear(width, width, bias=False)
        self.value = linear(width, width, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        """``[B, T, d]`` to ``[B, T, d]``; place t sees places up to t, so padding, on the right, is never seen."""
        scores = self.query(z) @ self.key(z).transpose(1, 2) * z.shape[2] ** -0.5  # [B, T, T]
        visible = causal(z.shape[1], z.device).expand_as(scores)
        return masked_softmax(scores, visible) @ self.value(z)


def spans(seconds: Tensor) -> Tensor:
    """The number of each span of time, int64 from 1 to `SPANS`: 1 below one second, 2 below two, 3 below four and so on.

    Counted by comparisons of whole numbers, so that the exported graph rounds nothing another way than torch.
    """
    powers = 2 ** torch.arange(SPANS - 1, device=seconds.device)  # 1, 2, 4, ...
    return 1 + (seconds[..., None] >= powers).sum(dim=-1)


# Rows are long and few: an epoch has few steps, so that it takes many before validation says anything.
_AS_ONE_SEQUENCE: Settings = {
    **IDS_ALONE, "behaviours": {"history_max": 200}, "training": {"epochs": 60, "patience": 8},
}  # fmt: skip
ENTRIES = {
    "m3": ModelEntry(
        M3, M3Config, "M3 (WWW 2019): three encoders of a tiny, a short and a long range, mixed by a gate",
        paper="Tang et al., WWW 2019, arXiv 1902.08588", label="M3-style: beyond the abstract from memory",
        settings=_AS_ONE_SEQUENCE,
        presets={
            "m3c": Preset(
                "M3C: the short range is a convolution", {"model": {"name": "m3", "short": "convolution"}, **_AS_ONE_SEQUENCE},
            ),
        },
    ),
}  # fmt: skip
