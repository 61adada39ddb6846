"""MRMN against github:XiaoZHOUCAM/MRMN: ``python parity/mrmn.py --authors CHECKOUT --tensorflow PYTHON``.

The authors' code is TensorFlow 1 and runs, unchanged, under the compatibility interface of TensorFlow 2 (2.15 was used) in a
Python of its own: see `action_tensorflow.py`. Compared are the scores of all pairs as clicks, and the loss of the same clicks and
skips with the same negatives, with its gradients. Theirs is a sum over records, ours a mean over clicks.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import numpy as np
import torch
from comparing import Found, authors_argument, gradients, our_model, run
from metric_models import ITEMS, PAIRS, USERS, asking, authors_side, draw_weights, pairs, version_of_tensorflow

from xdm.data.batches import Batch
from xdm.models.shared.exposures import SKIPPED

MARGIN, SKIPPED_MARGIN = 0.25, 0.05


class Drawn:
    """A generator that has drawn already: negatives of clicks, then of skips; of a stream of one exposure any draw is the same."""

    def __init__(self, *numbers: np.ndarray) -> None:
        self.numbers = list(numbers)

    def integers(self, low: int, high: int, shape: tuple[int, int]) -> np.ndarray:
        numbers = self.numbers.pop(0)
        assert numbers.shape == shape
        assert low <= numbers.min() <= numbers.max() < high
        return numbers

    def random(self, shape: tuple[int, int]) -> np.ndarray:
        return np.zeros(shape)


def after_a_skip(user: np.ndarray, skipped: np.ndarray) -> Batch:
    """A point for each of ``user``, to whom one item of ``skipped`` was shown before it."""
    rows = torch.arange(len(user))
    stream = torch.from_numpy(skipped)[:, None]
    return replace(
        asking(user), stream=stream, stream_action=torch.full_like(stream, SKIPPED), stream_owner=rows, stream_row=rows,
        stream_position=torch.zeros_like(rows),
    )  # fmt: skip


def case(asked: Namespace, unit_ball: bool, negatives: int) -> tuple[Found, Found]:
    """Ours and theirs with these settings."""
    settings = {"width": 16, "slots": 12, "unit_ball": unit_ball, "negatives": negatives, "margin": MARGIN}
    model = our_model({"name": "mrmn", "skipped_margin": SKIPPED_MARGIN, **settings}, ITEMS, USERS)
    draw_weights(model)
    model.encoder.users.met[1:] = True
    weights = {
        "users": model.encoder.users.vectors.weight, "items": model.item_table.weight, "keys": model.scoring.keys,
        "memory": model.scoring.memory, "skipped_keys": model.encoder.skipped_keys,
    }  # fmt: skip
    clicks, skips = pairs(negatives), pairs(1)
    skipped = np.roll(skips["positive"], 1)
    other = np.where(skips["negatives"] == skipped[:, None], skipped[:, None] % ITEMS + 1, skips["negatives"])
    records = {
        "user": np.concatenate([np.repeat(clicks["user"], negatives), clicks["user"]]),
        "positive": np.concatenate([np.repeat(clicks["positive"], negatives), skipped]),
        "negative": np.concatenate([clicks["negatives"].ravel(), other.ravel()]),
        "clicked": np.arange(PAIRS * (negatives + 1)) < PAIRS * negatives,
    }
    theirs = authors_side(
        asked, "action_tensorflow.py", kind="mrmn", margin=MARGIN, skipped_margin=SKIPPED_MARGIN, unit_ball=unit_ball, **records,
        **weights,
    )  # fmt: skip
    everyone = model(asking(np.arange(1, USERS + 1))).query  # [U, 1, d]
    batch = after_a_skip(clicks["user"], skipped)
    targets = torch.from_numpy(clicks["positive"])[:, None]  # [P, 1]
    loss = PAIRS * model.encoder.own_loss(model.encoder.encode(batch), targets, batch, model, Drawn(clicks["negatives"], other))
    found = {"scores": model.score(everyone, model.item_vectors()), "loss": loss, **gradients(loss, weights.items())}
    return {name: value.detach() for name, value in found.items()}, theirs


def main() -> None:
    asked = authors_argument(__doc__ or "", tensorflow="a Python that has TensorFlow 2, at most 2.15, and NumPy")
    run("mrmn", "github:XiaoZHOUCAM/MRMN", asked.commit, {
        "in the unit ball": lambda: case(asked, unit_ball=True, negatives=1),
        "vectors of any length, three negatives": lambda: case(asked, unit_ball=False, negatives=3),
    }, replaced="nothing", tensorflow=version_of_tensorflow(asked.tensorflow))  # fmt: skip


if __name__ == "__main__":
    main()
