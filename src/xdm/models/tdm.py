"""TDM: a tree over the items, and one network that says of every node whether the user will click something below it.

Paper: Zhu et al., "Learning Tree-based Deep Model for Recommender Systems", KDD 2018, arXiv 1801.02294. Recommending is a beam
search from the root (`xdm.retrieval.tree`); the tree itself is learned in turn with the network (`xdm.retrieval.tree_building`).
Differences to the original: docs/models/tdm.md.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry, Preset, Settings
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes
from xdm.models.shared.layers import to_width
from xdm.models.shared.scoring import PairScoring
from xdm.retrieval.tree import ItemTree
from xdm.retrieval.tree_building import depth_of, first_leaves, learned_leaves, node_means
from xdm.schema import ConfigError, nearest

if TYPE_CHECKING:
    from xdm.models.retrieval_model import RetrievalModel

Norm = Literal["batch", "layer"]
HIDDEN_AT_ONCE = 1 << 23  # hidden units of the attention that are held at once: 32 MiB


class TDMConfig(BaseModel):
    """TDM's settings. Defaults: the authors', unless said otherwise."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["tdm"] = "tdm"
    variant: Literal["inner_product", "attention"] = Field(
        "inner_product",
        description="inner_product: a user vector times a node's (the paper's product-DNN); attention: behaviours weighed by the "
        "node, the paper's best and hundreds of times the work: not the default here, on processors",
    )
    width: int = Field(24, ge=1, description="d: of item and node vectors")
    windows: tuple[int, ...] = Field(
        (1, 1, 1, 2, 2, 2, 10, 10, 20, 20),
        min_length=1,
        description="clicks of each time window, from the latest click back",
    )
    hidden: tuple[int, ...] = Field(
        (128, 64), description="widths of the dense layers before the last, which has d units"
    )
    attention_hidden: int = Field(36, ge=1, description="hidden units of the attention on a behaviour and a node")
    norm: Norm = Field(
        "batch", description="in the dense layers; layer: independent of what stands in a batch together"
    )
    negatives: tuple[int, ...] = Field(
        (200, 76, 30, 25, 22, 19, 17, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1), min_length=1,
        description="nodes of each level drawn beside the label's, from the leaves up; the last stands for all above",
    )  # fmt: skip
    negatives_for: Literal["batch", "label"] = Field(
        "batch", description="nodes drawn for a whole batch, one matrix product; or for each label, as the authors do"
    )
    category: str | None = Field(
        None,
        description="the item feature by which the first tree is ordered; null: 'category' if there is one, else at random",
    )
    tree_epochs: int = Field(
        1,
        ge=0,
        description="epochs between two learnings of the tree; 0 keeps the first. The paper trains to convergence between",
    )
    beam: int = Field(400, ge=1, description="nodes of each level that the search goes on from")
    feature_width: int = Field(
        0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone"
    )
    tie_item_embedding: bool = Field(True, description="a leaf's vector is the input vector of its item")


class TDM(Encoder):
    """Clicks in time windows; the score of a node by inner product, or by attention (`NodeAttention`)."""

    of_catalogue = ("nodes.weight", "leaves")
    leaves: Tensor
    seed: Tensor

    def __init__(self, config: TDMConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`.

        Raises:
            ConfigError: ``category`` names no item feature.
        """
        super().__init__()
        d = config.width
        self.config, self.width = config, d
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.layers: nn.Module | None = None
        if config.variant == "attention":
            self.interests = sum(config.windows)
            self.scoring = NodeAttention(config)
        else:
            self.interests = 1
            inner = [Dense(*widths, config.norm) for widths in pairwise((len(config.windows) * d, *config.hidden))]
            self.layers = nn.Sequential(*inner, dense((config.hidden or (len(config.windows) * d,))[-1], d))
        # The tree: node c is row c, a leaf's vector is its item's. Leaves and seed are state, for runs that go on.
        self.depth = depth_of(sizes.n_candidates)
        self.nodes = nn.Embedding(2**self.depth, d, padding_idx=0)
        self.register_buffer("seed", torch.randint(2**31, (1,)))
        leaves = first_leaves(
            categories(config, sizes, codes), sizes.n_candidates, np.random.default_rng([int(self.seed), 0])
        )
        self.register_buffer("leaves", torch.from_numpy(np.concatenate([[0], leaves])))  # [N + 1], by item index
        for table in (self.items.tables[0], self.nodes):
            assert isinstance(table, nn.Embedding)
            with torch.no_grad():
                nn.init.normal_(table.weight, std=0.001)[0] = 0

    def encode(self, batch: Batch) -> Tensor:
        """A user vector at every point, ``[P, 1, d]``; for the attention the clicks themselves, the latest first, zeros
        past the first one: ``[P, sum(windows), d]``."""
        x = F.pad(self.project(self.items(batch.short)), (0, 0, 1, 0))  # [B, 1 + T, d]: zeros stand before the first click
        at = batch.position[:, None] + 1 - torch.arange(sum(self.config.windows), device=x.device)  # [P, clicks]
        clicks = x[batch.row[:, None], at.clamp(min=0)]  # [P, clicks, d]
        if self.layers is None:
            return clicks
        windows = [window.mean(dim=1) for window in clicks.split(self.config.windows, dim=1)]  # each [P, d]
        return self.layers(torch.cat(windows, dim=-1))[:, None]  # [P, 1, d]

    # --- the loss ---------------------------------------------------------------------------------------------------

    def own_loss(
        self, queries: Tensor, targets: Tensor, batch: Batch, model: RetrievalModel, rng: np.random.Generator
    ) -> Tensor:
        """Binary cross-entropy over the label's path, which is positive, and nodes drawn from its levels: the sum over a level's
        nodes, its mean over labels and levels. The root is left out: it is positive for everyone.
        """
        if not self.depth:
            return queries.sum() * 0
        path = self.leaves[targets][..., None] >> torch.arange(
            self.depth - 1, 0, -1, device=targets.device
        )  # [P, M, depth - 1]
        positives = torch.cat([self.nodes(path), model.vectors(targets)[:, :, None]], dim=2).flatten(
            1, 2
        )  # [P, M · depth, d]
        present = (targets > 0)[..., None].expand(-1, -1, self.depth).flatten(1)  # [P, M · depth]
        nodes, items = self.draw(targets, rng)  # [1 or P, S'], [1 or P, S'']
        negatives = torch.cat([self.nodes(nodes), model.vectors(items)], dim=1)  # [1 or P, S, d]
        own = torch.cat(
            [self.above(nodes, targets), (items[:, None] == targets[..., None]).any(dim=1)], dim=1
        )  # [P, S]
        scores = self.score(queries, positives, negatives)  # [P, M · depth + S]
        labels = torch.cat([torch.ones_like(present), torch.zeros_like(own)], dim=1).to(scores.dtype)
        kept = torch.cat([present, ~own], dim=1).to(scores.dtype)  # [P, M · depth + S]
        return F.binary_cross_entropy_with_logits(scores, labels, kept, reduction="sum") / present.sum()

    def score(self, queries: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """``[P, S' + S]`` of ``positives`` ``[P, S', d]`` and ``negatives`` ``[1 or P, S, d]``, in one pass through the layers."""
        if isinstance(self.scoring, NodeAttention):
            parts = [self.scoring.inputs(queries, nodes) for nodes in (positives, negatives)]
            return self.scoring.logits(torch.cat(parts, dim=1))
        both = (
            [queries[:, 0] @ negatives[0].T] if len(negatives) == 1 else [(negatives @ queries.transpose(1, 2))[..., 0]]
        )
        return torch.cat([(positives @ queries.transpose(1, 2))[..., 0], *both], dim=1)

    def draw(self, targets: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Inner nodes ``[1 or P, S']`` and items ``[1 or P, S'']``, evenly from each level; whole levels where they are small."""
        first = targets[:, :1].numpy()  # [P, 1]
        nodes = [np.zeros((1 if self.config.negatives_for == "batch" else len(first), 0), np.int64)]
        for level in range(1, self.depth):
            own = (self.leaves[first].numpy() >> (self.depth - level)) - 2**level  # [P, 1]
            nodes.append(2**level + self._drawn(2**level, level, own, rng))
        items = 1 + self._drawn(len(self.leaves) - 1, self.depth, first - 1, rng)
        return torch.from_numpy(np.concatenate(nodes, axis=1)), torch.from_numpy(items)

    def _drawn(self, size: int, level: int, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Places in a level of ``size`` nodes: ``[1, n]`` for the batch, or ``[P, n]`` beside each label's ``own`` ``[P, 1]``."""
        counts, above = self.config.negatives, self.depth - level
        count = counts[min(above, len(counts) - 1)]
        if self.config.negatives_for == "batch":
            return (np.arange(size) if count >= size - 1 else rng.choice(size, count, replace=False))[None]
        steps = np.arange(size - 1)[None] if count >= size - 1 else rng.integers(size - 1, size=(len(own), count))
        return (own + 1 + steps) % size  # every other place lies 1 to size - 1 steps on

    def above(self, nodes: Tensor, targets: Tensor) -> Tensor:
        """Which inner ``nodes`` ``[1 or P, S]`` lie above one of the point's ``targets`` ``[P, M]``: bool ``[P, S]``."""
        levels = torch.frexp(nodes.double()).exponent - 1  # [1 or P, S]
        path = self.leaves[targets][..., None] >> (self.depth - levels)[:, None]  # [P, M, S]
        return (path == nodes[:, None]).any(dim=1)

    # --- the tree ---------------------------------------------------------------------------------------------------

    def before_epoch(self, model: RetrievalModel, epoch: int) -> None:
        """Learn the tree anew from the item vectors, every ``tree_epochs`` epochs."""
        if epoch and self.config.tree_epochs and not epoch % self.config.tree_epochs:
            self.learn(model, epoch)

    def renew(self, model: RetrievalModel) -> None:
        """A tree of the new catalogue, from what the item vectors know already."""
        self.learn(model, 0)

    def learn(self, model: RetrievalModel, draw: int) -> None:
        """Put the tree that the item vectors give in the place of this one; a node starts as the mean of its items."""
        vectors = model.item_vectors().detach().cpu().numpy()
        leaves = learned_leaves(vectors, np.random.default_rng([int(self.seed), 1, draw]))
        self.leaves[1:] = torch.from_numpy(leaves)
        self.nodes.weight.copy_(torch.from_numpy(node_means(leaves, vectors)))

    def item_tree(self) -> ItemTree:
        """The tree as it stands."""
        return ItemTree(self.nodes.weight.detach().cpu().numpy(), self.leaves[1:].cpu().numpy(), self.config.beam)


class NodeAttention(PairScoring):
    """The score of a node: clicks weighed by the node, their sums by time window beside the node through dense layers."""

    def __init__(self, config: TDMConfig) -> None:
        super().__init__()
        d, hidden = config.width, config.attention_hidden
        self.windows = config.windows
        # One dense layer on [click; click ⊙ node; node], in three parts: two of them need no pair.
        self.click = dense(d, hidden, fan_in=3 * d)
        self.product, self.node = (dense(d, hidden, fan_in=3 * d, bias=False) for _ in range(2))
        nn.init.zeros_(self.click.bias)  # 0.1 would hold every unit above zero, where PReLU is linear, while item vectors are small
        self.slope = nn.Parameter(torch.full((hidden,), 0.25))
        self.weigh = dense(hidden, 1)
        widths = ((len(config.windows) + 1) * d, *config.hidden, d)
        self.layers = nn.Sequential(*[Dense(*pair, config.norm) for pair in pairwise(widths)])
        self.logit = dense(d, 1)

    def scores(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """See `PairScoring`."""
        return self.logits(self.inputs(queries, vectors if vectors.dim() == 3 else vectors[None]))

    def logits(self, x: Tensor) -> Tensor:
        """``[P, S]`` of `inputs` ``[P, S, (windows + 1) · d]``."""
        return self.logit(self.layers(x.flatten(0, 1))).reshape(x.shape[0], x.shape[1])

    def inputs(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """Windows and node beside each other, ``[P, S, (windows + 1) · d]``, of clicks ``[P, K, d]`` and nodes ``[1 or P, S, d]``."""
        if torch.onnx.is_in_onnx_export():  # a graph cannot look at sizes to choose
            pooled = self.pooled(queries, vectors)
        else:
            # Padding stands at the end and adds zeros. The hidden units of all pairs at once would be gigabytes.
            used = queries.any(dim=-1).any(dim=0).nonzero()
            queries = queries[:, : 1 + (int(used.max()) if len(used) else 0)]
            size = max(1, HIDDEN_AT_ONCE // (queries.shape[1] * max(1, vectors.shape[1]) * len(self.slope)))
            parts = [self._part(queries, vectors, slice(b, b + size)) for b in range(0, max(1, len(queries)), size)]
            pooled = torch.cat(parts)  # [P, S, windows · d]
        return torch.cat([pooled, vectors.expand(pooled.shape[0], -1, -1)], dim=-1)

    def _part(self, queries: Tensor, vectors: Tensor, part: slice) -> Tensor:
        vectors = vectors if len(vectors) == 1 else vectors[part]
        if torch.is_grad_enabled():  # the hidden units are computed again for the gradient rather than kept
            return checkpoint(self.pooled, queries[part], vectors, use_reentrant=False)
        return self.pooled(queries[part], vectors)

    def pooled(self, clicks: Tensor, nodes: Tensor) -> Tensor:
        """Of every window the sum of its weighed clicks over its length: ``[P, S, windows · d]``. Weights are not normalised."""
        scaled = (nodes[:, :, None] * self.product.weight).flatten(1, 2)  # [1 or P, S · hidden, d]
        hidden = clicks @ scaled.transpose(1, 2)  # [P, K, S · hidden]
        hidden = hidden.reshape(clicks.shape[0], clicks.shape[1], nodes.shape[1], -1)  # [P, K, S, hidden]
        hidden = hidden + self.click(clicks)[:, :, None] + self.node(nodes)[:, None]  # [P, K, S, hidden]
        weights = self.weigh(prelu(hidden, self.slope))[..., 0].transpose(1, 2)  # [P, S, K]
        pooled, begin = [], 0
        for length in self.windows:
            window = slice(begin, begin + length)
            pooled.append(weights[..., window] @ clicks[:, window] / length)  # [P, S, d]
            begin += length
        return torch.cat(pooled, dim=-1)


class Dense(nn.Module):
    """A dense layer, its norm, and a PReLU with a slope for each unit."""

    def __init__(self, width_in: int, width_out: int, norm: Norm) -> None:
        super().__init__()
        self.linear = dense(width_in, width_out, bias=False)  # the norm has one
        self.norm = nn.BatchNorm1d(width_out, eps=1e-3) if norm == "batch" else nn.LayerNorm(width_out)
        self.slope = nn.Parameter(torch.full((width_out,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """``[rows, width_in]`` to ``[rows, width_out]``."""
        x = self.linear(x)
        if (
            isinstance(self.norm, nn.BatchNorm1d) and len(x) == 1
        ):  # one row has no variance: it takes the running figures
            norm = self.norm
            x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            x = self.norm(x)
        return prelu(x, self.slope)


def dense(width_in: int, width_out: int, *, fan_in: int = 0, bias: bool = True) -> nn.Linear:
    """A dense layer as the authors draw it: weights of deviation 1/sqrt(``fan_in``, by default ``width_in``), biases 0.1."""
    layer = nn.Linear(width_in, width_out, bias=bias)
    nn.init.normal_(layer.weight, std=(fan_in or width_in) ** -0.5)
    if bias:
        nn.init.constant_(layer.bias, 0.1)
    return layer


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """max(x, 0) + slope · min(x, 0), a slope for each unit of the last dimension."""
    return x.clamp(min=0) + slope * x.clamp(max=0)


def categories(config: TDMConfig, sizes: Sizes, codes: np.ndarray) -> np.ndarray | None:
    """The category of every candidate ``[N]`` that the first tree goes by; None for a random order."""
    names = list(sizes.features)
    name = config.category if config.category is not None else "category" if "category" in names else None
    if name is None:
        return None
    if name not in names:
        raise ConfigError(f"model.category: the store has no item feature '{name}'.{nearest(name, names)}")
    return codes[1 + names.index(name), 1 : sizes.n_candidates + 1]


# 69 clicks are those of TDM's time windows; its authors take some 60 labels a step, a row of 69 clicks alone.
_SETTINGS: Settings = {**IDS_ALONE, "behaviours": {"history_max": 69}, "training": {"batch_size": 16}}
ENTRIES = {
    "tdm": ModelEntry(
        TDM, TDMConfig, "TDM (KDD 2018): a tree over the items, learned in turn with the network and searched level by level",
        paper="Zhu et al., KDD 2018, arXiv 1801.02294", retrieved="beam search over a tree",
        settings=_SETTINGS,
        presets={
            "tdm-attention": Preset(
                "TDM with attention: behaviours weighed by each node; hundreds of times the work",
                {**_SETTINGS, "model": {"name": "tdm", "variant": "attention"}},
            ),
        },
    ),
}  # fmt: skip
