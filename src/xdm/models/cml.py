"""CML: users and items as points of one space; a user's items are the nearest.

Paper: Hsieh et al., "Collaborative Metric Learning", WWW 2017, https://doi.org/10.1145/3038912.3052639. Differences to the
original: docs/models/cml.md.
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
from xdm.models.shared.scoring import SquaredDistance
from xdm.models.shared.users import UserVectors, draw, into_ball


class CMLConfig(BaseModel):
    """CML's settings. Defaults: the authors' example, without features; the margin and the negatives are the objective's."""

    model_config = ConfigDict(extra="forbid")
    reads_clicks: ClassVar[bool] = False  # in training: it learns of the user's vector
    tie_item_embedding: ClassVar[bool] = True  # one vector an item

    name: Literal["cml"] = "cml"
    width: int = Field(100, ge=1, description="d: of user and item vectors")
    radius: float = Field(
        1.0, gt=0, description="no vector is longer: after each step it is pulled back to this length"
    )
    covariance: float = Field(
        0.0,
        ge=0,
        description="weight of the squared covariances between dimensions; the authors: of use below 20 dimensions",
    )


class CML(Encoder):
    """The user's vector is the query, wherever in the session it is asked; the score is ``-|p_u - q_i|²``."""

    users: UserVectors

    def __init__(self, config: CMLConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`; ids alone are read."""
        super().__init__()
        d = config.width
        self.config, self.width, self.interests = config, d, 1
        self.items = ItemInputs(sizes, d, 0, codes)
        self.users = UserVectors(sizes, d)
        self.scoring = SquaredDistance()
        for table in self._tables():
            draw(table, d**-0.5)

    def _tables(self) -> list[torch.nn.Embedding]:
        return [self.users.vectors, self.items.tables[0]]  # type: ignore[list-item]

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        return self.users.at_points(batch, self.items)

    def penalty(self, queries: Tensor, batch: Batch) -> Tensor | None:
        """The squared off-diagonal entries of the covariance matrix of the batch's users and clicked items, summed."""
        if not self.config.covariance:
            return None
        clicked = self.items(batch.short[batch.short > 0])  # [n, d]
        x = torch.cat([self.users.vectors(batch.user), clicked])  # [B + n, d]
        x = x - x.mean(dim=0)
        covariance = x.T @ x / len(x)  # [d, d]
        return self.config.covariance * (covariance.square().sum() - covariance.diagonal().square().sum())

    def after_step(self, model: object) -> None:
        """Pull every vector back into the ball."""
        for table in self._tables():
            table.weight.copy_(into_ball(table.weight, self.config.radius))


ENTRIES = {
    "cml": ModelEntry(
        CML, CMLConfig, "CML (WWW 2017): users and items as points of one space, no order of clicks",
        paper="Hsieh et al., WWW 2017, doi 10.1145/3038912.3052639", needs=("user",),
        # with Adam: the authors' Adagrad at 0.1 goes with the sum over 50,000 pairs, and hardly moves on a mean
        settings={
            **IDS_ALONE, "objective": {"name": "warp", "ranking_margin": 1.9, "negatives": 20, **OWN_NEGATIVES},
        },
    ),
}  # fmt: skip
