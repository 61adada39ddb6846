"""What is asked of a retrieval model and what it answers: the same types offline and live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from xdm.behaviours.points import take_lists
from xdm.log.store import Events
from xdm.vocabulary import Vocabulary

MODEL = 0  # TopK.source: the model answered
POPULAR = 1  # TopK.source: nothing is known of the user, so the catalogue's popular items are the answer
SOURCES = ("model", "popular")


@dataclass(frozen=True)
class Points:
    """Q questions "what would this user click next, at this time?".

    ``events`` holds the users' events with catalogue indices (`Events.in_catalogue`); question q is about the user at
    ``row[q]`` of it (int64 ``[Q]``), known to the model as ``user[q]`` (int32 ``[Q]``, 0 unknown), at ``time[q]``
    (int64 ``[Q]`` seconds). Only events strictly before ``time[q]`` are looked at.
    """

    events: Events
    row: np.ndarray
    user: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, span: slice) -> Points:
        """The questions of ``span``, over the same events."""
        return Points(self.events, self.row[span], self.user[span], self.time[span])

    def clicked_before(self) -> list[np.ndarray]:
        """For each question the items that its user clicked strictly before its time, oldest first, each as often as it was
        clicked: int32 arrays of catalogue indices."""
        events = self.events
        taken, time = take_lists(events.offsets, np.asarray(events.time), self.row)
        clicked, item = (take_lists(events.offsets, np.asarray(column), self.row)[1] for column in (events.clicked, events.item))
        question = np.repeat(np.arange(len(self)), np.diff(taken))
        known = clicked & (time < self.time[question])
        ends = np.cumsum(np.bincount(question[known], minlength=len(self)))
        return np.split(item[known], ends[:-1]) if len(self) else []


@dataclass(frozen=True)
class TopK:
    """Answers: ``items`` int32 ``[Q, k]`` catalogue indices, best first, 0 past the end; ``scores`` float32 ``[Q, k]``
    (``-inf`` past the end); ``source`` uint8 ``[Q]``, an index into `SOURCES`."""

    items: np.ndarray
    scores: np.ndarray
    source: np.ndarray


class Retriever(Protocol):
    """From queries to items: one way to search for offline evaluation and live service alike (docs/retrieval.md)."""

    @property
    def item_vectors(self) -> np.ndarray:
        """float32 ``[N, d']``: row i belongs to index i + 1."""
        ...

    def __len__(self) -> int:
        """The number of candidates, which are the indices from 1 on."""
        ...

    def top_k(
        self,
        queries: np.ndarray,
        k: int,
        exclude: list[np.ndarray] | None = None,
        allowed: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` best of ``queries`` float32 ``[Q, K, d]``, never one of ``exclude[q]``, and nothing but ``allowed`` items (sorted,
        distinct indices, the same for all questions; None: all): scores float32 ``[Q, k]`` and item indices int32 ``[Q, k]``,
        best first; where fewer are left, ``-inf`` and 0 fill the end."""
        ...


class Recommender(Protocol):
    """Anything that ranks its catalogue for a batch of questions: a bundle, a model in training, a baseline.

    One that cannot put all of its catalogue into a list may say so, as ``n_candidates`` (the first so many items) or as
    ``candidates`` (item indices); evaluation counts coverage and the truth that can be found at all by it.
    """

    @property
    def catalogue(self) -> Vocabulary:
        """The item ids that it can recommend; index i is the i-th id, from 1."""
        ...

    @property
    def users(self) -> Vocabulary:
        """The user ids that it knows; index u is the u-th id, from 1."""
        ...

    def top_k(self, points: Points, k: int, exclude: list[np.ndarray] | None = None) -> TopK:
        """The ``k`` best items for each question, never one of ``exclude[q]`` (catalogue indices)."""
        ...
