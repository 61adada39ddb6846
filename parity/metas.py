"""METAS against github:donalee/metas: ``python parity/metas.py --authors CHECKOUT --tensorflow PYTHON``.

The authors' code is TensorFlow 1 and runs under the compatibility interface of TensorFlow 2 (2.15 was used) in a Python of its
own: see `action_tensorflow.py`. Both sides are given the same clicks, skips and candidates, and mine all triplets that violate the
margin. As many must be found on both; compared are the scores of all pairs as clicks and the triplets' loss with its gradients,
without dropout.
"""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import torch
from comparing import Found, authors_argument, gradients, our_model, run
from metric_models import asking, authors_side, draw_weights, version_of_tensorflow
from mrmn import after_a_skip

USERS, ITEMS, EACH, CANDIDATES = 12, 60, 3, 25  # EACH clicks, and as many skips, of every user


class Drawn:
    """A generator that has drawn the candidates; all else that it draws decides on nothing here."""

    def __init__(self, candidates: np.ndarray) -> None:
        self.candidates = candidates

    def choice(self, n: int, size: int, replace: bool) -> np.ndarray:
        assert (len(self.candidates), ITEMS, False) == (size, n, replace)
        return self.candidates - 1

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)


def case(asked: Namespace, layers: int, margin: float) -> tuple[Found, Found]:
    """Ours and theirs with these settings."""
    settings = {"width": 16, "layers": layers, "margin": margin, "dropout": 0.0, "strangers": 0.0}
    model = our_model({"name": "metas", "candidates": CANDIDATES, "negatives": CANDIDATES, **settings}, ITEMS, USERS)
    draw_weights(model)
    model.encoder.users.met[1:] = True
    scoring = model.scoring
    weights = {"users": model.encoder.users.vectors.weight, "items": model.item_table.weight, "types": scoring.types.weight}
    turned = {}  # their matrices are ours transposed
    for name, network in (("behaviour", scoring.behaviour), ("action", scoring.action)):
        for place, layer in enumerate(network.layers):
            turned[f"{name}{place}"], weights[f"{name}{place} bias"] = layer.weight, layer.bias
    rng = np.random.default_rng(0)
    candidates, others = np.split(rng.permutation(ITEMS) + 1, [CANDIDATES])
    order = np.stack([rng.permutation(others) for _ in range(USERS)])
    clicked, skipped = order[:, :EACH], order[:, EACH : 2 * EACH]
    user = np.repeat(np.arange(1, USERS + 1), EACH)
    theirs = authors_side(
        asked, "action_tensorflow.py", kind="metas", layers=layers, margin=margin, user=user, clicked=clicked.ravel(),
        skipped=skipped.ravel(), candidates=candidates, **weights, **{name: weight.T for name, weight in turned.items()},
    )  # fmt: skip
    everyone = model(asking(np.arange(1, USERS + 1))).query  # [U, 1, d]
    batch = after_a_skip(user, skipped.ravel())
    targets = torch.from_numpy(clicked.ravel())[:, None]  # [P, 1]
    mined, mine = [], model.encoder.mined
    model.encoder.mined = lambda *given: mined.append(mine(*given)) or mined[-1]
    loss = model.encoder.own_loss(model.encoder.encode(batch), targets, batch, model, Drawn(candidates))
    slopes = gradients(loss, [*weights.items(), *turned.items()])
    for name in turned:
        slopes[f"gradient of {name}"] = slopes[f"gradient of {name}"].T
    triplets, wanted = int(sum((negatives > 0).sum() for negatives in mined)), int(theirs.pop("triplets"))
    if triplets != wanted:
        raise ValueError(f"{triplets} triplets were mined, by the authors' code {wanted}")
    print(f"{triplets} triplets of {2 * len(user) * CANDIDATES}")
    found = {"scores": model.score(everyone, model.item_vectors()), "loss": loss, **slopes}
    return {name: value.detach() for name, value in found.items()}, theirs


def main() -> None:
    asked = authors_argument(__doc__ or "", tensorflow="a Python that has TensorFlow 2, at most 2.15, and NumPy")
    run("metas", "github:donalee/metas", asked.commit, {
        "one layer, most triplets violate the margin": lambda: case(asked, layers=1, margin=2.0),
        "one layer, few do": lambda: case(asked, layers=1, margin=0.1),
        "three layers": lambda: case(asked, layers=3, margin=0.5),
    }, replaced="tf.contrib's Xavier initialiser by the same one of TensorFlow 2; random.sample by given numbers",
       tensorflow=version_of_tensorflow(asked.tensorflow))  # fmt: skip


if __name__ == "__main__":
    main()
