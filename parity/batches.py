"""Batches for the proofs: rows of clicks that are asked at every click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from xdm.data.batches import Batch


def batch_of(rows: Sequence[Sequence[int]], user: Tensor | None = None) -> Batch:
    """``rows`` of item numbers from 1, oldest first, with a point at every click; ``user`` int64 ``[B]``, or nobody known.
    Whatever else a model could read is left empty."""
    lengths = torch.tensor([len(row) for row in rows])
    short = torch.zeros((len(rows), int(lengths.max())), dtype=torch.long)
    for filled, row in zip(short, rows, strict=True):
        filled[: len(row)] = torch.tensor(row)
    row, position = (short > 0).nonzero(as_tuple=True)
    nothing, nowhere = torch.zeros(0, dtype=torch.long), torch.zeros_like(row)
    given = {
        "short": short, "short_length": lengths, "row": row, "position": position,
        "user": torch.zeros(len(rows), dtype=torch.long) if user is None else user,
        **dict.fromkeys(("time", "unclicked_row", "stream_row", "stream_position"), nowhere),
    }  # fmt: skip
    return Batch(**{field.name: given.get(field.name, nothing) for field in fields(Batch)})


def batch_of_sessions(users: Sequence[Sequence[Sequence[int]]]) -> Batch:
    """A row of clicks for each of ``users``, whose clicks are given session by session, with a point at every click."""
    batch = batch_of([[item for session in sessions for item in session] for sessions in users])
    numbers = torch.zeros_like(batch.short)
    for filled, sessions in zip(numbers, users, strict=True):
        lengths = torch.tensor([len(session) for session in sessions])
        filled[: int(lengths.sum())] = torch.repeat_interleave(torch.arange(1, len(sessions) + 1), lengths)
    return replace(batch, short_session=numbers)


def drawn_sessions(items: int, rng: np.random.Generator) -> list[list[list[int]]]:
    """Five users of one to six sessions of one to nine items, drawn from 1 to ``items``."""
    return [[rng.integers(1, items + 1, rng.integers(1, 10)).tolist() for _ in range(sessions)] for sessions in (1, 4, 2, 6, 3)]
