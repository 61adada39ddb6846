"""Skips beside clicks, for models of pairs of a user and an item with several types of action: METAS and MRMN."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from xdm.data.batches import Batch

SKIPPED, CLICKED = 1, 2  # as `Batch.stream_action` has them


def skipped_before(batch: Batch, draws: np.ndarray, n_candidates: int) -> Tensor:
    """Skipped items of each point's user, from the stream before the point: int64 ``[P, k]``.

    ``draws`` ``[P, k]``, uniform in [0, 1): each picks one of the point's skipped exposures. 0 where there is none, and where it is
    an item that cannot be recommended.
    """
    if not batch.stream.shape[1]:
        return torch.zeros(draws.shape, dtype=torch.int64, device=batch.row.device)
    counts = (batch.stream_action == SKIPPED).cumsum(dim=1)[batch.stream_row]  # [P, T]: skipped ones up to each place
    last = batch.stream_position.clamp(min=0)[:, None]  # [P, 1]
    held = counts.gather(1, last) * (batch.stream_position >= 0)[:, None]  # [P, 1]
    drawn = (torch.from_numpy(draws).to(held.device) * held).long() + 1  # [P, k], from 1
    places = torch.searchsorted(counts, drawn).clamp(max=counts.shape[1] - 1)  # [P, k]: the first that counts so many
    items = batch.stream[batch.stream_row[:, None], places]  # [P, k]
    return torch.where((held > 0) & (items <= n_candidates), items, 0)


class Acted:
    """Who acted on what: 8 bytes a pair of a user and an item."""

    def __init__(self, user: np.ndarray, item: np.ndarray, n_items: int) -> None:
        """``user`` and ``item`` int64 ``[n]``, one pair each."""
        self.n_items = n_items
        self.keys = np.sort(user * (n_items + 1) + item)

    @classmethod
    def nobody(cls, n_items: int) -> Acted:
        """Of a log of which nothing is known."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), n_items)

    def holds(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """bool ``[P, M]``: which of ``items`` ``[P, M]`` the ``users`` ``[P]`` acted on; never for user 0, whom nobody knows."""
        if not len(self.keys):
            return np.zeros(items.shape, bool)
        asked = users[:, None] * (self.n_items + 1) + items
        found = self.keys[np.searchsorted(self.keys, asked).clip(max=len(self.keys) - 1)] == asked
        return found & (users > 0)[:, None]
