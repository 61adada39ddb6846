"""The authors' side of `narm.py`, run by a Python that has Aesara, which took over Theano's code, or Theano itself, and NumPy.

``python parity/narm_theano.py CHECKOUT IN.npz OUT.npz`` builds the authors' graph with the weights and rows of IN and writes the
scores of all items, the loss and its gradients to OUT. Nothing of their code is changed. Under Aesara it is given that module by
Theano's name; random streams, which only dropout in training draws from, are replaced by ones.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from types import ModuleType
from typing import Any

import numpy as np

try:
    import theano
except ImportError:
    import aesara as theano
    import aesara.tensor.nnet

    sys.modules |= {"theano": theano, "theano.tensor": theano.tensor}


class Streams:
    """Of the streams that dropout draws from: nothing is dropped."""

    def __init__(self, seed: int) -> None:
        pass

    def binomial(self, size: Any, p: float, n: int, dtype: str) -> Any:
        return theano.tensor.ones(size, dtype=dtype)


def main(folder: str, asked: Any) -> dict[str, np.ndarray]:
    streams = ModuleType("theano.sandbox.rng_mrg")
    streams.MRG_RandomStreams = Streams  # type: ignore[attr-defined]
    sys.modules |= {"theano.sandbox": ModuleType("theano.sandbox"), streams.__name__: streams}
    sys.path.insert(0, folder)
    import NARM  # their file

    weights = OrderedDict((name[len("weight ") :], value) for name, value in asked.items() if name.startswith("weight "))
    shared = NARM.init_tparams(weights)
    n_items, width = weights["Wemb"].shape
    options = {"n_items": n_items, "dim_proj": width, "hidden_units": weights["W_encoder"].shape[0], "encoder": "gru",
               "use_dropout": bool(asked["dropout"])}  # fmt: skip
    _, x, mask, y, probabilities, cost = NARM.build_model(shared, options)  # dropout is off until training says otherwise
    slopes = theano.function([x, mask, y], [cost, *theano.grad(cost, list(shared.values()))])
    rows = asked["rows"]  # [P, L], 0 behind the clicks
    inside = (rows > 0).astype(theano.config.floatX)
    loss, *found = slopes(rows.T, inside.T, asked["labels"])
    return {
        "probabilities": probabilities(rows.T, inside.T), "loss": loss,
        **{f"gradient of {name}": gradient for name, gradient in zip(shared, found, strict=True)},
    }  # fmt: skip


if __name__ == "__main__":
    np.savez(sys.argv[3], **main(sys.argv[1], dict(np.load(sys.argv[2]))))
