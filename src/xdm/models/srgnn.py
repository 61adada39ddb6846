"""SR-GNN: the session as a graph of its items, through a gated graph network.

Paper: Wu et al., "Session-based Recommendation with Graph Neural Networks", AAAI 2019, arXiv 1811.00855.
Differences to the original: docs/models/srgnn.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes
from xdm.models.shared.layers import to_width
from xdm.models.shared.pooling import group_sums
from xdm.models.shared.prefixes import prefixes


class SRGNNConfig(BaseModel):
    """SR-GNN's settings. Defaults: the authors'."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["srgnn"] = "srgnn"
    width: int = Field(100, ge=1, description="d: of nodes, queries and item vectors")
    steps: int = Field(1, ge=1, le=8, description="rounds of messages between neighbours")
    window: int = Field(50, ge=1, description="how many of the last clicks make the graph; the authors read all of a session")
    hybrid: bool = Field(True, description="join the attention's sum with the last click; false: the sum alone")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the authors: ids alone")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")


class SRGNN(Encoder):
    """Messages along the session's graph, then soft attention over the clicks, asked by the last one.

    A graph of a whole session would know the clicks that come later, so every point has a graph of its own.
    """

    def __init__(self, config: SRGNNConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests = d, 1
        self.window, self.steps = config.window, config.steps
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.cell = GraphCell(d)
        self.of_last, self.of_click = nn.Linear(d, d), nn.Linear(d, d)
        self.weigh = nn.Linear(d, 1, bias=False)
        self.join = nn.Linear(2 * d, d) if config.hybrid else None
        for weight in self.parameters():
            nn.init.uniform_(weight, -(d**-0.5), d**-0.5)
        for table in self.items.tables:
            assert isinstance(table, nn.Embedding)
            nn.init.zeros_(table.weight[0])

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        items, lengths = prefixes(batch, self.window)  # [P, window], [P]
        items = items[:, : batch.short.shape[1]]  # [P, L]: no prefix is longer than the longest session
        graphs = session_graphs(items, lengths)
        nodes = self.project(self.items(graphs.item))  # [C, d]
        for _ in range(self.steps):
            nodes = self.cell(nodes, graphs)  # [C, d]
        clicks = nodes[graphs.node]  # [C, d]
        last = clicks[graphs.last]  # [P, d]
        inner = torch.sigmoid(self.of_last(last)[graphs.of] + self.of_click(clicks))  # [C, d]
        weighted = self.weigh(inner) * clicks  # [C, d]: no softmax, so that every click adds to the sum
        pooled = group_sums(weighted, graphs.of, items.shape[0])  # [P, d]
        query = pooled if self.join is None else self.join(torch.cat([pooled, last], dim=-1))  # [P, d]
        return query[:, None]


@dataclass(frozen=True)
class Graphs:
    """The graphs of P sessions side by side, with C clicks, oldest first, and E edges; all int64.

    An item's node is its first click in the session. The other clicks on it are nodes without edges, which nothing reads.
    """

    item: Tensor  # [C]: the item of each click
    of: Tensor  # [C]: its session
    node: Tensor  # [C]: the node of its item, a number of a click
    last: Tensor  # [P]: the last click of each session
    source: Tensor  # [E]: the node that an edge leaves; each edge stands once, however often it was walked
    target: Tensor  # [E]: the node of the next click


def session_graphs(items: Tensor, lengths: Tensor) -> Graphs:
    """The graphs of ``items`` int64 ``[P, L]``, of which the first ``lengths`` ``[P]``, at least one, are clicks."""
    points, length = items.shape
    places = torch.arange(length, device=items.device)  # [L]
    inside, followed = places < lengths[:, None], places + 1 < lengths[:, None]  # each [P, L]
    first = first_places(items)  # [P, L]
    step = torch.where(followed, first * length + first.roll(-1, 1), -1)  # [P, L]: from which node to which
    edge = followed & (first_places(step) == places)  # [P, L]: steps that were not walked before
    starts = lengths.cumsum(0) - lengths  # [P]: the number of each session's first click
    node = starts[:, None] + first  # [P, L]
    of = torch.arange(points, device=items.device)[:, None].expand(-1, length)  # [P, L]
    return Graphs(items[inside], of[inside], node[inside], starts + lengths - 1, node[edge], node.roll(-1, 1)[edge])


def first_places(values: Tensor) -> Tensor:
    """For each place of ``values`` ``[P, L]`` the first place of its row that holds the same: int64 ``[P, L]``."""
    return (values[:, :, None] == values[:, None, :]).to(torch.uint8).argmax(dim=-1)  # of equal ones argmax gives the first


class GraphCell(nn.Module):
    """One round of messages along the edges, both ways, and a gated update of every node.

    The update gate keeps the old state, as in the authors' code; in the paper's equation it lets the new one in.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.from_before, self.from_after = nn.Linear(width, width), nn.Linear(width, width)
        self.before_bias, self.after_bias = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.of_messages, self.of_nodes = nn.Linear(2 * width, 3 * width), nn.Linear(width, 3 * width)

    def forward(self, nodes: Tensor, graphs: Graphs) -> Tensor:
        """``nodes`` ``[C, d]`` to ``[C, d]``."""
        before = averages(self.from_before(nodes)[graphs.source], graphs.target, nodes.shape[0]) + self.before_bias  # [C, d]
        after = averages(self.from_after(nodes)[graphs.target], graphs.source, nodes.shape[0]) + self.after_bias  # [C, d]
        a_reset, a_update, a_new = self.of_messages(torch.cat([before, after], dim=-1)).chunk(3, dim=-1)  # each [C, d]
        h_reset, h_update, h_new = self.of_nodes(nodes).chunk(3, dim=-1)  # each [C, d]
        reset, update = torch.sigmoid(a_reset + h_reset), torch.sigmoid(a_update + h_update)  # each [C, d]
        new = torch.tanh(a_new + reset * h_new)  # [C, d]
        return new + update * (nodes - new)  # [C, d]


def averages(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """``[groups, d]``: the mean of the rows of ``values`` ``[E, d]`` in each ``group`` ``[E]``; zeros where there is none."""
    counts = group_sums(torch.ones_like(values[:, :1]), group, groups)  # [groups, 1]
    return group_sums(values, group, groups) / counts.clamp(min=1)


ENTRIES = {
    "srgnn": ModelEntry(
        SRGNN, SRGNNConfig, "SR-GNN (AAAI 2019): the session as a graph of its items, through a gated graph network",
        paper="Wu et al., AAAI 2019, arXiv 1811.00855", needs=("sessions",),
        settings={
            **IDS_ALONE, "data": {"label_scope": "session"}, "objective": {"name": "softmax"},
            "training": {
                "order": "points", "batch_size": 100, "learning_rate": 1e-3, "weight_decay": 1e-5, "decay": 0.1, "decay_epochs": 3,
            },
        },
    ),
}  # fmt: skip
