"""The clicks up to each point as a row of its own, for encoders that are not causal along a session."""

from __future__ import annotations

import torch
from torch import Tensor

from xdm.data.batches import Batch


def prefixes(batch: Batch, length: int) -> tuple[Tensor, Tensor]:
    """The latest ``length`` clicks that each point may see, oldest first: ``(items [P, length], lengths [P])``, int64.

    Padding is 0, on the right. A graph, a window or a bidirectional encoder over such rows sees nothing of the future.
    """
    lengths = (batch.position + 1).clamp(max=length)  # [P]
    places = torch.arange(length, device=batch.short.device)[None]  # [1, length]
    inside = places < lengths[:, None]
    at = torch.where(inside, batch.position[:, None] + 1 - lengths[:, None] + places, 0)  # [P, length]
    return torch.where(inside, batch.short[batch.row[:, None], at], 0), lengths
