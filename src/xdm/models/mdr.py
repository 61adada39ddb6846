"""MDR: a song is near its listener and near its playlist, by distances whose dimensions are weighed. One half of MASR.

Paper: Tran, Sweeney and Lee, "Adversarial Mahalanobis Distance-based Attentive Song Recommender for Automatic Playlist Continuation",
SIGIR 2019, arXiv 1906.03450, section 4.1. Differences to the original: docs/models/masr.md.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, OWN_NEGATIVES, ModelEntry, Settings
from xdm.models.shared.inputs import ItemInputs, Sizes
from xdm.models.shared.scoring import SquaredDistance
from xdm.models.shared.users import UserVectors, draw, mean_so_far


class MDRConfig(BaseModel):
    """MDR's settings. Defaults: the authors'."""

    model_config = ConfigDict(extra="forbid")
    tie_item_embedding: ClassVar[bool] = True  # one vector an item

    name: Literal["mdr"] = "mdr"
    width: int = Field(64, ge=1, description="d: of the vectors of users and items")
    session: bool = Field(
        True, description="the playlist: the mean of the session's items, which the next one is to be near, beside the user"
    )


class Mahalanobis(nn.Module):
    """``|A ⊙ (u - s)|² + |B ⊙ (p - s)|²`` as one squared distance: with ``C² = A² + B²`` it is ``|(A² u + B² p) / C - C s|²`` and a
    part that no s has a share in. Without ``session`` it is the first distance alone, and C is A.

    A starts as ones, B uniform in 0 to 1. They are columns ``[d, 1]``, as with the authors, whose noise goes by rows.
    """

    def __init__(self, width: int, session: bool) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(width, 1))
        self.b = nn.Parameter(torch.rand(width, 1)) if session else None

    def scale(self) -> Tensor:
        """C ``[d]``."""
        if self.b is None:
            return self.a[:, 0]
        return (self.a.square() + self.b.square() + 1e-12)[:, 0].sqrt()

    def query(self, user: Tensor, session: Tensor) -> Tensor:
        """``[P, d]`` from u and p ``[P, d]``, to be held against ``C s``."""
        if self.b is None:
            return self.a[:, 0] * user
        return (self.a[:, 0].square() * user + self.b[:, 0].square() * session) / self.scale()


class MDR(Encoder):
    """The score of song s: ``b_s - |A ⊙ (u - s)|² - |B ⊙ (p - s)|²``."""

    users: UserVectors

    def __init__(self, config: MDRConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`; ids alone are read."""
        super().__init__()
        d = config.width
        self.width, self.interests = d, 1
        self.items = ItemInputs(sizes, d, 0, codes)
        self.users = UserVectors(sizes, d)
        self.mahalanobis = Mahalanobis(d, config.session)
        self.scoring = SquaredDistance(bias=True)
        for table in (self.users.vectors, self.items.tables[0]):
            draw(table, 1 / d)  # type: ignore[arg-type]

    def compose(self, vectors: Tensor, items: Tensor) -> Tensor:
        return self.mahalanobis.scale() * vectors

    def encode(self, batch: Batch) -> Tensor:
        """``(A² u + B² p) / C`` at every point: ``[P, 1, d]``."""
        user = self.users.at_points(batch, self.items)[:, 0]  # [P, d]
        session = mean_so_far(self.items(batch.short), batch)  # [P, d]
        return self.mahalanobis.query(user, session)[:, None]


def as_the_authors(model: Settings, **training: object) -> Settings:
    """Settings of the paper's models: BPR against 4 negatives of each label, 256 labels a step, Adam 1e-3 halved after 50 epochs."""
    return {
        "model": model, **IDS_ALONE, "objective": {"name": "bpr", "negatives": 4, **OWN_NEGATIVES},
        "training": {"order": "points", "batch_size": 256, "learning_rate": 1e-3, "epochs": 50, "decay": 0.5, "decay_epochs": 50,
                     **training},
    }  # fmt: skip


PAPER = "Tran et al., SIGIR 2019, arXiv 1906.03450"
ENTRIES = {
    "mdr": ModelEntry(
        MDR, MDRConfig, "MDR (SIGIR 2019): items near user and session, by distances whose dimensions are weighed",
        paper=PAPER, needs=("user",), settings=as_the_authors({"name": "mdr"}),
    ),
}  # fmt: skip
