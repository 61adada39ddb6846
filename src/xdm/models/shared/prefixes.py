"""The clicks, or exposures, up to each point as a row of its own, for encoders that are not causal along a session."""

from __future__ import annotations

import torch
from torch import Tensor

from xdm.data.batches import Batch


def prefixes(batch: Batch, length: int) -> tuple[Tensor, Tensor]:
    """The latest ``length`` clicks that each point may see, oldest first: ``(items [P, length], lengths [P])``, int64.

    Padding is 0, on the right. A graph, a window or a bidirectional encoder over such rows sees nothing of the future.
    """
    at, inside = _places(batch.position, length)
    return torch.where(inside, batch.short[batch.row[:, None], at], 0), inside.sum(dim=1)


def prefix_times(batch: Batch, length: int) -> Tensor:
    """When the clicks of `prefixes` were, in seconds: int64 ``[P, length]``, 0 for padding."""
    at, inside = _places(batch.position, length)
    return torch.where(inside, batch.short_time[batch.row[:, None], at], 0)


def latest_exposures(batch: Batch, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The latest ``length`` exposures of the stream before each point, oldest first: ``(items [P, length], actions [P, length],
    lengths [P])``, int64, as in `Batch`; padding as in `prefixes`."""
    at, inside = _places(batch.stream_position, length)
    row = batch.stream_row[:, None]
    items, actions = (torch.where(inside, column[row, at], 0) for column in (batch.stream, batch.stream_action))
    return items, actions, inside.sum(dim=1)


def newest_last(items: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """`prefixes` with the padding moved to the front, so that the newest click stands in the last place: ``(items [P, L],
    inside [P, L])``, bool where there is a click; what stands elsewhere is no item of this place."""
    places = torch.arange(items.shape[1], device=items.device) - (items.shape[1] - lengths[:, None])  # [P, L]
    return items.gather(1, places.clamp(min=0)), places >= 0


def _places(position: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The latest ``length`` places up to ``position`` ``[P]`` in a row, int64 ``[P, length]``, and where there is one, bool."""
    lengths = (position + 1).clamp(max=length)  # [P]
    places = torch.arange(length, device=position.device)[None]  # [1, length]
    inside = places < lengths[:, None]
    return torch.where(inside, position[:, None] + 1 - lengths[:, None] + places, 0), inside
