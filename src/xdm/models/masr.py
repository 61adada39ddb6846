"""MASR: MDR, and MASS, whose attention over the songs of a playlist is asked by user and candidate together.

Paper: Tran, Sweeney and Lee, "Adversarial Mahalanobis Distance-based Attentive Song Recommender for Automatic Playlist Continuation",
SIGIR 2019, arXiv 1906.03450, sections 4.2 to 4.4. Differences to the original: docs/models/masr.md.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import ModelEntry, Preset
from xdm.models.mdr import PAPER, Mahalanobis, as_the_authors
from xdm.models.shared.inputs import ItemInputs, Sizes
from xdm.models.shared.layers import Dropout, masked_softmax
from xdm.models.shared.prefixes import prefixes
from xdm.models.shared.scoring import PairScoring
from xdm.models.shared.users import UserVectors, draw, mean_so_far

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "none": lambda x: x}


class MASRConfig(BaseModel):
    """MASR's settings. Defaults: the authors', but for ``members``: they read whole playlists."""

    model_config = ConfigDict(extra="forbid")
    tie_item_embedding: ClassVar[bool] = True  # an item's vectors are the same clicked or scored

    name: Literal["masr"] = "masr"
    width: int = Field(64, ge=1, description="d: of each of a user's and an item's vectors: MDR's, and MASS' two")
    parts: Literal["both", "mass"] = Field("both", description="both: MDR and MASS; mass: that alone. MDR alone is model mdr")
    members: int = Field(50, ge=1, description="the playlist of MASS: so many of the last clicks of the session")
    beta: float = Field(0.5, gt=0, lt=1, description="β: share of MASS, beside 1 - β of MDR")
    session: bool = Field(True, description="of MDR: the mean of the session's items, beside the user")
    activation: Literal["relu", "tanh", "none"] = Field("relu", description="of what user and candidate ask together")
    dropout: float = Field(0.2, ge=0, lt=1, description="of MASS: on the differences, dimension by dimension")


class Memory(nn.Module):
    """``|A ⊙ (q - m)|²`` between what user and candidate ask, ``q = act(W [u; j] + c)``, and members m of the session.

    W starts as ``[-I, I]``, so that q starts as the difference of candidate and user; A as ones.
    """

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        eye = torch.eye(width)
        self.join = nn.Parameter(torch.cat([-eye, eye], dim=1))  # W [d, 2 d]
        self.shift = nn.Parameter(torch.empty(width).uniform_(-1, 1) * (2 * width) ** -0.5)  # c, as torch draws it
        self.a = nn.Parameter(torch.ones(width, 1))
        self.activation = ACTIVATIONS[activation]

    def forward(self, user: Tensor, candidates: Tensor, members: Tensor, kept: Tensor) -> Tensor:
        """``[P, S, M]`` of ``user`` ``[P, d]``, ``candidates`` ``[S, d]`` or ``[P, S, d]`` and ``members`` ``[P, M, d]``. ``kept``
        ``[P, d]`` multiplies the differences. Written out, so that no difference, ``[P, S, M, d]``, is ever made."""
        of_user, of_candidate = self.join.chunk(2, dim=1)  # [d, d] each
        q = self.activation((user @ of_user.T)[:, None] + candidates @ of_candidate.T + self.shift)  # [P, S, d]
        weights = (self.a[:, 0] * kept)[:, None]  # [P, 1, d]
        q, m = weights * q, weights * members  # [P, S, d], [P, M, d]
        squares = q.square().sum(-1)[:, :, None] + m.square().sum(-1)[:, None]  # [P, S, M]
        return squares - 2 * q @ m.transpose(1, 2)


class MASRScoring(PairScoring):
    """``b_j - β Σ_m w_m |A' ⊙ (q' - m')|² - (1 - β) |z - C s_j|²``, ``w = softmax_m(-|A ⊙ (q - m)|²)``.

    A query's first row is the user, the others are members of the session; beside each stands whether there is one. A row holds what
    MDR, the attention and the output read of it, one after the other: ``[z; u; u']`` or ``[·; m; m']``, an item ``[C s; j; j']``.
    """

    beside, bias = 1, True

    def __init__(self, config: MASRConfig) -> None:
        super().__init__()
        self.config = config
        self.attention, self.output = (Memory(config.width, config.activation) for _ in range(2))
        self.dropout = Dropout(config.dropout)

    def items(self, v: Tensor, bias: Tensor | None) -> Tensor:
        assert bias is not None
        return torch.cat([v, bias[..., None]], dim=-1)

    def weights(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """How much each candidate looks at each member: ``[P, S, M]``, zeros where there is none."""
        distance = self._distance(self.attention, queries, vectors, -2)
        there = (queries[:, None, 1:, -1] > 0).expand_as(distance)
        return masked_softmax(-distance, there)

    def scores(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """See `PairScoring`; of ``queries`` ``[P, 1 + M, blocks · d + 1]``."""
        apart = self.weights(queries, vectors) * self._distance(self.output, queries, vectors, -1)  # [P, S, M]
        mass, bias = -apart.sum(-1), vectors[..., -1]  # [P, S], [S] or [P, S]
        if self.config.parts == "mass":
            return mass + bias
        d, beta = self.config.width, self.config.beta
        z, s = queries[:, 0, :d], vectors[..., :d]  # [P, d], [S, d] or [P, S, d]
        across = z @ s.T if s.dim() == 2 else (s @ z[:, :, None]).squeeze(-1)  # [P, S]
        mdr = 2 * across - s.square().sum(-1) - z.square().sum(-1, keepdim=True)  # [P, S]
        return beta * mass + (1 - beta) * mdr + bias

    def _distance(self, memory: Memory, queries: Tensor, vectors: Tensor, block: int) -> Tensor:
        """``[P, S, M]`` in one of the last blocks of d before the coordinate beside."""
        begin = (block + 1) * self.config.width - 1
        rows, items = (x[..., begin - self.config.width : begin] for x in (queries, vectors))
        user, members = rows[:, 0], rows[:, 1:]  # [P, d], [P, M, d]
        return memory(user, items, members, self.dropout(torch.ones_like(user)))


class MASR(Encoder):
    """The query is user and session, row by row; what else there is to the model is its scoring."""

    users: UserVectors
    scoring: MASRScoring

    def __init__(self, config: MASRConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`; ids alone are read."""
        super().__init__()
        self.config, d = config, config.width
        self.width, self.interests = (3 if config.parts == "both" else 2) * d, 1 + config.members
        self.items = ItemInputs(sizes, self.width, 0, codes)
        self.users = UserVectors(sizes, self.width)
        self.mahalanobis = Mahalanobis(d, config.session) if config.parts == "both" else None
        self.scoring = MASRScoring(config)
        for table in (self.users.vectors, self.items.tables[0]):
            draw(table, 1 / d)  # type: ignore[arg-type]

    def compose(self, vectors: Tensor, items: Tensor) -> Tensor:
        if self.mahalanobis is None:
            return vectors
        d = self.config.width
        return torch.cat([self.mahalanobis.scale() * vectors[..., :d], vectors[..., d:]], dim=-1)

    def encode(self, batch: Batch) -> Tensor:
        """User and members at every point: ``[P, 1 + members, width + 1]``. A row a point, for a point's members are its last
        clicks, and each candidate weighs them anew."""
        user = self.users.at_points(batch, self.items)  # [P, 1, width]
        if self.mahalanobis is not None:
            d = self.config.width
            session = mean_so_far(self.items(batch.short)[..., :d], batch)  # [P, d]
            z = self.mahalanobis.query(user[:, 0, :d], session)  # [P, d]
            user = torch.cat([z[:, None], user[..., d:]], dim=-1)  # [P, 1, width]
        members, _ = prefixes(batch, self.config.members)  # [P, M]
        rows = torch.cat([user, self.items(members)], dim=1)  # [P, 1 + M, width]
        there = torch.cat([torch.ones_like(members[:, :1]), members], dim=1) > 0  # [P, 1 + M]
        return torch.cat([rows, there[..., None].to(rows.dtype)], dim=-1)


ENTRIES = {
    "masr": ModelEntry(
        MASR, MASRConfig, "MASR (SIGIR 2019): MDR, and attention over the session that user and candidate ask for together",
        paper=PAPER, needs=("user",), retrieved="scoring every pair",
        settings=as_the_authors({"name": "masr"}, weight_decay=1e-6),
        presets={
            "masr-mass": Preset(
                "MASS (SIGIR 2019): MASR's attention over the session alone",
                as_the_authors({"name": "masr", "parts": "mass"}, weight_decay=1e-6),
            ),
            "amasr": Preset(
                "AMASR (SIGIR 2019): MASR with adversarial training after its first epochs",
                as_the_authors({"name": "masr"}, weight_decay=1e-6, adversarial_weight=1.0, adversarial_after=3),
            ),
        },
    ),
}  # fmt: skip
