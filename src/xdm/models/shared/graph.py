"""Sessions as graphs of their items, and a round of messages along their edges. Shared by SR-GNN and GC-SAN.

Paper: Wu et al., "Session-based Recommendation with Graph Neural Networks", AAAI 2019, arXiv 1811.00855, sections 3.2 and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xdm.models.shared.pooling import group_sums


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
