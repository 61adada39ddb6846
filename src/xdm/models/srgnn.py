"""SR-GNN: the session as a graph of its items, through a gated graph network.

Paper: Wu et al., "Session-based Recommendation with Graph Neural Networks", AAAI 2019, arXiv 1811.00855.
Differences to the original: docs/models/srgnn.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry
from xdm.models.shared.graph import GraphCell, session_graphs
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
