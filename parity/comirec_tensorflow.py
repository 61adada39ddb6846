"""The authors' side of `comirec.py`, run by a Python that has TensorFlow 2 (its TensorFlow 1 interface) and NumPy.

``python parity/comirec_tensorflow.py CHECKOUT IN.npz OUT.npz`` builds the authors' model with the weights and rows of IN and
writes scores, loss, the sample that the loss drew, and all gradients to OUT. Nothing of their code is changed; it is given
TensorFlow's compatibility module, empty modules for what it imports and these models do not use, and for MIND's routing
numbers that are drawn beforehand, because theirs are drawn anew at each call.
"""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import tensorflow

tf = tensorflow.compat.v1
tf.disable_v2_behavior()


def authors_model(folder: str) -> ModuleType:
    """Their ``src/model.py``, which was written for TensorFlow 1."""
    tf.contrib = ModuleType("tensorflow.contrib")
    tf.contrib.slim = ModuleType("tensorflow.contrib.slim")
    cells = ModuleType("tensorflow.nn.rnn_cell")
    cells.GRUCell = None  # of a model that is not compared
    sys.modules |= {
        "tensorflow": tf, "tensorflow.contrib": tf.contrib, "tensorflow.contrib.slim": tf.contrib.slim,
        "tensorflow.nn": tf.nn, "tensorflow.nn.rnn_cell": cells,
    }  # fmt: skip
    sys.path.insert(0, f"{folder}/src")
    import model

    return model


def main(folder: str, given: str, out: str) -> None:
    asked = np.load(given)
    kind, n_items, d, interests = str(asked["kind"]), *(int(asked[name]) for name in ("items", "width", "interests"))
    rows, length = asked["rows"].shape
    tf.truncated_normal = lambda shape, stddev: tf.tile(tf.constant(asked["logits"])[None], [shape[0], 1, 1])
    tf.set_random_seed(0)
    module = authors_model(folder)
    more = {"relu_layer": bool(asked["relu"])} if kind == "Model_MIND" else {}
    theirs = getattr(module, kind)(n_items, d, d, rows, interests, length, **more)
    weights = tf.trainable_variables()
    sampler = next(op for op in tf.get_default_graph().get_operations() if op.type == "LogUniformCandidateSampler")
    slopes = zip(weights, tf.gradients(theirs.loss, weights), strict=True)
    fetched = {
        "queries": theirs.user_eb, "loss": theirs.loss, "items": sampler.outputs[0],
        "expected_labels": sampler.outputs[1], "expected_items": sampler.outputs[2],
    } | {f"gradient of {w.op.name}": tf.convert_to_tensor(g) for w, g in slopes}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for weight in weights:
            name = next(key for key in asked.files if key.startswith("weight:") and weight.op.name.endswith(key[7:]))
            weight.load(asked[name].reshape(weight.shape), session)
        found = session.run(fetched, {
            theirs.mid_batch_ph: asked["labels"], theirs.mid_his_batch_ph: asked["rows"],
            theirs.mask: (asked["rows"] > 0).astype(np.float32),
        })  # fmt: skip
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
