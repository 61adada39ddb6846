"""SHAN: two layers of attention asked by the user, over what was clicked before the session and then over the session.

Paper: Ying et al., "Sequential Recommender System based on Hierarchical Attention Network", IJCAI 2018, section 3.
Differences to the original: docs/models/shan.md.
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
from xdm.models.entry import IDS_ALONE, OWN_NEGATIVES, ModelEntry
from xdm.models.shared.inputs import ItemInputs, Sizes
from xdm.models.shared.layers import causal, masked_softmax, to_width
from xdm.models.shared.users import UserVectors, draw
from xdm.schema import DAY

DEVIATION = 0.01  # of the first user and item vectors


class SHANConfig(BaseModel):
    """SHAN's settings. Defaults: the authors' where they are known; their weights of the L2 norms are chosen by the data."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["shan"] = "shan"
    width: int = Field(100, ge=1, description="d: of user and item vectors, both layers and queries")
    activation: Literal["relu", "sigmoid"] = Field("relu", description="φ of both layers; sigmoid: the best known port's")
    long_term: bool = Field(True, description="read the long-term list; false: the session alone, the second layer")
    l2_vectors: float = Field(0.0, ge=0, description="λ_uv: weight of the squared norms of a point's user and last click")
    l2_attention: float = Field(0.0, ge=0, description="λ_a: weight of the squared norms of W_1 and W_2")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")


class SHAN(Encoder):
    """Attention over the long-term set gives ``u_long``; attention over ``u_long`` and the session's items gives the query.

    Both are asked by the user's own vector. A user whom training never met has zeros there, and so plain averages.
    """

    def __init__(self, config: SHANConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.config, self.width, self.interests = config, d, 1
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = UserVectors(sizes, d)
        self.project = to_width(self.items.width, d)
        self.of_long = layer(d) if config.long_term else None
        self.of_both = layer(d)
        for table in (self.users.vectors, self.items.tables[0]):
            assert isinstance(table, nn.Embedding)
            draw(table, DEVIATION)

    def _scores(self, dense: nn.Linear, x: Tensor, user: Tensor) -> Tensor:
        """``u·φ(W x + b)`` ``[B, N]`` of vectors ``x`` ``[B, N, d]``, asked by ``user`` ``[B, d]``."""
        phi = F.relu if self.config.activation == "relu" else torch.sigmoid
        return (phi(dense(x)) @ user[:, :, None]).squeeze(-1)

    def _long(self, batch: Batch, user: Tensor) -> tuple[Tensor, Tensor]:
        """``u_long`` ``[B, d]``, and bool ``[B]`` where there is one; else it is zeros."""
        items = batch.long[:, 0]  # [B, M]: a set, the list of item ids
        if self.of_long is None:
            return torch.zeros_like(user), torch.zeros_like(items[:, 0], dtype=torch.bool)
        x, inside = self.project(self.items(items)), items > 0  # [B, M, d], [B, M]
        weights = masked_softmax(self._scores(self.of_long, x, user), inside)  # [B, M]
        return (weights[:, None] @ x).squeeze(1), inside.any(dim=1)

    def encode(self, batch: Batch) -> Tensor:
        """``u_hyb`` at every point: ``[P, 1, d]``."""
        user = self.users(batch)  # [B, d]
        long, present = self._long(batch, user)  # [B, d], [B]
        members = torch.cat([long[:, None], self.project(self.items(batch.short))], dim=1)  # [B, 1 + T, d]
        scores = self._scores(self.of_both, members, user)  # [B, 1 + T]
        seen = seen_sets(batch.short)  # [B, T, T]
        visible = torch.cat([present[:, None, None].expand(-1, seen.shape[1], 1), seen], dim=2)  # [B, T, 1 + T]
        weights = masked_softmax(scores[:, None].expand(-1, seen.shape[1], -1), visible)  # [B, T, 1 + T]
        at = (weights @ members).reshape(-1, self.width)[batch.row * seen.shape[1] + batch.position]  # [P, d]
        return at[:, None]

    def penalty(self, queries: Tensor, batch: Batch) -> Tensor | None:
        """``λ_uv (|u|² + mean |x|²) + λ_a (|W_1|² + |W_2|²)``: u of a point's user, x of its last click; the mean over points."""
        found = None
        if self.config.l2_vectors:
            x = self.items.of_table(0, batch.short[batch.row, batch.position])  # [P, d]
            squares = x.square().sum(-1) + self.users(batch)[batch.row].square().sum(-1)  # [P]
            found = self.config.l2_vectors * squares.mean()
        if self.config.l2_attention:
            squares = self.of_both.weight.square().sum()
            if self.of_long is not None:
                squares = squares + self.of_long.weight.square().sum()
            found = self.config.l2_attention * squares + (0.0 if found is None else found)
        return found


def layer(width: int) -> nn.Linear:
    """A dense layer as the authors draw it: uniform in ±sqrt(3 / d)."""
    dense, limit = nn.Linear(width, width), (3 / width) ** 0.5
    for weight in dense.parameters():
        nn.init.uniform_(weight, -limit, limit)
    return dense


def seen_sets(items: Tensor) -> Tensor:
    """bool ``[B, T, T]``: which places make the set of items up to each place of ``items`` ``[B, T]``: one for each item, its first;
    none for padding."""
    before = causal(items.shape[1], items.device)  # [T, T]: each place and those before it
    same = items[:, :, None] == items[:, None, :]  # [B, T, T]
    again = (same & (before & ~before.T)).any(dim=2)  # [B, T]: clicked before
    return before & (~again & (items > 0))[:, None, :]


ENTRIES = {
    "shan": ModelEntry(
        SHAN, SHANConfig, "SHAN (IJCAI 2018): attention asked by the user, over the long-term set and then over the session",
        paper="Ying et al., IJCAI 2018", needs=("user", "sessions"),
        settings={
            **IDS_ALONE, "behaviours": {"long_window": 210 * DAY, "long_max": 100},
            "objective": {"name": "bpr", "negatives": 1, **OWN_NEGATIVES},
        },
    ),
}  # fmt: skip
