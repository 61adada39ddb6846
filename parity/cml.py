"""CML against github:changun/CollMetric: ``python parity/cml.py --authors CHECKOUT --tensorflow PYTHON``.

The authors' code is TensorFlow 1 and runs, unchanged, under the compatibility interface of TensorFlow 2 (2.15 was used) in a
Python of its own: see `metric_tensorflow.py`. Compared are the distances of all pairs, the loss of the same pairs with
the same negatives and its rank weights, a mean here and a sum in its gradients, and the vectors after a step of Adagrad and the
cut to the ball. Without the penalty on covariances, whose signed sum in the authors' code is not the paper's.
"""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import torch
from comparing import Found, authors_argument, our_model, run
from metric_models import ITEMS, PAIRS, USERS, asking, authors_side, draw_weights, pairs, version_of_tensorflow

from xdm.objectives.ranking import warp


def case(asked: Namespace, margin: float, radius: float, negatives: int) -> tuple[Found, Found]:
    """Ours and theirs with these settings."""
    model = our_model({"name": "cml", "width": 16, "radius": radius}, ITEMS, USERS)
    draw_weights(model)
    model.encoder.users.met[1:] = True
    users, items, drawn = model.encoder.users.vectors.weight, model.item_table.weight, pairs(negatives)
    theirs = authors_side(asked, kind="cml", users=users[1:], items=items[1:], margin=margin, radius=radius, **drawn)
    everyone = model(asking(np.arange(1, USERS + 1))).query  # [U, 1, d + 1]
    # Folding leaves out |p|², which ranks nothing.
    scores = model.score(everyone, model.item_vectors()) - users[1:].square().sum(-1, keepdim=True)  # [U, N]
    query = model(asking(drawn["user"])).query  # [P, 1, d + 1]
    positive = model.score(query, model.scored(torch.from_numpy(drawn["positive"])[:, None]))[:, 0]  # [P]
    negative = model.score(query, model.scored(torch.from_numpy(drawn["negatives"])))  # [P, S]
    expected = torch.full((negatives,), float(np.log(negatives / ITEMS)))
    loss = warp(positive, negative, torch.ones_like(negative, dtype=torch.bool), margin, expected).sum()
    adagrad = torch.optim.Adagrad(
        model.parameters(), lr=0.1, initial_accumulator_value=0.1, eps=0
    )  # TensorFlow's defaults
    loss.backward()
    theirs["loss"] /= PAIRS
    ours = {
        "scores": scores,
        "loss": loss / PAIRS,
        "gradient of users": users.grad[1:].clone(),
        "gradient of items": items.grad[1:].clone(),
    }
    adagrad.step()
    with torch.no_grad():
        model.encoder.after_step(model)
    ours |= {"users after a step": users[1:], "items after a step": items[1:]}
    return {name: value.detach() for name, value in ours.items()}, theirs


def main() -> None:
    asked = authors_argument(__doc__ or "", tensorflow="a Python that has TensorFlow 2, at most 2.15, and NumPy")
    run("cml", "github:changun/CollMetric", asked.commit, {
        "the example": lambda: case(asked, margin=1.9, radius=1.0, negatives=20),
        "the class's margin, another ball": lambda: case(asked, margin=0.3, radius=1.1, negatives=5),
    }, replaced="imports that load data and evaluate", tensorflow=version_of_tensorflow(asked.tensorflow))  # fmt: skip


if __name__ == "__main__":
    main()
