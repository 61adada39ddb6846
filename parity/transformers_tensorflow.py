"""The authors' side of `sasrec_original.py` and `bert4rec_original.py`, run by a Python that has TensorFlow 2 and NumPy.

``python parity/transformers_tensorflow.py CHECKOUT IN.npz OUT.npz`` builds the authors' model with the weights and rows of IN and
writes scores and gradients to OUT. Nothing of their code is changed; it is given TensorFlow's compatibility module, and the
two functions of ``tf.contrib.layers`` that it calls, which no later TensorFlow has.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import tensorflow

tf = tensorflow.compat.v1
tf.disable_v2_behavior()


def layer_norm(inputs: Any, begin_norm_axis: int, begin_params_axis: int, scope: str | None) -> Any:
    """``tf.contrib.layers.layer_norm`` over the last dimension: 1e-12 is its constant for float32."""
    with tf.variable_scope(scope, "LayerNorm"):
        beta = tf.get_variable("beta", inputs.shape[-1:], initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", inputs.shape[-1:], initializer=tf.ones_initializer())
    mean, variance = tf.nn.moments(inputs, [begin_norm_axis], keep_dims=True)
    return tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, 1e-12)


def sasrec(asked: dict[str, np.ndarray]) -> tuple[Any, Any, dict[Any, Any]]:
    """What ``model.py`` of kang205/SASRec puts at every place, times the item table; its loss; and what both are asked with."""
    import model

    n_items, length, heads, blocks = (int(asked[name]) for name in ("items", "length", "heads", "blocks"))
    width = asked["weight:0"].shape[1]
    settings = SimpleNamespace(
        maxlen=length, hidden_units=width, l2_emb=0.0, dropout_rate=0.0, num_blocks=blocks, num_heads=heads, lr=1e-3
    )
    theirs = model.Model(1, n_items, settings)
    scores = tf.tensordot(theirs.seq, tf.trainable_variables()[0], [[2], [1]])[..., 1:]
    given = {theirs.input_seq: asked["rows"], theirs.pos: asked["positives"], theirs.neg: asked["negatives"]}
    return scores, theirs.loss, {**given, theirs.is_training: False}


def bert4rec(asked: dict[str, np.ndarray]) -> tuple[Any, Any, dict[Any, Any]]:
    """The logarithm of the softmax over items at each mask, from ``modeling.py`` and ``run.py`` of FeiSun/BERT4Rec."""
    import modeling
    import run

    config = modeling.BertConfig(
        vocab_size=int(asked["items"]) + 2, hidden_size=int(asked["width"]), num_hidden_layers=int(asked["blocks"]),
        num_attention_heads=int(asked["heads"]), intermediate_size=int(asked["inner"]), hidden_act="gelu",
        max_position_embeddings=int(asked["length"]), type_vocab_size=2,
    )  # fmt: skip
    ids = tf.constant(asked["rows"], tf.int32)
    theirs = modeling.BertModel(config, False, ids, tf.cast(ids > 0, tf.int32), use_one_hot_embeddings=False)
    places = tf.constant(asked["places"], tf.int32)  # [R, M], 0 beyond a row's masks
    of_all = run.get_masked_lm_output(
        config, theirs.get_sequence_output(), theirs.get_embedding_table(), places, tf.zeros_like(places),
        tf.ones(places.shape),
    )[2]  # fmt: skip
    asked_for = tf.boolean_mask(of_all, asked["inside"].reshape(-1))[:, 1:-1]  # of items, without [PAD] and [MASK]
    scores = tf.nn.log_softmax(asked_for)
    labels = tf.one_hot(asked["labels"], scores.shape[1])
    return scores, -tf.reduce_mean(tf.reduce_sum(labels * scores, axis=1)), {}


def main(folder: str, given: str, out: str) -> None:
    asked = dict(np.load(given))
    layers = SimpleNamespace(layer_norm=layer_norm, l2_regularizer=lambda scale: None)
    tf.contrib = ModuleType("tensorflow.contrib")
    tf.contrib.layers = layers
    sys.modules["tensorflow"] = tf
    sys.path.insert(0, folder)
    build: Callable[..., tuple[Any, Any, dict[Any, Any]]] = {"sasrec": sasrec, "bert4rec": bert4rec}[str(asked["kind"])]
    scores, loss, fed = build(asked)
    weights = [w for w in tf.trainable_variables() if "pooler" not in w.name]
    slopes = [tf.convert_to_tensor(slope) for slope in tf.gradients(loss, weights)]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for place, weight in enumerate(weights):
            # SASRec's are told apart by the order in which they are made, for many have no name of their own
            name = f"weight:{place}" if str(asked["kind"]) == "sasrec" else f"weight:{weight.op.name}"
            weight.load(asked[name].reshape(weight.shape), session)
        found, *gradients = session.run([scores, *slopes], fed)
    names = [str(place) if str(asked["kind"]) == "sasrec" else w.op.name for place, w in enumerate(weights)]
    np.savez(out, scores=found, **{f"gradient:{name}": g for name, g in zip(names, gradients, strict=True)})


if __name__ == "__main__":
    main(*sys.argv[1:])
