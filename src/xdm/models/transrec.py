"""TransRec: a user is a translation from the last item to the next.

Paper: He, Kang and McAuley, "Translation-based Recommendation", RecSys 2017, arXiv 1707.02410. Differences to the original:
docs/models/transrec.md.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, OWN_NEGATIVES, ModelEntry
from xdm.models.shared.inputs import ItemInputs, Sizes, UserInputs
from xdm.models.shared.scoring import SquaredDistance
from xdm.models.shared.users import draw, into_ball


class TransRecConfig(BaseModel):
    """TransRec's settings. Defaults: the authors'; their weight of the L2 norm is chosen by the data, from 0 to 1."""

    model_config = ConfigDict(extra="forbid")
    tie_item_embedding: ClassVar[bool] = True  # one vector an item, clicked or scored

    name: Literal["transrec"] = "transrec"
    width: int = Field(10, ge=1, description="d: of item vectors and translations")
    l2: float = Field(0.0, ge=0, description="lambda: weight of the squared norms of the vectors that a point reads")


class TransRec(Encoder):
    """The query is ``γ_last + t + t_u``, the score ``β_j - |γ_last + t + t_u - γ_j|²``."""

    def __init__(self, config: TransRecConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`; ids alone are read."""
        super().__init__()
        d = config.width
        self.config, self.width, self.interests = config, d, 1
        self.items = ItemInputs(sizes, d, 0, codes)
        self.users = UserInputs(sizes, d, field_width=0)
        self.translation = nn.Parameter(F.normalize(torch.randn(d), dim=0))  # t, a random unit vector
        self.scoring = SquaredDistance(bias=True)
        draw(self._item_vectors, 1.0)
        with torch.no_grad():
            weight = self._item_vectors.weight
            weight.copy_(F.normalize(weight, dim=-1))  # random unit vectors
            assert self.users.user is not None
            self.users.user.weight.zero_()  # who is new goes where everyone goes

    @property
    def _item_vectors(self) -> nn.Embedding:
        table = self.items.tables[0]
        assert isinstance(table, nn.Embedding)
        return table

    def _parts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        last = self.items(batch.short[batch.row, batch.position])  # [P, d]
        return last, self.users(batch)[batch.row]  # [P, d] each

    def encode(self, batch: Batch) -> Tensor:
        """Where the next item is looked for, at every point: ``[P, 1, d]``."""
        last, own = self._parts(batch)  # [P, d]
        return (last + self.translation + own)[:, None]  # [P, 1, d]

    def penalty(self, queries: Tensor, batch: Batch) -> Tensor | None:
        """``l2 (|γ_last|² + |t_u|² + |t|²)``, the mean over points."""
        if not self.config.l2:
            return None
        last, own = self._parts(batch)  # [P, d]
        squares = last.square().sum(-1) + own.square().sum(-1)  # [P]
        return self.config.l2 * (squares.mean() + self.translation.square().sum())

    def after_step(self, model: object) -> None:
        """Pull every item vector back into the unit ball; translations may be of any length."""
        self._item_vectors.weight.copy_(into_ball(self._item_vectors.weight))


ENTRIES = {
    "transrec": ModelEntry(
        TransRec, TransRecConfig, "TransRec (RecSys 2017): a user is a translation from the last item to the next",
        paper="He et al., RecSys 2017, arXiv 1707.02410", needs=("user",),
        settings={**IDS_ALONE, "objective": {"name": "bpr", "negatives": 1, **OWN_NEGATIVES}},
    ),
}  # fmt: skip
