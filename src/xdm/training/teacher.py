"""Privileged information: a teacher that has read what followed each label, and hands on what it then thinks of all items.

Paper: Tan, Xu, Liu, "Improved Recurrent Neural Networks for Session-based Recommendations", DLRS 2016, arXiv 1606.08117,
section 3.3. The teacher is an encoder of the student's own kind, trained on the same clicks with time turned round: what it reads
is strictly after the label, the click right after it last. It never reads the label, nor anything outside the training
part, and is gone when training ends (`xdm.training.teaching` trains it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xdm.data.rows import TrainingRows
from xdm.models.retrieval_model import RetrievalModel


@dataclass(frozen=True)
class Lesson:
    """Of which points a teacher speaks, ``known`` bool ``[P]``, and what it says of those: ``probabilities`` ``[T, n]`` over all
    items. There its word stands for the share ``weight`` of the objective."""

    known: Tensor
    probabilities: Tensor
    weight: float


@dataclass(frozen=True)
class Teacher:
    """A trained teacher. ``rows`` are of the reversed clicks, whose times are ``until - 1 - time``."""

    model: RetrievalModel
    rows: TrainingRows
    until: int
    temperature: float
    weight: float

    def beside(self, rows: TrainingRows) -> Lessons:
        """What it says of the labels of ``rows``."""
        own, asked = _keys(self.rows, self.until), _keys(rows, None)
        # Clicks of one item by one user in one second are one question: what is strictly after them is the same.
        _, code = np.unique(np.concatenate([own, asked]), axis=0, return_inverse=True)
        of_code = np.full(code.max(initial=-1) + 1, -1, np.int64)
        of_code[code[: len(own)]] = np.arange(len(own))
        return Lessons(self, of_code[code[len(own) :]])


@dataclass(frozen=True)
class Lessons:
    """A teacher beside training rows; ``label_of`` int64 ``[n_labels]``: its own number of each of their labels, -1 where nothing
    follows, so that it has nothing to say."""

    teacher: Teacher
    label_of: np.ndarray

    def of(self, labels: np.ndarray) -> Lesson:
        """What the teacher says of ``labels``, int64 ``[P]``."""
        own = self.label_of[labels]
        known = own >= 0
        model, probabilities = self.teacher.model, torch.zeros((0, self.teacher.model.sizes.n_candidates))
        if known.any():
            batch, _ = self.teacher.rows.points(own[known])
            with torch.no_grad():
                queries = model(batch.map(torch.from_numpy)).query  # [T, K, d']
                scores = (queries @ model.item_vectors().T).amax(1)
                probabilities = (scores / self.teacher.temperature).softmax(1)
        return Lesson(torch.from_numpy(known), probabilities, self.teacher.weight)


def _keys(rows: TrainingRows, until: int | None) -> np.ndarray:
    """User, time and item of every label, int64 ``[n_labels, 3]``; ``until``: where the times of ``rows`` were turned round."""
    row, time, item = rows.labels
    return np.stack([rows.users[row], time if until is None else until - 1 - time, item], axis=1)
