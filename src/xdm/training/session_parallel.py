"""Session-parallel mini-batches: so many sessions live side by side, and a step is the next click of each.

Papers: Hidasi et al., ICLR 2016, arXiv 1511.06939, section 3.1.1. The order of training in which GRU4Rec's figures were
reached: sessions in the order of their first click; when one ends, its slot takes the next one with a state of zeros;
between steps the state is carried on without its gradient.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from xdm.data.batches import Batch
from xdm.data.rows import TrainingRows


@dataclass(frozen=True)
class Schedule:
    """Which click of which session is fed in which step. Step s has the entries ``offsets[s]:offsets[s + 1]``, by slot."""

    slot: np.ndarray  # int64 [clicks]
    row: np.ndarray  # int64 [clicks]: the session
    position: np.ndarray  # int64 [clicks]: of the click within its session, from 0
    offsets: np.ndarray  # int64 [steps + 1]

    @property
    def steps(self) -> int:
        return len(self.offsets) - 1

    def step(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(slots, rows, positions)`` of step ``number``, each int64 ``[live sessions]``."""
        which = slice(self.offsets[number], self.offsets[number + 1])
        return self.slot[which], self.row[which], self.position[which]


def schedule(lengths: np.ndarray, started: np.ndarray, slots: int) -> Schedule:
    """The steps of one epoch over sessions of ``lengths`` clicks (each at least 1), in the order of ``started`` (seconds).

    Sessions that start in the same second keep their order. The slot that is free first takes the next session, of
    several the lowest. Near the end slots stay empty. It is the same in every epoch: sessions are never shuffled.
    """
    order = np.argsort(started, kind="stable")
    free = [(0, slot) for slot in range(min(slots, len(order)))]  # (step, slot), a heap from the start
    begin, taken = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64)
    for place, length in enumerate(lengths[order].tolist()):
        step, slot = free[0]
        begin[place], taken[place] = step, slot
        heapq.heapreplace(free, (step + length, slot))
    counts = lengths[order].astype(np.int64)
    position = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    step_of, slot_of = np.repeat(begin, counts) + position, np.repeat(taken, counts)
    by_step = np.lexsort((slot_of, step_of))
    ends = np.cumsum(np.bincount(step_of))
    return Schedule(
        slot_of[by_step], np.repeat(order, counts)[by_step], position[by_step], np.concatenate([[0], ends]).astype(np.int64)
    )


class Recurrent(Protocol):
    """An encoder that can go on from a state."""

    def start(self, sessions: int) -> list[Tensor]:
        """The state of each layer before any click: ``[sessions, units]``."""
        ...

    def advance(self, batch: Batch, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One click of each session (``batch.short`` is ``[B, 1]``): queries ``[P, K, d]`` and the states after it."""
        ...


class SessionParallel:
    """The steps of an epoch and the states of the live sessions between two of them.

    The states, one tensor ``[slots, units]`` a layer, belong to the run and not to the model: what a model answers begins
    from zeros.
    """

    def __init__(self, encoder: Any, rows: TrainingRows, slots: int) -> None:
        """``encoder`` is `Recurrent`."""
        self.encoder: Recurrent = encoder
        self.rows = rows
        self.schedule = schedule(rows.lengths, rows.started, slots)
        self.states = [state.detach() for state in self.encoder.start(slots)]

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.schedule.steps

    def step(self, number: int, change: Callable[[Batch], Batch] = lambda batch: batch) -> tuple[Batch, Tensor, Tensor]:
        """The batch of the next click of each live session, the targets ``[P, M]``, and the encoder's queries ``[P, K, d]``.
        The encoder reads what ``change`` makes of the batch.

        Steps must be taken in their order: each goes on from the states that the one before has left.
        """
        slots, rows, positions = self.schedule.step(number)
        arrays, targets = self.rows.clicks(rows, positions)
        batch = change(arrays).map(torch.from_numpy)
        which, begins = torch.from_numpy(slots), torch.from_numpy(positions == 0)[:, None]
        before = [torch.where(begins, 0.0, state[which]) for state in self.states]  # each [live, units]
        queries, after = self.encoder.advance(batch, before)
        for state, new in zip(self.states, after, strict=True):
            state[which] = new.detach()
        return batch, torch.from_numpy(targets), queries

    def state_dict(self) -> dict[str, Tensor]:
        """For a checkpoint: a run that goes on from it needs the states as they were."""
        return {str(layer): state for layer, state in enumerate(self.states)}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """The states as `state_dict` gave them."""
        self.states = [saved[str(layer)] for layer in range(len(self.states))]
