"""LRML against github:vanzytay/WWW2018_LRML: ``python parity/lrml.py --authors CHECKOUT --tensorflow PYTHON``.

The authors' code is TensorFlow 1 and runs, unchanged, under the compatibility interface of TensorFlow 2 (2.15 was used) in a
Python of its own: see `metric_tensorflow.py`. Compared are the scores of all pairs, each over its own relation, and the
loss of the same pairs with the same negatives, over the positive pair's, with its gradients. Theirs is a sum, ours a mean.
"""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import torch
from comparing import Found, authors_argument, gradients, our_model, run
from metric_models import ITEMS, PAIRS, USERS, asking, authors_side, draw_weights, pairs, version_of_tensorflow

MARGIN = 0.5


class Drawn:
    """A generator that has drawn already."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers

    def integers(self, low: int, high: int, shape: tuple[int, int]) -> np.ndarray:
        assert self.numbers.shape == shape
        assert low <= self.numbers.min() <= self.numbers.max() < high
        return self.numbers


def case(asked: Namespace, unit_ball: bool, negatives: int) -> tuple[Found, Found]:
    """Ours and theirs with these settings."""
    settings = {"width": 16, "slots": 12, "unit_ball": unit_ball, "negatives": negatives, "margin": MARGIN}
    model = our_model({"name": "lrml", **settings}, ITEMS, USERS)
    draw_weights(model)
    model.encoder.users.met[1:] = True
    scoring = model.encoder.scoring
    weights = {
        "users": model.encoder.users.vectors.weight, "items": model.item_table.weight, "keys": scoring.keys, "memory": scoring.memory,
    }  # fmt: skip
    drawn = pairs(negatives)
    theirs = authors_side(asked, kind="lrml", margin=MARGIN, unit_ball=unit_ball, **drawn, **weights)
    everyone = model(asking(np.arange(1, USERS + 1))).query  # [U, 1, d]
    batch = asking(drawn["user"])
    queries = model.encoder.encode(batch)  # [P, 1, d]
    targets = torch.from_numpy(drawn["positive"])[:, None]  # [P, 1]
    loss = PAIRS * model.encoder.own_loss(queries, targets, batch, model, Drawn(drawn["negatives"]))
    found = {"scores": model.score(everyone, model.item_vectors()), "loss": loss, **gradients(loss, weights.items())}
    return {name: value.detach() for name, value in found.items()}, theirs


def main() -> None:
    asked = authors_argument(__doc__ or "", tensorflow="a Python that has TensorFlow 2, at most 2.15, and NumPy")
    run("lrml", "github:vanzytay/WWW2018_LRML", asked.commit, {
        "in the unit ball": lambda: case(asked, unit_ball=True, negatives=1),
        "vectors of any length, three negatives": lambda: case(asked, unit_ball=False, negatives=3),
    }, replaced="imports that load data and evaluate", tensorflow=version_of_tensorflow(asked.tensorflow))  # fmt: skip


if __name__ == "__main__":
    main()
