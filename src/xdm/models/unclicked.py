"""XDM's extension: unclicked behaviours on top of any encoder.

Paper: Lv et al., "XDM: Improving Sequential Deep Matching with Unclicked User Behaviors for Recommender System",
DASFAA 2022, arXiv 2010.12837. Known from the paper: the unclicked sequence and its rules, the three representations
h (clicked), n (unclicked) and c (label), the confidence fusion network that gives ẑ, and the symmetric triplet loss.
Our reconstruction, each part a switch: how n is pooled, how the fusion is computed. See docs/models.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.inputs import ItemInputs, UserInputs
from xdm.models.layers import linear


class UnclickedConfig(BaseModel):
    """The unclicked branch. ``enabled: false`` leaves the encoder alone."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(False, description="whether the model reads the unclicked sequence")
    pooling: Literal["sum", "attention"] = Field(
        "sum", description="sum: each item weighs sigmoid(score), evidence adds up; attention: softmax, an average"
    )
    fusion: Literal["subtract", "gate"] = Field(
        "subtract", description="gate: (1 - g) h + g W[h; n]; subtract: h - g W n; g is the confidence, per dimension"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="on the pooling weights")


class Encoder(Protocol):
    """What an encoder offers: queries, and the inputs that an extension shares with it."""

    width: int  # d
    interests: int  # K
    items: ItemInputs
    users: UserInputs

    def encode(self, batch: Batch) -> Tensor:
        """``[P, K, d]``."""
        ...


@dataclass(frozen=True)
class Queries:
    """``query`` ``[P, K, d]`` is what is scored (ẑ); ``clicked`` ``[P, K, d]`` is h; ``unclicked`` ``[P, d]`` is n and
    ``has_unclicked`` ``[P]`` bool says where there is one. Without the extension query and clicked are the same."""

    query: Tensor
    clicked: Tensor
    unclicked: Tensor | None = None
    has_unclicked: Tensor | None = None


class UnclickedExtension(nn.Module):
    """n from the unclicked sequence, and the confidence fusion of h and n."""

    def __init__(self, config: UnclickedConfig, encoder: Encoder) -> None:
        super().__init__()
        d = encoder.width
        self.config = config
        self.item = linear(encoder.items.width, d)
        self.user_query = linear(encoder.users.width, d)
        self.confidence = linear(3 * d + encoder.users.width, d)
        # The branch starts almost closed: training begins at the encoder's own vector and opens it where it helps.
        nn.init.constant_(self.confidence.bias, -2.0)
        self.fuse = linear(2 * d if config.fusion == "gate" else d, d)
        self.dropout = nn.Dropout(config.dropout)

    def represent(self, inputs: Tensor, sequence: Tensor, user: Tensor) -> Tensor:
        """n of every sequence, ``[U, d]``: ``inputs`` ``[N, d_in]`` of all items, ``sequence`` ``[N]`` to which each belongs,
        ``user`` ``[U, d_u]`` whose sequence it is. An empty sequence gives zeros."""
        x = torch.tanh(self.item(inputs))  # [N, d]
        query = torch.tanh(self.user_query(user))  # [U, d]
        scores = (x * query[sequence]).sum(-1, keepdim=True) * x.shape[-1] ** -0.5  # [N, 1], within ±sqrt(d)
        if self.config.pooling == "attention":
            weights = scores.exp()  # bounded scores: no maximum need be taken off first
            total = _sums(weights, sequence, user.shape[0])  # [U, 1]
            weights = weights / total[sequence]
        else:
            weights = torch.sigmoid(scores)
        return _sums(self.dropout(weights) * x, sequence, user.shape[0])

    def fusion(self, h: Tensor, n: Tensor, user: Tensor, present: Tensor) -> Tensor:
        """ẑ ``[P, K, d]`` from h ``[P, K, d]``, n ``[P, d]``, ``user`` ``[P, d_u]``; where ``present`` ``[P]`` is false, h itself."""
        n, user = n[:, None].expand_as(h), user[:, None].expand(-1, h.shape[1], -1)
        g = torch.sigmoid(self.confidence(torch.cat([h, n, h * n, user], dim=-1)))  # [P, K, d]
        z = (
            (1 - g) * h + g * self.fuse(torch.cat([h, n], dim=-1))
            if self.config.fusion == "gate"
            else h - g * self.fuse(n)
        )
        return torch.where(present[:, None, None], z, h)

    def forward(self, h: Tensor, encoder: Encoder, batch: Batch) -> Queries:
        user = encoder.users(batch)  # [B, d_u]
        inputs = encoder.items(batch.unclicked)  # [N, d_in], the same tables as the clicked items'
        owner = user[batch.unclicked_owner]  # [U, d_u]
        n = self.represent(inputs, batch.unclicked_of, owner)[batch.unclicked_row]  # [P, d]
        ones = torch.ones_like(batch.unclicked_of, dtype=h.dtype)[:, None]
        present = (_sums(ones, batch.unclicked_of, owner.shape[0]) > 0)[batch.unclicked_row, 0]  # [P]
        return Queries(self.fusion(h, n, user[batch.row], present), h, n, present)


def _sums(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """``[groups, w]``: the sums of the rows of ``values`` ``[N, w]`` that belong to each group."""
    total = torch.zeros((groups, values.shape[1]), dtype=values.dtype, device=values.device)
    return total.scatter_add(0, group[:, None].expand(-1, values.shape[1]), values)
