"""GC-SAN: SR-GNN's graph of the session, then self-attention over its clicks.

Paper: Xu et al., "Graph Contextualized Self-Attention Network for Session-based Recommendation", IJCAI 2019,
doi 10.24963/ijcai.2019/547, section 3. Differences to the original: docs/models/gcsan.md.
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
from xdm.models.shared.layers import masked_softmax, to_width
from xdm.models.shared.prefixes import prefixes


class GCSANConfig(BaseModel):
    """GC-SAN's settings. Defaults: the paper's, where they are known."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["gcsan"] = "gcsan"
    width: int = Field(120, ge=1, description="d: of nodes, queries and item vectors")
    steps: int = Field(1, ge=1, le=8, description="rounds of messages between neighbours")
    blocks: int = Field(1, ge=1, le=8, description="k: blocks of self-attention; 1 to 4 in the paper")
    weight: float = Field(0.6, ge=0, le=1, description="ω: share of self-attention in the query; the rest is the last click's node")
    dropout: float = Field(0.2, ge=0, lt=1, description="within the feed-forward layers")
    window: int = Field(50, ge=1, description="how many of the last clicks make the graph; the paper's are whole sessions")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the paper: ids alone")
    tie_item_embedding: bool = Field(True, description="score items by their input vectors")


class GCSAN(Encoder):
    """``ω E_last + (1 - ω) h_last``: E from attention over the nodes h in the order of clicks.

    Graph and attention know the whole session, so every point has a row of its own.
    """

    def __init__(self, config: GCSANConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests, self.config = d, 1, config
        self.items = ItemInputs(sizes, d, config.feature_width, codes)
        self.users = NoUserInputs()
        self.project = to_width(self.items.width, d)
        self.cell = GraphCell(d)
        self.blocks = nn.ModuleList(Block(d, config.dropout) for _ in range(config.blocks))
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.1)
        for table in self.items.tables:
            assert isinstance(table, nn.Embedding)
            nn.init.zeros_(table.weight[0])

    def draw_scored(self, table: nn.Embedding) -> None:
        """N(0, 0.1²), as every other weight; its padding row stays zero."""
        nn.init.normal_(table.weight, std=0.1)
        nn.init.zeros_(table.weight[0])

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        items, lengths = prefixes(batch, self.config.window)  # [P, window], [P]
        items = items[:, : batch.short.shape[1]]  # [P, L]: no prefix is longer than the longest session
        graphs = session_graphs(items, lengths)
        nodes = self.project(self.items(graphs.item))  # [C, d]
        for _ in range(self.config.steps):
            nodes = self.cell(nodes, graphs)  # [C, d]
        inside = torch.arange(items.shape[1], device=items.device) < lengths[:, None]  # [P, L]
        first = (graphs.last + 1 - lengths)[:, None]  # [P, 1]: the number of each session's first click
        click = torch.where(inside, first + torch.arange(items.shape[1], device=items.device), 0)  # [P, L]
        h = nodes[graphs.node[click]] * inside[..., None]  # [P, L, d]: nodes in the order of clicks
        last = torch.arange(lengths.shape[0], device=items.device), lengths - 1
        e = h
        for block in self.blocks[:-1]:
            e = block(e, e, inside)  # [P, L, d]
        e = self.blocks[-1](e[last][:, None], e, inside)  # [P, 1, d]: nobody reads what it would make of the other clicks
        return self.config.weight * e + (1 - self.config.weight) * h[last][:, None]


class Block(nn.Module):
    """Scaled dot-product attention of one head, both ways along the row, and a feed-forward layer with a residual around it alone."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, asked: Tensor, seen: Tensor, inside: Tensor) -> Tensor:
        """``[P, M, d]``, of the places ``asked`` ``[P, M, d]`` among those ``seen`` ``[P, L, d]``; ``inside`` bool ``[P, L]`` where
        there are clicks."""
        scores = self.query(asked) @ self.key(seen).transpose(1, 2) * seen.shape[2] ** -0.5  # [P, M, L]
        f = masked_softmax(scores, inside[:, None].expand_as(scores)) @ self.value(seen)  # [P, M, d]
        return self.dropout(self.outer(self.dropout(torch.relu(self.inner(f))))) + f


ENTRIES = {
    "gcsan": ModelEntry(
        GCSAN, GCSANConfig, "GC-SAN (IJCAI 2019): SR-GNN's graph of the session, then self-attention over its clicks",
        paper="Xu et al., IJCAI 2019, doi 10.24963/ijcai.2019/547", needs=("sessions",),
        settings={
            **IDS_ALONE, "data": {"label_scope": "session"}, "objective": {"name": "softmax"},
            "training": {
                "order": "points", "batch_size": 50, "learning_rate": 1e-3, "weight_decay": 1e-5, "decay": 0.1, "decay_epochs": 3,
            },
        },
    ),
}  # fmt: skip
