"""Additive attention: every click so far is weighed by ``v·σ(W q + U k)``, with a query at each point. Shared by NARM and STAMP."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from xdm.data.batches import Batch
from xdm.models.shared.layers import masked_softmax

CELLS = 2**20  # of [points, clicks, width]: 4 MiB a tensor of them, which stays in a cache


def attended(
    queries: Tensor, keys: Tensor, values: Tensor, weigh: Tensor, batch: Batch, activation: Callable[[Tensor], Tensor],
    *, softmax: bool,
) -> Tensor:  # fmt: skip
    """``[P, w]``: at each point the sum of ``values`` ``[B, T, w]`` over its row's clicks up to it, each times its weight.

    The weight of a click is ``weigh·activation(query + key)``, with ``softmax`` of those over the point's clicks; ``queries``
    ``[P, H]``, ``keys`` ``[B, T, H]``, ``weigh`` ``[H]``.

    The sums of queries and keys are P x T x H numbers, for which rows of many points are too long. Points are taken in parts of
    at most `CELLS` numbers, and training computes a part again on its way back, so memory does not grow with P.
    """
    length, width = keys.shape[1:]

    def part(queries: Tensor, row: Tensor, position: Tensor) -> Tensor:
        scores = activation(queries[:, None] + keys.index_select(0, row)) @ weigh  # [C, T]
        inside = torch.arange(length, device=row.device) <= position[:, None]  # [C, T]
        weights = masked_softmax(scores, inside) if softmax else scores * inside
        return (weights[:, None] @ values.index_select(0, row)).squeeze(1)  # [C, w]

    if torch.onnx.is_in_onnx_export():  # a graph cannot look at sizes to part them
        return part(queries, batch.row, batch.position)
    size = max(1, CELLS // (length * width))
    parts = list(zip(queries.split(size), batch.row.split(size), batch.position.split(size), strict=True))
    if len(parts) == 1 or not torch.is_grad_enabled():
        return torch.cat([part(*one) for one in parts])
    return torch.cat([checkpoint(part, *one, use_reentrant=False) for one in parts])
