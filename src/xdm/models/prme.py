"""PRME: what a user likes in one space, what follows what in another.

Paper: Feng et al., "Personalized Ranking Metric Embedding for Next New POI Recommendation", IJCAI 2015, pages 2069-2075.
Differences to the original: docs/models/prme.md.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, OWN_NEGATIVES, ModelEntry
from xdm.models.shared.inputs import ItemInputs, Sizes
from xdm.models.shared.scoring import TwoSquaredDistances
from xdm.models.shared.users import UserVectors, draw


class PRMEConfig(BaseModel):
    """PRME's settings. Defaults: the paper's, but for the first weights, of which it says too little."""

    model_config = ConfigDict(extra="forbid")
    tie_item_embedding: ClassVar[bool] = True  # one vector an item and space

    name: Literal["prme"] = "prme"
    width: int = Field(60, ge=1, description="K: of each of the two spaces")
    alpha: float = Field(0.2, ge=0, le=1, description="α: weight of the preference, beside 1 - α of the sequence")
    tau: int = Field(6 * 3600, ge=0, description="τ: seconds after the last click for which it says what follows")
    l2: float = Field(0.03, ge=0, description="λ: weight of the squared norms of the vectors that a point reads")
    deviation: float = Field(0.1, gt=0, description="of the first weights, which are normal")


class PRME(Encoder):
    """An item's vector is ``[x_i; s_i]``, its place among likings and its place among sequels. The query is ``[x_u; s_l]`` with the
    weight of the first space beside it: α up to τ after the last click l, then 1.

    Score: ``-α |x_u - x_i|² - (1 - α) |s_l - s_i|²``, or ``-|x_u - x_i|²``.
    """

    users: UserVectors

    def __init__(self, config: PRMEConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`; ids alone are read."""
        super().__init__()
        self.config, self.width, self.interests = config, 2 * config.width, 1
        self.items = ItemInputs(sizes, self.width, 0, codes)
        self.users = UserVectors(sizes, config.width)
        self.scoring = TwoSquaredDistances()
        draw(self.users.vectors, config.deviation)
        table = self.items.tables[0]
        assert isinstance(table, torch.nn.Embedding)
        draw(table, config.deviation)

    def preferences(self, items: Tensor) -> Tensor:
        """``x`` of ``items`` (any shape): ``[..., width]``."""
        return self.items(items).chunk(2, dim=-1)[0]

    def encode(self, batch: Batch) -> Tensor:
        """``[x_u; s_l; w]`` at every point: ``[P, 1, 2 width + 1]``."""
        x = self.users.at_points(batch, self.preferences)[:, 0]  # [P, width]
        last = batch.short[batch.row, batch.position]  # [P]
        s = self.items(last).chunk(2, dim=-1)[1]  # [P, width]
        gap = batch.time - batch.short_time[batch.row, batch.position]  # [P]
        follows = (gap <= self.config.tau) & (last > 0)  # [P]
        w = torch.where(follows, self.config.alpha, 1.0).to(x.dtype)[:, None]  # [P, 1]
        return torch.cat([x, s, w], dim=-1)[:, None]  # [P, 1, 2 width + 1]

    def penalty(self, queries: Tensor, batch: Batch) -> Tensor | None:
        """``l2 (|x_u|² + |x_l|² + |s_l|²)``, the mean over points: an item is drawn to 0 as often as it is clicked."""
        if not self.config.l2:
            return None
        own = self.users(batch)[batch.row]  # [P, width]
        last = self.items(batch.short[batch.row, batch.position])  # [P, 2 width]
        return self.config.l2 * (own.square().sum(-1) + last.square().sum(-1)).mean()


ENTRIES = {
    "prme": ModelEntry(
        PRME, PRMEConfig, "PRME (IJCAI 2015): distances to the user in one space, to the last item in another",
        paper="Feng et al., IJCAI 2015", needs=("user", "times"),
        # the last click counts, whatever its session; with Adam: the paper's plain gradient steps of 0.005 are one pair each
        settings={
            **IDS_ALONE, "behaviours": {"history_max": 50}, "objective": {"name": "bpr", "negatives": 1, **OWN_NEGATIVES},
        },
    ),
}  # fmt: skip
