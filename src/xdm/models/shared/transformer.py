"""What the transformers share: learned positions, multi-head attention, and the way through causal blocks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdm.data.batches import Batch
from xdm.models.shared.layers import Dropout, causal, linear

Counted = Literal["from_start", "from_end"]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``[B, T, d]`` to ``[B, heads, T, d / heads]``: columns are split, as in every transformer here."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def check_heads(width: int, heads: int) -> None:
    """For the validators of configurations.

    Raises:
        ValueError: ``heads`` do not divide ``width``.
    """
    if width % heads:
        raise ValueError(f"width {width} cannot be divided by {heads} heads")


class Positions(nn.Module):
    """A learned vector for each of ``length`` places, counted from a row's first click or so that its last has the last one.

    ``from_end`` is what rows padded on the left come to, as the authors of SASRec have them: in training the place of a
    click then depends on how many follow it in its row (never on which). With ``from_start`` it depends on nothing later.
    """

    def __init__(self, length: int, width: int, counted: Counted = "from_start") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, width))
        self.from_end = counted == "from_end"
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """``x`` ``[B, T, d]`` plus the vectors of its places; ``lengths`` ``[B]``, of the rows without their padding."""
        if not self.from_end:
            return x + self.weight[: x.shape[1]]  # [B, T, d]
        last = self.weight.shape[0] - 1
        places = torch.arange(x.shape[1], device=x.device) + (self.weight.shape[0] - lengths)[:, None]  # [B, T]
        return x + self.weight[places.clamp(max=last)]  # [B, T, d]; padding, which nobody asks for, has the last vector


class Attention(nn.Module):
    """Multi-head attention, softmax(Q Kᵀ / √(d / heads)) V, with dropout on the weights.

    ``output`` adds the dense layer behind the heads that the standard transformer has. A bias on keys, which most code has,
    adds the same to all scores of a query, and so changes no softmax: there is none here.
    """

    def __init__(self, width: int, heads: int, dropout: float, *, output: bool = True) -> None:
        super().__init__()
        self.heads, self.dropout = heads, Dropout(dropout)
        self.query, self.key, self.value = linear(width, width), linear(width, width, bias=False), linear(width, width)
        self.output = linear(width, width) if output else nn.Identity()

    def forward(self, queries: Tensor, keys: Tensor, visible: Tensor | None = None) -> Tensor:
        """``[B, T, d]`` from the rows that queries are made of, ``[B, T, d]``, and those of keys and values, ``[B, S, d]``.

        ``visible`` bool, broadcast to ``[B, heads, T, S]``, says which places each place may see; every place must see
        one. None, where both are the same places: each sees itself and those before it, so padding on the right is never seen.
        """
        q = split_heads(self.query(queries), self.heads)  # [B, heads, T, d / heads]
        k = split_heads(self.key(keys), self.heads)  # [B, heads, S, d / heads]
        v = split_heads(self.value(keys), self.heads)  # [B, heads, S, d / heads]
        if self.training and self.dropout.dropped:
            visible = causal(q.shape[2], q.device) if visible is None else visible
            hidden = torch.zeros(visible.shape, device=q.device).masked_fill(~visible, -torch.inf)
            scores = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2) + hidden  # [B, heads, T, S]
            mixed = self.dropout(torch.softmax(scores, dim=-1)) @ v  # [B, heads, T, d / heads]
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, visible, is_causal=visible is None)  # the same, in one pass
        return self.output(mixed.transpose(1, 2).flatten(2))  # [B, T, d]


def through(blocks: nn.ModuleList, x: Tensor, batch: Batch) -> Tensor:
    """``[P, d]``: what causal ``blocks`` make, at the points of ``batch``, of its rows ``x`` ``[B, T, d]``.

    Padding stands on the right, so no place that is asked for ever sees it. Where each row is asked for one place, as in evaluation
    and service, the last block is asked for that place alone: at 50 clicks a row it then takes half of its time, at 200 a fifth.
    """
    *others, last = blocks
    for block in others:
        x = block(x)  # [B, T, d]
    if torch.equal(batch.row, torch.arange(len(x), device=x.device)):
        return last(x, batch.position[:, None])[:, 0]
    return last(x)[batch.row, batch.position]


def places(x: Tensor, asked: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """``x`` ``[B, T, d]`` at the places ``asked`` ``[B, M]``: ``[B, M, d]``, and what each of them may see, itself and those before
    it: bool ``[B, 1, M, T]``, as `Attention` takes it. None asks for all places."""
    if asked is None:
        return x, None
    visible = torch.arange(x.shape[1], device=x.device) <= asked[..., None]  # [B, M, T]
    return x.gather(1, asked[..., None].expand(-1, -1, x.shape[2])), visible[:, None]
