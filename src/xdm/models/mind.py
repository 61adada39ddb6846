"""MIND: the clicks routed to several interests, each of them joined with the user's profile.

Paper: Li et al., "Multi-Interest Network with Dynamic Routing for Recommendation at Tmall", CIKM 2019, arXiv 1904.08030.
Differences to the original: docs/models/mind.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder, best_interest
from xdm.models.entry import IDS_ALONE, ModelEntry
from xdm.models.shared.capsules import route
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes, UserInputs, glorot
from xdm.models.shared.layers import HIDDEN_SCORE, linear, to_width


class MINDConfig(BaseModel):
    """MIND's settings. Defaults: the paper's on its Tmall data where it states them."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["mind"] = "mind"
    width: int = Field(64, ge=1, description="d: of the interests and of the item vectors")
    interests: int = Field(5, ge=1, le=32, description="K: vectors a user at most; an item's score is the best of theirs")
    adaptive: bool = Field(True, description="after n clicks max(1, min(K, floor(log2 n))) interests; false: always K")
    deviation: float = Field(1.0, gt=0, description="of the normal numbers that the routing starts from; the paper's σ")
    power: float | None = Field(
        None, ge=0, description="p of the label-aware attention; not set: infinite, the best interest learns alone, the paper's best"
    )
    layers: int = Field(
        1, ge=0, le=8, description="ReLU layers of width d over interest and profile (the paper does not say how many); "
        "0: the interests as they are, and no profile"
    )  # fmt: skip
    length: int = Field(50, ge=1, description="places that the routing has numbers for; at least behaviours.session_max")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0: ids alone")
    user_width: int = Field(
        0, ge=0, description="input width of the user id; 0 leaves it out: few users have the clicks to learn one from"
    )
    field_width: int = Field(4, ge=0, description="input width of each profile field; 0 leaves them out")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")


class MIND(Encoder):
    """K capsules under one shared map, told apart by the numbers that the routing starts from; then layers over the profile."""

    logits: Tensor

    def __init__(self, config: MINDConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d, self.width, self.interests = config.width, config.width, config.interests
        self.adaptive, self.power = config.adaptive, config.power
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = UserInputs(sizes, config.user_width, config.field_width) if config.layers else NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.map = linear(d, d, bias=False)
        self.layers = nn.ModuleList(linear(d + (0 if i else self.users.width), d) for i in range(config.layers))
        glorot(self.items.tables[0])
        # Drawn once and kept with the weights: a user's answer is the same whenever it is asked for, and after a reload.
        self.register_buffer("logits", torch.randn(config.interests, config.length) * config.deviation)

    def encode(self, batch: Batch) -> Tensor:
        """Interests at every point: ``[P, K, d]``; those that a point does not use repeat its first."""
        x = self.project(self.items(batch.short))  # [B, T, d]
        rows, length = x.shape[:2]
        votes = self.map(x)[:, None].expand(-1, self.interests, -1, -1)  # [B, K, T, d]
        logits = self.logits[:, None, :length].expand(rows, -1, length, -1)  # [B, K, T, T]
        used = self.used(length)  # [T, K]
        interests = route(votes, logits, used)[batch.row, batch.position]  # [P, K, d]
        if len(self.layers):
            user = self.users(batch)[batch.row][:, None].expand(-1, self.interests, -1)  # [P, K, d_u]
            interests = torch.cat([interests, user], dim=-1)  # [P, K, d + d_u]
            for layer in self.layers:
                interests = torch.relu(layer(interests))  # [P, K, d]
        return torch.where(used[batch.position][:, :, None], interests, interests[:, :1])  # [P, K, d]

    def used(self, length: int) -> Tensor:
        """``[T, K]`` bool: which interests the place after t + 1 clicks has; the first at least."""
        # floor(log2 n) is at least k where n is at least 2^k; the first interest is there from the first click on.
        needed = [1] + [2**k if self.adaptive else 1 for k in range(2, self.interests + 1)]
        clicks = torch.arange(1, length + 1, device=self.logits.device)  # [T]
        return clicks[:, None] >= torch.tensor(needed, device=clicks.device)  # [T, K]

    def readout(self, queries: Tensor, label_vectors: Tensor) -> Tensor:
        """Label-aware attention (section 4.3): from interests ``[P, K, d]`` and the labels' vectors ``[P, d]`` to ``[P, d]``."""
        if self.power is None:
            return best_interest(queries, label_vectors)
        scores = (queries @ label_vectors[:, :, None])[:, :, 0]  # [P, K]
        # An interest that repeats the first, because the point does not use it, has no say of its own.
        repeats = (queries - queries[:, :1]).abs().amax(dim=-1) < 1e-6  # [P, K]
        repeats[:, 0] = False
        weights = torch.softmax((self.power * scores).masked_fill(repeats, HIDDEN_SCORE), dim=1)  # [P, K]
        return (weights[:, None] @ queries)[:, 0]  # [P, d]


ENTRIES = {
    "mind": ModelEntry(
        MIND, MINDConfig, "MIND (CIKM 2019): capsules under one map, as many as there are clicks for, joined with the profile",
        paper="Li et al., CIKM 2019, arXiv 1904.08030",
        settings={**IDS_ALONE, "behaviours": {"history_max": 50}},
    ),
}  # fmt: skip
