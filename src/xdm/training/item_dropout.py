"""Item dropout: whole clicks of the sequence that is read are left out at random.

Paper: Tan, Xu, Liu, "Improved Recurrent Neural Networks for Session-based Recommendations", DLRS 2016, arXiv 1606.08117,
section 3.1. What is left out stands as the padding item, a vector of zeros, at its place: coordinates are never dropped,
the sequence keeps its length and times, and labels stay what they were.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xdm.data.batches import Batch


def without_some(batch: Batch, share: float, seed: int, step: int, part: int = 0) -> Batch:
    """``batch`` (arrays) with each click of its sequences, ``short`` ``[B, T]``, left out with the chance ``share``.

    Which ones follows from ``seed``, ``step`` and ``part`` (of the step's batch) alone, so that a run that goes on from a checkpoint
    drops the same.
    """
    if not share:
        return batch
    dropped = np.random.default_rng([seed, step, 7, part]).random(batch.short.shape) < share
    return replace(batch, short=np.where(dropped, 0, batch.short))
