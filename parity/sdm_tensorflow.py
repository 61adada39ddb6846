"""The authors' side of `sdm_original.py`, run by a Python that has TensorFlow 2 with Keras 2, and NumPy.

``python parity/sdm_tensorflow.py CHECKOUT IN.npz OUT.npz`` builds the authors' model with the weights and rows of IN and writes
to OUT the user vectors, the loss, the sample that the loss drew, all gradients, and all weights after their training step.
Nothing of their code is changed. It is given TensorFlow's compatibility module and, under the names of ``tf.contrib``, which no
later TensorFlow has, the same cells and the same triangular matrix from there. Written here are the feature columns: a table
whose row is the number that the id spells, in place of its hash, joined in the order of their names as those of TensorFlow 1.4
were.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import tensorflow

tf = tensorflow.compat.v1
tf.disable_v2_behavior()
tf.enable_resource_variables()  # so that the gradients that are asked for beside a step are those before it


class Column(NamedTuple):
    """What ``embedding_column(sparse_column_with_hash_bucket(…), …)`` gives."""

    name: str
    rows: int
    width: int


def hash_bucket(column_name: str, hash_bucket_size: int, use_hashmap: bool = False) -> Column:
    return Column(column_name, hash_bucket_size, 0)


def embedding_column(sparse_id_column: Column, dimension: int) -> Column:
    return sparse_id_column._replace(width=dimension)


def input_from_feature_columns(
    columns_to_tensors: dict[str, Any], feature_columns: Sequence[Column], scope: str | None = None
) -> Any:
    """Ids as text, of any shape, to ``[…, sum of widths]``. Entered again under the same scope the tables are the same ones."""
    found = []
    with tf.variable_scope(scope, "input_from_feature_columns"):
        for column in sorted(feature_columns):
            with tf.variable_scope(None, f"{column.name}_embedding"):
                table = tf.get_variable("weights", [column.rows, column.width])
            ids = tf.string_to_number(columns_to_tensors[column.name], tf.int64)
            found.append(tf.nn.embedding_lookup(table, ids))
    return tf.concat(found, -1)


def give_contrib() -> None:
    """Put what their code imports into ``sys.modules``."""
    tf.contrib = ModuleType("tensorflow.contrib")
    tf.contrib.layers = SimpleNamespace(
        sparse_column_with_hash_bucket=hash_bucket, embedding_column=embedding_column,
        input_from_feature_columns=input_from_feature_columns,
        sequence_input_from_feature_columns=input_from_feature_columns,
    )  # fmt: skip
    tf.contrib.linalg = SimpleNamespace(LinearOperatorTriL=tf.linalg.LinearOperatorLowerTriangular)
    tf.contrib.rnn = tf.nn.rnn_cell
    sys.modules |= {"tensorflow": tf, "tensorflow.contrib": tf.contrib}


def authors_model(settings: dict[str, Any]) -> Any:
    """Their model, which also keeps the user vectors at every place ``[B, T, d]`` as ``vectors``."""
    from model_utils.hyperparams import TrainingHParams
    from models.deep_match import DeepMatch
    from parsers.model_feature_parser import ModelFeatureParser

    class Kept(DeepMatch):
        def create_split_optimizer(self, features: Any, outputs: Any, *weights: Any) -> Any:
            self.vectors = outputs
            return super().create_split_optimizer(features, outputs, *weights)

        def calculate_loss(self, *given: Any, **more: Any) -> Any:
            # Python 2 divided the number of rows by that of groups without a remainder
            return super().calculate_loss(*given[:-1], tf.cast(given[-1], tf.int32), **more)

    hparams = TrainingHParams(**dict.fromkeys(TrainingHParams._fields, None) | settings)
    return Kept(ModelFeatureParser(hparams), hparams)


def features_of(asked: dict[str, np.ndarray]) -> dict[str, Any]:
    """The tensors that their parser reads from a file: ids as text, lengths as numbers."""
    found = {}
    for name, value in asked.items():
        if name.startswith("feature:"):
            number = name.endswith("len") or name == "feature:labels"
            found[name.removeprefix("feature:")] = tf.constant(value if number else value.astype(str))
    return found


def main(folder: str, given: str, out: str) -> None:
    asked = dict(np.load(given))
    give_contrib()
    sys.path.insert(0, f"{folder}/code")
    tf.set_random_seed(0)
    model = authors_model(json.loads(str(asked["settings"])))
    step, _, found = model.model_fn_train(features_of(asked))
    weights = tf.trainable_variables()
    sampler = next(op for op in tf.get_default_graph().get_operations() if op.type == "LogUniformCandidateSampler")
    slopes = zip(weights, tf.gradients(found["loss"], weights), strict=True)
    fetched = {
        "vectors": model.vectors,
        "loss": found["loss"],
        "items": sampler.outputs[0],
        "expected_labels": sampler.outputs[1],
        "expected_items": sampler.outputs[2],
    } | {f"gradient:{w.op.name}": tf.convert_to_tensor(g) for w, g in slopes}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for weight in weights:
            weight.load(asked[f"weight:{weight.op.name}"].reshape(weight.shape), session)
        answered = session.run([step, fetched])[1]
        after = session.run({f"after:{w.op.name}": w for w in weights})
    np.savez(out, **answered, **after)


if __name__ == "__main__":
    main(*sys.argv[1:])
