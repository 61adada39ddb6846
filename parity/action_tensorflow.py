"""The authors' side of `mrmn.py` and `metas.py`, run by a Python that has TensorFlow 2 (its TensorFlow 1 interface) and NumPy.

``python parity/action_tensorflow.py CHECKOUT IN.npz OUT.npz``, as `metric_tensorflow.py`, whose helpers it uses. Nothing of the
authors' code is changed; METAS's is given the one initialiser that it asks of a module TensorFlow no longer has, and what it
would draw at random.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable
from typing import Any
from unittest.mock import MagicMock

import numpy as np
from metric_tensorflow import module, slopes, tf

OTHER = -1000.0  # their margin of the types that a record is not of


def mrmn(folder: str, asked: Any) -> dict[str, np.ndarray]:
    """Row 0 of both tables is an id that nothing has, as in IN. Of their five types the first is our click, the last our skip."""
    users, items = asked["users"], asked["items"]
    settings = Namespace(
        std=0.1, num_mem=len(asked["memory"]), embedding_size=items.shape[1], constraint=bool(asked["unit_ball"]), l2_reg=0,
        opt="SGD", clip_norm=0, learn_rate=0.1, dropout=1.0,
    )  # fmt: skip
    theirs = module(folder, "MRMN_model").MRMN(len(users) - 1, len(items) - 1, settings)
    theirs._build_list_network()
    weights = {
        "users": theirs.user_embeddings, "items": theirs.item_embeddings, "memory": theirs.memories, "keys": theirs.user_item_key,
        "skipped_keys": theirs.user_item_key4,
    }  # fmt: skip
    learned = {"loss": theirs.cost, **slopes(theirs.cost, weights)}
    margins = np.full((len(asked["user"]), 5), OTHER)
    margins[:, 0] = np.where(asked["clicked"], asked["margin"], OTHER)
    margins[:, 4] = np.where(asked["clicked"], OTHER, asked["skipped_margin"])
    records = list(zip(asked["user"], asked["positive"], asked["negative"], margins, strict=True))
    every = np.arange(1, len(users)), np.arange(1, len(items))
    pairs = [grid.ravel() for grid in np.meshgrid(*every, indexing="ij")]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for name, weight in weights.items():
            weight.load(asked[name], session)
        found = session.run(learned, theirs.get_list_feed_dict(records))
        scores = session.run(theirs.predict_op, theirs.get_list_feed_dict(list(zip(*pairs, strict=True)), ""))
    return found | {"scores": scores.reshape(len(every[0]), len(every[1]))}


class Given:
    """What METAS draws: the given candidates, and of the negatives that violate the margin all."""

    def __init__(self, n_items: int, candidates: list[int]) -> None:
        self.n_items, self.candidates = n_items, candidates

    def sample(self, population: Iterable[int], size: int) -> list[int]:
        return list(self.candidates if population == range(1, self.n_items + 1) else population)


def metas(folder: str, asked: Any) -> dict[str, np.ndarray]:
    """Row 0 of all tables is an id that nothing has, as in IN. Types: 1 skipped, 2 clicked, as ours."""
    users, items, layers = asked["users"], asked["items"], int(asked["layers"])
    sys.modules["pandas"] = MagicMock()
    tf.contrib = Namespace(layers=Namespace(xavier_initializer=tf.glorot_uniform_initializer))
    authors = module(folder, "network")
    sizes = {"n_users": len(users) - 1, "n_items": len(items) - 1, "n_types": 2}
    width = items.shape[1]
    candidates = len(asked["candidates"])
    theirs = authors.ActionNetwork(
        {**sizes, "n_embdims": width, "n_layers": layers, "n_hiddens": f"{width} {width} {width}"}, alpha=float(asked["margin"]),
        n_negsamples=candidates,
    )  # fmt: skip
    variables = {variable.op.name: variable for variable in tf.trainable_variables()}
    named = {"users": "embedding/user", "items": "embedding/item", "types": "embedding/type"}
    for layer in range(layers):
        for ours, mlp in (("behaviour", "mlp_g"), ("action", "mlp_f")):
            named |= {f"{ours}{layer}": f"{mlp}/h{layer + 1}", f"{ours}{layer} bias": f"{mlp}/b{layer + 1}"}
    weights = {name: variables[path] for name, path in named.items()}
    for name, weight in weights.items():
        weight.load(asked[name], theirs.sess)
    authors.random = Given(sizes["n_items"], asked["candidates"].tolist())
    done = {kind: {user: set() for user in range(1, len(users))} for kind in (1, 2)}
    for user, clicked, skipped in zip(asked["user"], asked["clicked"], asked["skipped"], strict=True):
        done[2][user].add(clicked)
        done[1][user].add(skipped)
    batches = [theirs.build_minibatch(user, kind, done, candidates) for kind, of_kind in done.items() for user in of_kind]
    anchor, positive, negative = (np.concatenate([part for part in parts if len(part)]) for parts in zip(*batches, strict=True))
    feed = {theirs.anchor_x: anchor, theirs.pos_x: positive, theirs.neg_x: negative, theirs.dropout_x: 1.0}
    found = theirs.sess.run({"loss": theirs.loss, **slopes(theirs.loss, weights)}, feed)
    scores = []
    for user in range(1, len(users)):
        actions = theirs.get_action_embeddings([[user, item, 2] for item in range(1, len(items))])
        scores.append(-np.linalg.norm(actions - theirs.get_anchor_embeddings([[user, 2]]), axis=1))
    return found | {"scores": np.stack(scores), "triplets": np.int64(len(anchor))}


if __name__ == "__main__":
    asked = np.load(sys.argv[2])
    np.savez(sys.argv[3], **{"mrmn": mrmn, "metas": metas}[str(asked["kind"])](sys.argv[1], asked))
