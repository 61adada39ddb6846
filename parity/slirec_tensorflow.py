"""The authors' side of `slirec.py`, run by a Python that has TensorFlow 2 with Keras 2, and NumPy.

``python parity/slirec_tensorflow.py CHECKOUT IN.npz OUT.npz`` runs the authors' cell and both of their attentions on the vectors,
time spans and weights of IN and writes states, sums and all gradients to OUT. Nothing of their code is changed. It is given
TensorFlow's compatibility module and two names that later versions of TensorFlow have elsewhere.
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow
from tensorflow.python.ops import rnn_cell_impl as cells_of_tensorflow
from tensorflow.python.util import nest

tf = tensorflow.compat.v1
tf.disable_v2_behavior()


def main(folder: str, given: str, out: str) -> None:
    asked = np.load(given)
    sys.modules["tensorflow"] = tf
    nest.is_sequence = nest.is_nested
    sys.path.insert(0, f"{folder}/sli_rec")
    import rnn_cell_impl

    cells_of_tensorflow._Linear = rnn_cell_impl._Linear
    import utils

    rows, length, d = asked["x"].shape
    x, now, last = (tf.constant(asked[name]) for name in ("x", "now", "last"))
    cell = rnn_cell_impl.Time4LSTMCell(d)
    state = (tf.zeros([rows, d]), tf.zeros([rows, d]))
    states = []
    with tf.variable_scope("cell"):
        for t in range(length):
            found, state = cell.call(tf.concat([x[:, t], last[:, t, None], now[:, t, None]], 1), state)
            states.append(found)
    states = tf.stack(states, 1)
    lengths = asked["lengths"]
    asking = tf.gather_nd(states, np.stack([np.arange(rows), lengths - 1], 1))
    mask = (np.arange(length) < lengths[:, None]).astype(np.float32)
    with tf.variable_scope("long"):
        long = tf.reduce_sum(utils.attention_HAN(x, attention_size=asked["attention"].item()), 1)
    with tf.variable_scope("short"):
        short = tf.reduce_sum(utils.attention_FCN(asking, states, d, tf.constant(mask), stag="1_1", mode="LIST", scope="1"), 1)
    loss = tf.reduce_sum(asked["of_long"] * long) + tf.reduce_sum(asked["of_short"] * short)
    weights = tf.trainable_variables()
    slopes = zip(weights, tf.gradients(loss, weights), strict=True)
    fetched = {"asking": asking, "long": long, "short": short} | {f"gradient of {w.op.name}": slope for w, slope in slopes}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for weight in weights:
            weight.load(asked[f"weight:{weight.op.name}"].reshape(weight.shape), session)
        np.savez(out, **session.run(fetched))


if __name__ == "__main__":
    main(*sys.argv[1:])
