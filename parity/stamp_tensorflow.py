"""The authors' side of `stamp.py`, run by a Python that has TensorFlow 2 (its TensorFlow 1 interface) and NumPy.

``python parity/stamp_tensorflow.py CHECKOUT MODEL IN.npz OUT.npz`` builds the authors' network of the module ``model.MODEL`` with the
weights of IN, runs it over the clicks of IN, all rows of one length, as their batches have them, and writes scores, loss and its
gradients to OUT. Nothing of their code is changed; empty modules stand for their printing, files, batches and measures.
"""

from __future__ import annotations

import importlib
import sys
from unittest.mock import MagicMock

import numpy as np
import tensorflow

tf = tensorflow.compat.v1
tf.disable_v2_behavior()

NOT_USED = ("util.Printer", "util.FileDumpLoad", "util.AccCalculater", "util.batcher.equal_len.batcher_p")
WEIGHTS = (
    "items",
    "from_last",
    "from_click",
    "from_mean",
    "weigh",
    "of_session",
    "of_last",
)  # as their code makes them


def main(folder: str, module: str, given: str, out: str) -> None:
    asked = np.load(given)
    items, d = asked["weight items"].shape
    sys.modules |= {"tensorflow": tf} | {name: MagicMock() for name in NOT_USED}
    sys.path.insert(0, folder)
    importlib.import_module("util.Randomer").Randomer.set_stddev(0.05)
    model = importlib.import_module(f"model.{module}").Seq2SeqAttNN({
        "dataset": "", "nepoch": 1, "batch_size": 512, "init_lr": 0.003, "update_lr": False, "stddev": 0.05, "edim": d,
        "hidden_size": d, "max_grad_norm": None, "n_items": items - 1, "pad_idx": 0, "emb_up": True, "active": "sigmoid",
        "is_print": False, "cut_off": 20, "pre_embedding": asked["weight items"],
    })  # fmt: skip
    model.build_model()
    weights = dict(zip(WEIGHTS, model.params, strict=True))
    slopes = tf.gradients(tf.reduce_sum(model.loss), list(weights.values()))
    clicks = asked["clicks"]  # [B, T]
    fed = {
        model.inputs: clicks, model.last_inputs: clicks[:, -1], model.lab_input: asked["labels"] - 1,
        model.sequence_length: np.full(len(clicks), clicks.shape[1]),
    }  # fmt: skip
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for name, weight in weights.items():
            weight.load(asked[f"weight {name}"], session)
        learned = {f"gradient of {name}": slope for name, slope in zip(weights, slopes, strict=True)}
        np.savez(out, **session.run({"scores": model.softmax_input, "loss": model.loss} | learned, fed))


if __name__ == "__main__":
    main(*sys.argv[1:])
