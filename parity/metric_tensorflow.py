"""The authors' side of `cml.py` and `lrml.py`, run by a Python that has TensorFlow 2 (its TensorFlow 1 interface) and NumPy.

``python parity/metric_tensorflow.py CHECKOUT IN.npz OUT.npz`` builds the authors' model with the weights of IN and writes the
scores of all pairs, the loss and its gradients to OUT. Nothing of their code is changed; it is given TensorFlow's
compatibility module, and empty modules for what it imports to load data and to evaluate.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import tensorflow

tf = tensorflow.compat.v1
tf.disable_v2_behavior()

NOT_USED = ("toolz", "tqdm", "evaluator", "sampler", "utils", "utilities", "keras", "keras.preprocessing", "keras.layers",
            "keras.layers.wrappers")  # fmt: skip


def module(folder: str, name: str) -> ModuleType:
    sys.modules |= {"tensorflow": tf} | {unused: MagicMock(__all__=[]) for unused in NOT_USED}
    sys.path.insert(0, folder)
    return __import__(name)


def slopes(loss: Any, weights: dict[str, Any]) -> dict[str, Any]:
    found = tf.gradients(loss, list(weights.values()))
    return {f"gradient of {name}": tf.convert_to_tensor(one) for name, one in zip(weights, found, strict=True)}


def cml(folder: str, asked: Any) -> dict[str, np.ndarray]:
    """Ids from 0: one below those of IN."""
    users, items = asked["users"], asked["items"]
    theirs = module(folder, "CML").CML(
        len(users),
        len(items),
        items.shape[1],
        margin=float(asked["margin"]),
        clip_norm=float(asked["radius"]),
        use_cov_loss=False,
    )
    weights = {"users": theirs.user_embeddings, "items": theirs.item_embeddings}
    learned = {"loss": theirs.loss, "scores": theirs.item_scores, **slopes(theirs.loss, weights)}
    feed = {
        theirs.user_positive_items_pairs: np.stack([asked["user"], asked["positive"]], axis=1) - 1,
        theirs.negative_samples: asked["negatives"] - 1, theirs.score_user_ids: np.arange(len(users)),
    }  # fmt: skip
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for name, weight in weights.items():
            weight.load(asked[name], session)
        found = session.run(learned, feed)
        session.run(theirs.optimize, feed)  # a step of Adagrad, then the cut to the ball
        return found | {f"{name} after a step": value for name, value in session.run(weights).items()}


def lrml(folder: str, asked: Any) -> dict[str, np.ndarray]:
    """Row 0 of both tables is an id that nothing has, as in IN."""
    users, items = asked["users"], asked["items"]
    settings = Namespace(
        std=0.1, num_mem=len(asked["memory"]), rnn_type="PAIR", embedding_size=items.shape[1], constraint=bool(asked["unit_ball"]),
        margin=float(asked["margin"]), l2_reg=0, opt="SGD", clip_norm=0, learn_rate=0.1, dropout=1.0,
    )  # fmt: skip
    theirs = module(f"{folder}/Model", "model").LRML(len(users) - 1, len(items) - 1, settings)
    with theirs.graph.as_default(), tf.Session() as session:
        theirs._build_network()
        weights = {
            "users": theirs.user_embeddings, "items": theirs.item_embeddings, "keys": theirs.user_item_key, "memory": theirs.memories,
        }  # fmt: skip
        learned = {"loss": theirs.cost, **slopes(theirs.cost, weights)}
        session.run(tf.global_variables_initializer())
        for name, weight in weights.items():
            weight.load(asked[name], session)
        # One negative a pair: a pair with several stands there as often.
        per_pair = asked["negatives"].shape[1]
        user, positive = np.repeat(asked["user"], per_pair), np.repeat(asked["positive"], per_pair)
        found = session.run(learned, {
            theirs.user_input: user, theirs.item_input: positive, theirs.user_input_neg: user,
            theirs.item_input_neg: asked["negatives"].ravel(), theirs.learn_rate: 0.1, theirs.label: np.ones(len(user)),
        })  # fmt: skip
        every = np.arange(1, len(users)), np.arange(1, len(items))
        pairs = [grid.ravel() for grid in np.meshgrid(*every, indexing="ij")]
        scores = session.run(theirs.predict_op, {theirs.user_input: pairs[0], theirs.item_input: pairs[1]})
    return found | {"scores": scores.reshape(len(every[0]), len(every[1]))}


if __name__ == "__main__":
    asked = np.load(sys.argv[2])
    np.savez(sys.argv[3], **{"cml": cml, "lrml": lrml}[str(asked["kind"])](sys.argv[1], asked))
