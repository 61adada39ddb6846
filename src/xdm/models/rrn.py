"""RRN: an LSTM over what the user clicked and one over what happened to each item, beside vectors that do not change.

Paper: Wu et al., "Recurrent Recommender Networks", WSDM 2017, https://doi.org/10.1145/3018661.3018689. The original regresses
ratings; what stands here instead, for implicit clicks and retrieval: docs/models/rrn.md. Item vectors belong to a time:
docs/decisions/0013-item-vectors-of-a-time.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from xdm.data.batches import Batch
from xdm.data.clicks import Clicks, TrainingLog
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry, Preset, Settings
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes, table
from xdm.models.shared.layers import RecurrentStack, linear, to_width
from xdm.models.shared.users import UserVectors
from xdm.models.shared.visits import Visits
from xdm.objectives.blockwise import hits_of
from xdm.objectives.samplers import LogUniform, everything
from xdm.objectives.softmax import sampled_softmax, target_weights
from xdm.schema import DAY, HOUR

if TYPE_CHECKING:
    from xdm.models.retrieval_model import RetrievalModel

CLOCK = 5  # how many numbers `clock` makes of a time
STATES_AT_ONCE = 1 << 16  # places of padded sequences that one pass over all items holds


class RRNConfig(BaseModel):
    """RRN's settings. Defaults: the authors' sizes as far as they are known."""

    model_config = ConfigDict(extra="forbid")
    tie_item_embedding: ClassVar[bool] = False  # item vectors are states and rows of their own

    name: Literal["rrn"] = "rrn"
    width: int = Field(20, ge=1, description="of the vectors that change with time, user's and item's")
    stationary: int = Field(20, ge=0, description="of the vectors that do not, user's and item's; 0 leaves them out")
    hidden: int = Field(40, ge=1, description="of the states of both LSTMs")
    item_width: int = Field(40, ge=1, description="of what enters the LSTMs: a clicked item, or a user who clicked")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    items: Literal["recurrent", "static"] = Field(
        "recurrent", description="recurrent: an LSTM over what happened to each item; static: item vectors of no time, the "
        "user's side alone, trained by the configured objective",
    )  # fmt: skip
    period: int = Field(DAY, ge=HOUR, description="seconds of a step of the items' time; a question sees whole periods before it")
    items_a_step: int = Field(128, ge=1, description="how many items a step of training goes through the items' LSTM with")
    negatives: int = Field(
        2000, ge=1, description="of items recurrent: items a label is compared with, one log-uniform sample a step; all, where "
        "these are half of the catalogue",
    )  # fmt: skip


class RRN(Encoder):
    """Queries ``[ũ_t ; u]``, item vectors ``[m̃_t ; m]``: a part that changes with time, and one that does not.

    In training an item's vector is that of the periods that ended before the question; where it is exported, that of the end of
    the training part.
    """

    of_catalogue = ("latest",)
    span: Tensor  # [2] int64: the training part's first click and its end, in seconds
    latest: Tensor  # [candidates + 1, hidden]: the state of each item at the end of the training part

    def __init__(self, config: RRNConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        self.config, self.interests = config, 1
        self.width = config.width + config.stationary
        self.items = ItemInputs(sizes, config.item_width, config.feature_width, codes)
        self.users = UserVectors(sizes, config.stationary) if config.stationary else NoUserInputs()
        self.project = to_width(self.items.width, config.item_width)
        self.of_click = linear(1 + 2 * CLOCK, config.item_width)  # of the newbie flag, τ and the τ before
        self.user_states = RecurrentStack("lstm", config.item_width, config.hidden, layers=1, dropout=0.0, residual=0)
        self.user_map = linear(config.hidden, config.width)  # A, a
        self.register_buffer("span", torch.tensor([0, 1]))
        self.item_side: ItemSide | None = None
        if config.items == "recurrent":
            self.item_side = ItemSide(config, sizes)
            self.register_buffer("latest", torch.zeros(sizes.n_candidates + 1, config.hidden))

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        of_items = self.project(self.items(batch.short))  # [B, T, item_width]
        times = clock(batch.short_time, self.span).to(of_items.dtype)  # [B, T, CLOCK]
        states = self.user_states(of_items + self.of_click(along(times)))  # [B, T, hidden]
        moving = self.user_map(states[batch.row, batch.position])  # [P, width]
        return torch.cat([moving, self.users(batch)[batch.row]], dim=-1)[:, None]

    # --- the items --------------------------------------------------------------------------------------------------

    def before_training(self, model: RetrievalModel, log: TrainingLog) -> None:
        """The span of the training part, and what happened in it to each item."""
        clicks = log.clicks
        self.span.copy_(torch.tensor([clicks.time[0] if len(clicks.time) else log.until - 1, log.until]))
        if self.item_side is not None:
            self.item_side.begin(Visits.of(clicks, len(self.latest) - 1, self.config.period), self.span)
            self.after_epoch(model)

    def after_epoch(self, model: RetrievalModel) -> None:
        """All items' states anew, with the weights as they stand."""
        if self.item_side is not None:
            self.item_side.refresh()
            self.latest.copy_(self.item_side.cache[self.item_side.visits.last()])

    def carried(self) -> dict[str, Tensor]:
        """The items' states, some of them of earlier steps."""
        return {} if self.item_side is None else {"cache": self.item_side.cache}

    def dated(self, vectors: Tensor, items: Tensor) -> Tensor:
        """``[m̃ ; m]`` at the end of the training part."""
        return vectors if self.item_side is None else self.moved(vectors, self.latest[items])

    def moved(self, vectors: Tensor, states: Tensor) -> Tensor:
        """Item vectors ``[..., d]``: rows ``vectors`` ``[..., d]`` of the table, and on their first part what the LSTM's ``states``
        ``[..., hidden]`` say: ``m̃ = B m_t + b``, where b is the item's own."""
        assert self.item_side is not None
        return vectors + F.pad(self.item_side.map(states), (0, self.config.stationary))

    def own_loss(
        self, queries: Tensor, targets: Tensor, batch: Batch, model: RetrievalModel, rng: np.random.Generator
    ) -> Tensor | None:
        """Sampled softmax, every item as it was when its point was asked; None where items are static.

        A step goes through the items' LSTM with some of its labels' items; all others' states are those of an earlier step.
        """
        if self.item_side is None:
            return None
        periods, order = (batch.time // self.config.period).sort(stable=True)  # [P] each: points of one period side by side
        queries, targets = model.scoring.queries(queries)[order, 0], targets[order]  # [P, d'], [P, M]
        n, labels = model.sizes.n_candidates, targets[:, 0].numpy()
        sample_all = 2 * self.config.negatives >= n
        drawn = everything(n) if sample_all else LogUniform(n, self.config.negatives).shared(rng, labels)
        columns = torch.from_numpy(drawn.items)  # [S]
        some = np.sort(rng.permutation(np.unique(labels))[: self.config.items_a_step])
        fresh = self.item_side.fresh(torch.from_numpy(some))
        positive = (queries[:, None] * self.as_of(periods[:, None], model, targets, model.vectors(targets), fresh)).sum(-1)  # [P, M]
        negative = self.scores(periods, queries, model, columns, fresh)  # [P, S]
        valid = torch.ones(negative.shape, dtype=torch.bool)
        valid[tuple(hits_of(targets, columns))] = False
        off_targets, off_columns = (
            torch.from_numpy(drawn.log_expected(items).astype(np.float32)) for items in (np.maximum(targets.numpy(), 1), drawn.items)
        )
        return sampled_softmax(positive - off_targets, negative - off_columns, target_weights(targets, positive.dtype), valid).mean()

    def scores(self, periods: Tensor, queries: Tensor, model: RetrievalModel, items: Tensor, fresh: Fresh) -> Tensor:
        """``[P, S]`` of ``queries`` ``[P, d']``, asked in ``periods`` ``[P]`` (rising), with ``items`` ``[S]``: a product of
        matrices for each period."""
        vectors = model.vectors(items)  # [S, d]
        asked, counts = periods.unique_consecutive(return_counts=True)
        return torch.cat([
            some @ self.as_of(period, model, items, vectors, fresh).T
            for period, some in zip(asked, queries.split(counts.tolist()), strict=True)
        ])  # fmt: skip

    def as_of(self, periods: Tensor, model: RetrievalModel, items: Tensor, vectors: Tensor, fresh: Fresh) -> Tensor:
        """Item vectors as they are scored, ``[..., d']``, by what happened before ``periods`` to ``items`` (shapes that go together),
        of their rows ``vectors`` ``[..., d]``."""
        assert self.item_side is not None
        return model.scoring.items(self.moved(vectors, self.item_side.states(items, periods, fresh)), None)


class Fresh(NamedTuple):
    """States of ``items`` ``[U]`` (rising) that were just computed: ``states`` ``[1 + N, hidden]``, one item's N visits after the
    other's, behind a row of zeros for none."""

    items: Tensor
    states: Tensor


class ItemSide(nn.Module):
    """``m_t = LSTM(m_{t-1}, W [who clicked in t ; log of how many ; newbie ; τ_t ; τ_{t-1}])`` over each item's periods with clicks.

    ``cache`` ``[V + 1, hidden]`` holds the state after every visit, row 0 the one before any; 4 · hidden bytes a visit, of which
    there are at most as many as clicks.
    """

    cache: Tensor

    def __init__(self, config: RRNConfig, sizes: Sizes) -> None:
        super().__init__()
        self.raters = table(sizes.n_users, config.item_width)  # the columns of W that belong to users
        self.of_visit = linear(2 + 2 * CLOCK, config.item_width)
        self.recurrent = RecurrentStack("lstm", config.item_width, config.hidden, layers=1, dropout=0.0, residual=0)
        self.map = linear(config.hidden, config.width, bias=False)  # B
        self.visits = Visits.of(Clicks(*np.zeros((3, 0), np.int64)), sizes.n_candidates, config.period)
        self.span = torch.tensor([0, 1])
        self.register_buffer("cache", torch.zeros(1, config.hidden), persistent=False)

    def begin(self, visits: Visits, span: Tensor) -> None:
        """Takes the visits of a training part, whose ``span`` is [first click, end]."""
        self.visits, self.span = visits, span
        self.cache = self.cache.new_zeros(len(visits) + 1, self.cache.shape[1])

    def inputs(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the LSTM reads of ``items`` ``[U]``: ``[U, L, item_width]``; and see `Visits.of_items`."""
        visits = self.visits
        visit, row, place = visits.of_items(items)  # [N] each
        users, begins = visits.users_of(visit)
        who = F.embedding_bag(users, self.raters.weight, begins, mode="mean")  # [N, item_width]
        count = (visits.users_from[visit + 1] - visits.users_from[visit]).to(who.dtype)  # [N]
        length = int(place.max()) + 1 if len(place) else 1
        told = who.new_zeros((len(items), length, 1 + CLOCK))
        middle = visits.period[visit] * visits.seconds + visits.seconds // 2
        told = told.index_put((row, place), torch.cat([count.log1p()[:, None], clock(middle, self.span)], dim=-1))
        of_visit = torch.cat([told[..., :1], along(told[..., 1:])], dim=-1)  # [U, L, 2 + 2 CLOCK]
        x = who.new_zeros((len(items), length, who.shape[1])).index_put((row, place), who)
        return x + self.of_visit(of_visit), visit, row, place

    def fresh(self, items: Tensor) -> Fresh:
        """The states of ``items`` ``[U]`` (rising) by the weights as they stand, with their gradient. The cache keeps them."""
        x, visit, row, place = self.inputs(items)
        after = self.recurrent(x)[row, place]  # [N, hidden]
        self.cache[visit + 1] = after.detach()
        return Fresh(items, F.pad(after, (0, 0, 1, 0)))

    def states(self, items: Tensor, periods: Tensor, fresh: Fresh) -> Tensor:
        """``[..., hidden]``: the state of ``items`` by the visits before ``periods`` (shapes that go together), with a gradient for
        the ``fresh`` ones."""
        visits = self.visits
        visit = visits.before(items, periods.expand(items.shape))
        slot = torch.searchsorted(fresh.items, items).clamp(max=len(fresh.items) - 1)
        anew = fresh.items[slot] == items
        lengths = visits.first[fresh.items + 1] - visits.first[fresh.items]  # [U]
        begins = lengths.cumsum(0) - lengths  # [U]: where each of them begins among the fresh states
        place = visit[anew] - visits.first[items[anew]] + begins[slot[anew]]
        return self.cache[visit].index_put((anew,), fresh.states[torch.where(visit[anew] > 0, place, 0)])

    def refresh(self) -> None:
        """All states anew, in passes of items with about as many visits each."""
        lengths = self.visits.first[2:] - self.visits.first[1:-1]
        order = lengths.argsort(stable=True) + 1
        order = order[lengths[order - 1] > 0]
        while len(order):
            count = max(1, STATES_AT_ONCE // int(lengths[order[-1] - 1]))
            self.fresh(order[-count:])
            order = order[:-count]


def clock(seconds: Tensor, span: Tensor) -> Tensor:
    """τ: what a wall clock says at ``seconds`` int64 ``[...]``: ``[..., CLOCK]``. How much of the ``span`` [begin, end] is over, from
    0 to 1, which it keeps after the end; and the hour of the day and of the week, each as a point of a circle."""
    share = ((seconds - span[0]).to(torch.float32) / (span[1] - span[0]).to(torch.float32)).clamp(0, 1)
    angles = [(seconds % turn).to(torch.float32) * (2 * math.pi / turn) for turn in (DAY, 7 * DAY)]
    return torch.stack([share, *(f(angle) for angle in angles for f in (torch.sin, torch.cos))], dim=-1)


def along(times: Tensor) -> Tensor:
    """``[newbie ; τ_t ; τ_{t-1}]`` of steps at ``times`` ``[B, T, CLOCK]``: ``[B, T, 1 + 2 CLOCK]``; zeros before the first."""
    before = F.pad(times[:, :-1], (0, 0, 1, 0))
    newbie = F.pad(torch.zeros_like(times[:, :-1, :1]), (0, 0, 1, 0), value=1.0)
    return torch.cat([newbie, times, before], dim=-1)


_SETTINGS: Settings = {**IDS_ALONE, "behaviours": {"history_max": 50}, "training": {"batch_size": 32}}
ENTRIES = {
    "rrn": ModelEntry(
        RRN, RRNConfig, "RRN (WSDM 2017) for clicks: an LSTM over the user's clicks, one over what happened to each item",
        paper="Wu et al., WSDM 2017, doi 10.1145/3018661.3018689", needs=("user", "times"),
        label="RRN-style implicit: the original regresses ratings",
        settings=_SETTINGS,
        presets={
            "rrn-user": Preset(
                "RRN's user side alone: item vectors of no time", {**_SETTINGS, "model": {"name": "rrn", "items": "static"}}
            ),
        },
    ),
}  # fmt: skip
