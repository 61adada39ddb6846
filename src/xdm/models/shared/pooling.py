"""Pooling of item sequences of uneven length: many sequences, held flat, to one vector each.

XDM's unclicked sequences reach from none to 100 items and there is one at every label: padding would be most of the
work, and so would a pass through the network for each time an item is listed. What depends on the item alone is
computed once an item, and sequences are sums over rows of that table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdm.models.shared.layers import SelfAttention, linear, masked_softmax

Pooling = Literal["sum", "mean", "attention", "self_attention", "gru"]


@dataclass(frozen=True)
class Sequences:
    """U sequences over a table of I vectors, flat: place k belongs to sequence ``of[k]`` (rising) and names row ``item[k]``.

    ``table`` ``[I, d]``; ``item`` and ``of`` int64 ``[N]``; ``lengths`` int64 ``[U]``.
    """

    table: Tensor
    item: Tensor
    of: Tensor
    lengths: Tensor

    @property
    def present(self) -> Tensor:
        """``[U]`` bool: which sequences hold an item."""
        return self.lengths > 0

    def sums(self, weights: Tensor | None = None, table: Tensor | None = None) -> Tensor:
        """``[U, w]``: sums over each sequence of the rows of ``table`` (default: the own one), each times its ``weights`` ``[N]``."""
        rows = self.table if table is None else table
        if torch.onnx.is_in_onnx_export():  # embedding_bag has no such operator there; the same sums, the plain way
            values = rows[self.item] if weights is None else rows[self.item] * weights[:, None]
            return group_sums(values, self.of, self.lengths.shape[0])
        starts = self.lengths.cumsum(0) - self.lengths
        return F.embedding_bag(self.item, rows, starts, mode="sum", per_sample_weights=weights)

    def padded(self) -> tuple[Tensor, Tensor]:
        """``(vectors [U, L, d] padded with zeros on the right, visible bool [U, L])``, for layers that need an order."""
        width: Any = torch.clamp(self.lengths.max(), min=1)  # stays a tensor, so that an exported graph does not freeze it
        groups, d = self.lengths.shape[0], self.table.shape[1]
        starts = self.lengths.cumsum(0) - self.lengths
        place = torch.arange(self.of.shape[0], device=self.of.device) - starts[self.of]
        flat = torch.zeros((groups * width, d), dtype=self.table.dtype, device=self.table.device)
        flat = flat.index_put((self.of * width + place,), self.table[self.item])
        visible = torch.arange(width, device=self.of.device)[None, :] < self.lengths[:, None]
        return flat.reshape(groups, width, d), visible


def group_sums(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """``[groups, w]``: the sums of the rows of ``values`` ``[N, w]`` that belong to each group."""
    total = torch.zeros((groups, values.shape[1]), dtype=values.dtype, device=values.device)
    return total.scatter_add(0, group[:, None].expand(-1, values.shape[1]), values)


class SequencePooling(nn.Module):
    """One vector a sequence, ``[U, d]``; an empty sequence gives zeros.

    - ``sum``: every item weighs sigmoid(score), so that evidence adds up;
    - ``mean``: the plain average; ``attention``: the average by softmax(score);
    - ``self_attention``: one multi-head block among the items (post-norm, no order), then ``attention``;
    - ``gru``: the last state of a GRU, oldest item first.

    The score of an item is ``a·x``, and ``+ b`` in sums; with a ``width_user``, ``q(user)·x / sqrt(d)`` is added, SDM's user
    attention.
    """

    def __init__(self, kind: Pooling, width: int, width_user: int, heads: int, dropout: float) -> None:
        """``width_user`` 0: scores do not depend on the user."""
        super().__init__()
        self.kind = kind
        scored = kind in ("sum", "attention", "self_attention")
        self.score = linear(width, 1, bias=kind == "sum") if scored else None  # a softmax is blind to what all items share
        self.query = linear(width_user, width) if scored and width_user else None
        self.block = SelfAttention(width, heads, dropout) if kind == "self_attention" else None
        self.recurrent = nn.GRU(width, width, batch_first=True) if kind == "gru" else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequences: Sequences, user: Tensor) -> Tensor:
        """``user`` ``[U, d_u]``: whose sequence each is."""
        if self.kind == "mean":
            return sequences.sums() / torch.clamp(sequences.lengths, min=1)[:, None]
        if self.kind == "gru":
            return self._last_state(sequences)
        if self.kind == "self_attention":
            return self._attended(sequences, user)
        return self._weighted(sequences, user)

    def _weighted(self, sequences: Sequences, user: Tensor) -> Tensor:
        assert self.score is not None
        table = sequences.table
        score = self.score(table).squeeze(-1)  # [I]
        if self.query is None:
            # Weights that depend on the item alone go into the table: no pass over the N places but the sum itself.
            weight = torch.sigmoid(score) if self.kind == "sum" else score.clamp(max=60).exp()
            weighted = sequences.sums(table=self.dropout(weight)[:, None] * table)
            total = None if self.kind == "sum" else sequences.sums(table=weight[:, None])
        else:
            query = torch.tanh(self.query(user))  # [U, d]
            own = (table[sequences.item] * query[sequences.of]).sum(-1) * table.shape[-1] ** -0.5  # [N]
            score = score[sequences.item] + own
            weight = torch.sigmoid(score) if self.kind == "sum" else score.clamp(max=60).exp()
            weighted = sequences.sums(self.dropout(weight))
            ones = torch.ones((table.shape[0], 1), dtype=table.dtype, device=table.device)
            total = None if self.kind == "sum" else sequences.sums(weight, table=ones)
        return weighted if total is None else weighted / total.clamp(min=1e-30)

    def _attended(self, sequences: Sequences, user: Tensor) -> Tensor:
        assert self.block is not None
        assert self.score is not None
        vectors, visible = sequences.padded()
        mixed = self.block(vectors, visible[:, None, :].expand(-1, visible.shape[1], -1))  # [U, L, d]
        score = self.score(mixed).squeeze(-1)  # [U, L]
        if self.query is not None:
            score = score + (mixed @ torch.tanh(self.query(user))[:, :, None]).squeeze(-1) * mixed.shape[-1] ** -0.5
        weights = self.dropout(masked_softmax(score, visible))
        return (weights[:, None] @ mixed).squeeze(1)

    def _last_state(self, sequences: Sequences) -> Tensor:
        assert self.recurrent is not None
        vectors, visible = sequences.padded()
        states, _ = self.recurrent(vectors)
        last = torch.clamp(sequences.lengths - 1, min=0)[:, None, None].expand(-1, 1, states.shape[-1])
        return states.gather(1, last).squeeze(1) * visible[:, :1].to(states.dtype)
