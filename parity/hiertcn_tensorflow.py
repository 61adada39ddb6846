"""The authors' side of `hiertcn.py`, run by a Python that has TensorFlow 2 (its TensorFlow 1 interface) and NumPy.

``python parity/hiertcn_tensorflow.py CHECKOUT IN.npz OUT.npz`` builds the authors' network with the weights of IN, runs it over the
users' sessions and writes what it gives after each click, the loss and its gradients to OUT. Nothing of their code is changed;
their two copies of TensorFlow's own dense and convolution layers, which only an early TensorFlow can import, give way to the
layers of the one that runs here, and empty modules stand for models that are not compared.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import tensorflow

tf = tensorflow.compat.v1
tf.disable_v2_behavior()

NOT_USED = ("utils", "customed_gru_cell", "model_mv", "model_tcn_gmm", "model_gru", "model_gru_gmm")


class Dense(tf.layers.Dense):
    def __init__(self, units: int, has_weightnorm: bool = False, **more: Any) -> None:
        super().__init__(units, **more)


class Conv1D(tf.layers.Conv1D):
    def __init__(self, has_weightnorm: bool = False, **more: Any) -> None:
        super().__init__(**more)

    def build(self, input_shape: Any) -> None:
        super().build((None, None, input_shape[-1]))  # of any length: they pad in the call, which comes later


def dense(inputs: Any, units: int, has_weightnorm: bool = False, **more: Any) -> Any:
    return tf.layers.dense(inputs, units, **more)


def authors(folder: str) -> tuple[Any, Any]:
    """Their function that builds the network, and their arguments."""
    contrib, rnn = ModuleType("tensorflow.contrib"), ModuleType("tensorflow.contrib.rnn")
    rnn.GRUCell, rnn.MultiRNNCell = tf.nn.rnn_cell.GRUCell, tf.nn.rnn_cell.MultiRNNCell
    tf.contrib, contrib.rnn = contrib, rnn
    denses, convolutions = ModuleType("customized_dense_layer"), ModuleType("customized_convolution_layer")
    denses.Dense, denses.dense, convolutions.Conv1D = Dense, dense, Conv1D
    sys.modules |= {
        "tensorflow": tf, "tensorflow.contrib": contrib, "tensorflow.contrib.rnn": rnn,
        "customized_dense_layer": denses, "customized_convolution_layer": convolutions,
    } | {unused: MagicMock(__all__=[]) for unused in NOT_USED}  # fmt: skip
    sys.path.insert(0, folder)
    sys.argv = sys.argv[:1]  # their arguments are read on import
    from args import args
    from model_hier import model_hier

    return model_hier, args


def main(folder: str, given: str, out: str) -> None:
    asked = np.load(given)
    model_hier, args = authors(folder)
    args.model_type, args.model_low_type = "hier", "tcn"
    args.hidden_dim, args.num_layer, args.output_dim = (int(asked[name]) for name in ("user_width", "user_layers", "output"))
    args.tcn_channel, args.kernel_size, args.l2_normalize = asked["channels"].tolist(), int(asked["kernel"]), bool(asked["unit"])
    items = int(asked["items"])

    def one_hot(clicks: np.ndarray) -> Any:
        return tf.constant(np.eye(items + 1, dtype=np.float32)[clicks][None, :, 1:])  # of nothing, all zeros

    found: Any = []  # of each user, after each click
    for user in range(int(asked["users"])):
        sessions = [asked[f"session {user} {number}"] for number in range(int(asked["sessions"][user]))]
        fed = [one_hot(np.concatenate([[0], clicks])) for clicks in sessions]
        meant = [one_hot(np.concatenate([clicks, [0]])) for clicks in sessions]
        start = tf.zeros((1, args.hidden_dim * args.num_layer))
        pred, _ = model_hier(args, fed, meant, [tf.ones((1, 1))] * len(sessions), start, training=tf.constant(False))
        ends = np.cumsum([0] + [len(clicks) + 1 for clicks in sessions])
        found.append(tf.gather(pred[0], np.setdiff1d(np.arange(ends[-1]), ends[:-1])))  # less what the empty places give
    scores = tf.concat(found, axis=0)  # [P, output]
    loss = tf.reduce_sum(scores * tf.constant(asked["slopes"]))
    weights = {weight.op.name: weight for weight in tf.trainable_variables()}
    learned = {f"gradient of {name}": tf.convert_to_tensor(one) for name, one in
               zip(weights, tf.gradients(loss, list(weights.values())), strict=True)}  # fmt: skip
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        rng = np.random.default_rng(0)
        for weight in weights.values():
            weight.load(rng.normal(0, 0.08, weight.shape).astype(np.float32), session)
        found = session.run({"scores": scores, **learned, **{f"weight {name}": one for name, one in weights.items()}})
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
