"""A row of a user's clicks as several sessions (`Batch.short_session`), for models with a level of sessions above that of clicks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def opens_session(session: Tensor) -> Tensor:
    """``[B, T]`` bool: whether a click opens a session; ``session`` int64 ``[B, T]``, equal within one. A row's first click opens
    none, as no other went before."""
    return F.pad(session[:, 1:] != session[:, :-1], (1, 0))


@dataclass(frozen=True)
class Sessions:
    """The sessions of B rows of T clicks. What stands at padding, on the right, is a session of its own, which nobody asks for."""

    number: Tensor  # int64 [B, T]: of each click's session within its row, from 0
    place: Tensor  # int64 [B, T]: of each click within its session, from 0

    @classmethod
    def of(cls, session: Tensor) -> Sessions:
        """Of ``session`` int64 ``[B, T]``, equal within one: see `Batch.short_session`."""
        number = opens_session(session).long().cumsum(dim=1)  # [B, T]
        counts = torch.zeros_like(number).scatter_add(1, number, torch.ones_like(number))  # [B, T]: S <= T
        begins = counts.cumsum(dim=1) - counts  # [B, T]
        places = torch.arange(number.shape[1], device=number.device)
        return cls(number, places - begins.gather(1, number))

    def means(self, x: Tensor) -> Tensor:
        """The mean of ``x`` ``[B, T, d]`` over each session: ``[B, S, d]``, zeros where a row has fewer than S sessions.

        S is what the row that has most needs, for a recurrent layer over S takes S steps: a multiple of eight, at most T. (Of the
        very number the later clicks of a row decide, and matrix products of other sizes round in another way.) In an exported
        graph, which cannot look, S is T.
        """
        at = self.number[..., None]  # [B, T, 1]
        sums = torch.zeros_like(x).scatter_add(1, at.expand_as(x), x)  # [B, T, d]
        counts = torch.zeros_like(x[..., :1]).scatter_add(1, at, torch.ones_like(x[..., :1]))  # [B, T, 1]
        found = sums / counts.clamp(min=1)
        return found if torch.onnx.is_in_onnx_export() else found[:, : (int(self.number.max()) // 8 + 1) * 8]

    def at_clicks(self, values: Tensor) -> Tensor:
        """Of ``values`` ``[B, S, d]``, one a session, each click's: ``[B, T, d]``."""
        return values.gather(1, self.number[..., None].expand(-1, -1, values.shape[2]))


def before(states: Tensor) -> Tensor:
    """Of ``states`` ``[B, S, d]``, after each session, what stood before it: ``[B, S, d]``; before the first, zeros.

    So that a click never hears of its own session as a whole, of which later clicks are a part.
    """
    return F.pad(states, (0, 0, 1, 0))[:, :-1]
