"""METAS: what a user does with an item is a point of an action space; the likely ones lie near the point of the user's behaviour.

Paper: Lee, Park, Ju, Hwang and Yu, "Action Space Learning for Heterogeneous User Behavior Prediction", IJCAI 2019, pages 2830-2836.
Here the types of action are clicked and skipped. Differences to the original: docs/models/metas.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.data.clicks import TrainingLog
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry
from xdm.models.shared.exposures import CLICKED, SKIPPED, Acted, skipped_before
from xdm.models.shared.inputs import ItemInputs, Sizes, glorot
from xdm.models.shared.layers import Dropout, linear
from xdm.models.shared.scoring import PairScoring
from xdm.models.shared.users import UserVectors, into_ball

if TYPE_CHECKING:
    from xdm.models.retrieval_model import RetrievalModel

AT_ONCE = 1 << 18  # numbers of candidates' actions that are held at once while triplets are mined: what fits a cache


class METASConfig(BaseModel):
    """METAS's settings. Defaults: the authors' script."""

    model_config = ConfigDict(extra="forbid")
    tie_item_embedding: ClassVar[bool] = True  # one vector an item
    reads_stream: ClassVar[bool] = True  # in training

    name: Literal["metas"] = "metas"
    width: int = Field(250, ge=1, description="d: of the vectors of users, items and types, and of every layer")
    layers: int = Field(1, ge=1, le=3, description="layers of the behaviour's and of the action's network")
    dropout: float = Field(0.5, ge=0, lt=1, description="behind every layer")
    margin: float = Field(2.0, ge=0, description="alpha: of the triplet loss")
    candidates: int = Field(400, ge=1, description="items drawn for each step, of which negatives are mined")
    negatives: int = Field(3, ge=1, description="negatives of a positive, at most: of the candidates that violate the margin")
    skips: int = Field(1, ge=0, description="skipped items drawn before each click; 0: clicks alone")
    strangers: float = Field(
        0.1, ge=0, lt=1, description="share of the points in training whose user is asked for as one whom nobody knows: by the mean "
        "of the items clicked so far; 0 as the authors, who know all users"
    )  # fmt: skip


class Network(nn.Module):
    """Layers ``relu(W x + b)``, with dropout behind each; the first layer's input is a concatenation of ``parts`` vectors."""

    def __init__(self, parts: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(linear(parts * width if layer == 0 else width, width) for layer in range(layers))
        for layer in self.layers:
            nn.init.uniform_(layer.bias, -math.sqrt(3 / width), math.sqrt(3 / width))  # type: ignore[arg-type]
        self.dropout = Dropout(dropout)

    def part(self, x: Tensor, place: int) -> Tensor:
        """What ``x`` ``[..., d]``, the part at ``place``, adds to the first layer: ``[..., d]``."""
        d = x.shape[-1]
        return x @ self.layers[0].weight[:, place * d : (place + 1) * d].T  # type: ignore[index]

    def forward(self, sums: Tensor) -> Tensor:
        """``[..., d]`` from the ``sums`` of all parts, ``[..., d]``."""
        x = self.dropout(torch.relu(sums + self.layers[0].bias))  # type: ignore[operator]
        for layer in list(self.layers)[1:]:
            x = self.dropout(torch.relu(layer(x)))
        return x


class METASScoring(PairScoring):
    """``-|g(u, t) - f(u, i, t)|`` with t clicked. Queries are users' vectors û; item vectors are already what î adds to the first
    layer of f, computed once an item."""

    kind = "pairs_layered"

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.types = nn.Embedding(3, width, padding_idx=0)  # by action, see `xdm.models.shared.exposures`
        glorot(self.types)
        self.behaviour, self.action = Network(2, width, layers, dropout), Network(3, width, layers, dropout)

    def queries(self, z: Tensor) -> Tensor:
        return into_ball(z)

    def items(self, v: Tensor, bias: Tensor | None) -> Tensor:
        return self.action.part(into_ball(v), 1)

    def anchors(self, users: Tensor, kind: int) -> Tensor:
        """g: ``[P, d]`` of ``users`` ``[P, d]`` and the type ``kind``."""
        t = into_ball(self.types.weight[kind])  # [d]
        return self.behaviour(self.behaviour.part(users, 0) + self.behaviour.part(t, 1))

    def actions(self, users: Tensor, vectors: Tensor, kind: int) -> Tensor:
        """f: ``[P, S, d]`` of ``users`` ``[P, d]``, item ``vectors`` ``[S, d]`` or ``[P, S, d]`` and the type ``kind``."""
        t = into_ball(self.types.weight[kind])  # [d]
        return self.action((self.action.part(users, 0) + self.action.part(t, 2))[:, None] + vectors)

    def scores(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """See `PairScoring`; K is 1."""
        users = queries[:, 0]  # [P, d]
        return -norm(self.anchors(users, CLICKED)[:, None] - self.actions(users, vectors, CLICKED))


def norm(x: Tensor) -> Tensor:
    """``|x|`` along the last dimension; at 0 its gradient is 0, not NaN."""
    squares = x.square().sum(dim=-1)
    some = squares > 0
    return torch.where(some, torch.where(some, squares, 1.0).sqrt(), 0.0)


class METAS(Encoder):
    """The user's vector is the query; it is searched as the type clicked."""

    users: UserVectors
    scoring: METASScoring

    def __init__(self, config: METASConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`; ids alone are read."""
        super().__init__()
        d = config.width
        self.config, self.width, self.interests = config, d, 1
        self.items = ItemInputs(sizes, d, 0, codes)
        self.users = UserVectors(sizes, d)
        self.scoring = METASScoring(d, config.layers, config.dropout)
        for table in (self.users.vectors, self.items.tables[0]):
            glorot(table)
        self.acted = {kind: Acted.nobody(sizes.n_items) for kind in (CLICKED, SKIPPED)}

    def before_training(self, model: object, log: TrainingLog) -> None:
        """Who did what: none of it is drawn as a negative."""
        n_items = self.items.codes.shape[1] - 1
        self.acted = {kind: Acted(*log.pairs(kind == CLICKED), n_items) for kind in (CLICKED, SKIPPED)}

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        return self.users.at_points(batch, self.items, self.config.strangers)

    def own_loss(
        self, queries: Tensor, targets: Tensor, batch: Batch, model: RetrievalModel, rng: np.random.Generator
    ) -> Tensor:
        """``[|g - f⁺| - |g - f⁻| + alpha]+``, the mean over the mined triplets of clicks and skips. Only the first target counts."""
        config, n = self.config, model.sizes.n_candidates
        users = self.scoring.queries(queries)[:, 0]  # [P, d]
        positives = {CLICKED: targets[:, :1]}
        if config.skips:
            positives[SKIPPED] = skipped_before(batch, rng.random((len(users), config.skips)), n)
        drawn = rng.choice(n, min(n, config.candidates), replace=False) + 1
        known = batch.user[batch.row].cpu().numpy()
        candidates = torch.from_numpy(drawn).to(targets.device)  # [M]
        hinges = []
        for kind, items in positives.items():
            acted = torch.from_numpy(self.acted[kind].holds(known, drawn[None])).to(targets.device)  # [P, M]
            free = ~acted & (candidates[None, :, None] != items[:, None]).all(dim=2)  # [P, M]
            hinges.append(self._hinges(users, items, self.mined(users, items, candidates, free, kind, model, rng), kind, model))
        every = torch.cat(hinges)
        return every.sum() / max(1, len(every))

    @torch.no_grad()
    def mined(
        self, users: Tensor, positives: Tensor, candidates: Tensor, free: Tensor, kind: int, model: RetrievalModel,
        rng: np.random.Generator,
    ) -> Tensor:  # fmt: skip
        """Negatives ``[P, k, S]``, 0 for none, of ``positives`` ``[P, k]``: at random of the ``candidates`` ``[M]`` that are ``free``
        ``[P, M]`` and violate the margin, by distances without dropout."""
        training = self.scoring.training
        self.scoring.eval()
        near = self._distances(users, model.scored(positives), kind)  # [P, k]
        vectors = model.scored(candidates)  # [M, d]
        parts = users.split(max(1, AT_ONCE // vectors.numel()))
        far = torch.cat([self._distances(part, vectors, kind) for part in parts])  # [P, M]
        self.scoring.train(training)
        hard = (far[:, None] <= near[:, :, None] + self.config.margin) & free[:, None]  # [P, k, M]
        draws = torch.from_numpy(rng.random(hard.shape)).to(hard.device).masked_fill(~hard, -1.0)
        best, places = draws.topk(min(self.config.negatives, draws.shape[2]), dim=2)  # [P, k, S]
        return torch.where((best >= 0) & (positives > 0)[:, :, None], candidates[places], 0)

    def _distances(self, users: Tensor, vectors: Tensor, kind: int) -> Tensor:
        """``[P, S]``: how far the actions of ``users`` ``[P, d]`` with ``vectors`` ``[S, d]`` or ``[P, S, d]`` are from their
        behaviour."""
        return norm(self.scoring.anchors(users, kind)[:, None] - self.scoring.actions(users, vectors, kind))

    def _hinges(self, users: Tensor, positives: Tensor, negatives: Tensor, kind: int, model: RetrievalModel) -> Tensor:
        """``[triplets]``: the hinge of each of the ``negatives`` ``[P, k, S]`` that there is, with a dropout of its own."""
        point, place, _ = triplets = negatives.nonzero(as_tuple=True)
        user = users[point]  # [N, d]
        anchor = self.scoring.anchors(user, kind)[:, None]  # [N, 1, d]
        pair = torch.stack([positives[point, place], negatives[triplets]], dim=1)  # [N, 2]
        near, far = norm(anchor - self.scoring.actions(user, model.scored(pair), kind)).unbind(1)
        return torch.relu(near - far + self.config.margin)


ENTRIES = {
    "metas": ModelEntry(
        METAS, METASConfig, "METAS (IJCAI 2019): clicks and skips as points of an action space, triplets mined; scored pair by pair",
        paper="Lee et al., IJCAI 2019, doi 10.24963/ijcai.2019/392", needs=("user", "exposures"), retrieved="scoring every pair",
        settings={
            **IDS_ALONE, "behaviours": {"stream_max": 50},
            "training": {"order": "points", "batch_size": 200, "learning_rate": 1e-3},
        },
    ),
}  # fmt: skip
