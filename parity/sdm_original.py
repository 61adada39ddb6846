"""SDM against its authors' own code, alicogintel/SDM: the preset `sdm-code`, and every switch that both have.

``python parity/sdm_original.py --authors CHECKOUT --tensorflow PYTHON``. Their code is TensorFlow 1 and runs, unchanged, under the
compatibility interface of TensorFlow 2 (2.15 was used) in a Python of its own: see `sdm_tensorflow.py`. Theirs computes in single
precision, ours in double. Weights are random, dropout is off; sessions and long-term lists are of any length, none empty.

Compared are the scores of all items at every place of every session, the loss with the sample that theirs drew, its gradients,
and for the preset every weight after one step of Adagrad. How often an item is expected in that sample is computed by ours from
the number of draws alone. Gradients are not clipped: theirs takes the norm of a table's gradient before the rows that were looked
up several times are added, ours after.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparing import Found, authors_argument, gradients, run
from torch import Tensor

from xdm.data.batches import Batch
from xdm.models.presets import preset
from xdm.models.registry import model_config
from xdm.models.retrieval_model import RetrievalModel
from xdm.models.shared.inputs import Sizes
from xdm.models.unclicked import UnclickedConfig
from xdm.objectives.samplers import Negatives, log_expected_count, log_uniform_probability
from xdm.training.config import ObjectiveConfig, TrainingConfig
from xdm.training.loop import new_optimizer
from xdm.training.objective import Objective

N_ITEMS, NEGATIVES, TARGETS, RATE = 500, 60, 5, 0.1
LENGTHS, LONG_LENGTHS = [1, 2, 5, 9, 12], [[3, 1, 2, 20], [1, 1, 1, 1], [7, 4, 9, 2], [20, 20, 20, 20], [5, 2, 1, 1]]
# In the order in which theirs joins what attention makes of the long-term lists; a name's tables are joined in that of names.
FEATURES = {"shop": 30, "brand": 20, "cate": 10}
PROFILE = {"age": 5, "sex": 3, "user_lv_cd": 4, "city_level": 6, "province": 7, "city": 9, "country": 2}
WIDTHS = {"item": 64, "shop": 32, "brand": 16, "cate": 16}
PROFILE_WIDTHS = {"user_id": 64, **dict.fromkeys(PROFILE, 4)}
# Theirs: every setting of their command line that a model is built from, at the default there.
THEIRS: dict[str, Any] = {
    "model": "rnn,self_attn,personal,user_attn,prefer", "mode": "train", "unit_type": "gru", "num_layers": 1,
    "num_residual_layers": 0, "forget_bias": 1.0, "rnn_hidden_units": 64, "num_units": 64, "num_heads": 4, "num_multi_head": 1,
    "user_attn": "general", "user_residual": True, "fusion_op": "gated", "prefer_fc": True, "attn_layer_norm": True,
    "num_labels": TARGETS, "num_samples": NEGATIVES, "vocab_size": N_ITEMS, "split_size": 1, "partn_strgy": "div",
    "loss_by_example": False, "optimizer": "adagrad", "learning_rate": RATE, "max_gradient_norm": 1e6, "use_user_id": True,
    "init_op": "uniform", "init_weight": 0.1, "nn_init_op": "orthogonal", "seed": 2018, "num_partitions": 1, "ps_num": 1,
    "bucket_size": {name: rows + 1 for name, rows in {"item": N_ITEMS, **FEATURES, "user_id": len(LENGTHS), **PROFILE}.items()},
    "embedding_size": {**WIDTHS, **PROFILE_WIDTHS}, "dropout": 0.0, "colocate_gradients_with_ops": False,
}  # fmt: skip
# Our dense layers with the scope in which theirs numbers its own, and the first of the columns that the user stands in.
DENSE: list[tuple[str, str, int | None]] = [
    ("self_attention.qkv", "self_attn_0", None), ("self_attention.out", "self_attn_0", None),
    ("user_attention.query", "user_attn", 0), ("user_attention.score", "user_attn", 0),
    *((f"long_term.scores.{place}", "item_embeddings", 0) for place in range(len(WIDTHS))),
    ("long_term.out", "item_embeddings/prefer_fc", None), ("fusion.both", "fusion", None), ("fusion.gate", "fusion", 2 * 64),
]  # fmt: skip
torch.set_default_dtype(torch.float64)


@dataclass(frozen=True)
class Asked:
    """What both sides are given: ours as a batch and targets ``[P, M]``, theirs as the features of its file."""

    batch: Batch
    targets: Tensor
    features: dict[str, np.ndarray]
    codes: np.ndarray  # [F, items + 1]


def rows_of(seed: int) -> Asked:
    """Sessions with a point at every click and TARGETS labels at each, long-term lists for each feature, users and profiles."""
    rng = np.random.default_rng(seed)
    sizes = [N_ITEMS, *FEATURES.values()]
    codes = np.stack(
        [np.arange(N_ITEMS + 1), *(np.append(0, rng.integers(1, n + 1, N_ITEMS)) for n in FEATURES.values())]
    )
    inside = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]  # [B, T]
    short = np.where(inside, rng.integers(1, N_ITEMS + 1, inside.shape), 0)
    counts = np.array(LONG_LENGTHS)  # [B, F]
    long = np.stack([rng.integers(1, n + 1, (len(LENGTHS), counts.max())) for n in sizes], axis=1)  # [B, F, M]
    long[np.arange(counts.max()) >= counts[..., None]] = 0
    labels = rng.integers(1, N_ITEMS // 4, (*inside.shape, TARGETS))  # often the same one, and often among the sample
    user = np.arange(1, len(LENGTHS) + 1)
    profile = np.stack([rng.integers(1, n + 1, len(LENGTHS)) for n in PROFILE.values()], axis=1)
    row, position = inside.nonzero()
    given = {"short": short, "short_length": np.array(LENGTHS), "long": long, "user": user, "profile": profile, "row": row,
             "position": position}  # fmt: skip
    batch = Batch(**{field.name: torch.from_numpy(given.get(field.name, row[:0])) for field in fields(Batch)})
    features = {"seq_len": np.array(LENGTHS), "user_id": user, "ds": user, **dict(zip(PROFILE, profile.T, strict=True))}
    texts = np.array([[",".join(map(str, place - 1)) for place in places] for places in labels])
    features |= {"multi_labels": texts, "labels": labels[..., 0] - 1}
    for f, name in enumerate(WIDTHS):
        of_list = long[:, f, : counts[:, f].max()]
        features |= {f"{name}_ids": codes[f][short], f"prefer_{name}s": of_list, f"{name}s_len": counts[:, f]}
    return Asked(batch, torch.from_numpy(labels[inside]), features, codes)


def places(widths: dict[str, int]) -> np.ndarray:
    """Where each column of what theirs joins, in the order of names, stands in what ours joins, in the order of ``widths``."""
    columns = np.split(np.arange(sum(widths.values())), np.cumsum(list(widths.values()))[:-1])
    named = {f"{name}_emb": place for place, name in enumerate(widths)}
    return np.concatenate([columns[named[name]] for name in sorted(named)])


def to_theirs(ours: Found, forget: float = 0.0) -> Found:
    """Our tensors (weights, or gradients of weights) under their names and in their layout: dense layers the other way round,
    inputs joined in another order. ``forget`` is taken off the bias of LSTM's forget gate: theirs adds 1 outside of it."""
    found: Found = {"soft_max/weight": ours["output.weight"][1:]}
    items, users = places(WIDTHS), places(PROFILE_WIDTHS)
    for place, name in enumerate(WIDTHS):
        table = ours[f"encoder.items.tables.{place}.weight"]
        found[f"item_embeddings/reuse_embedding/{name}_emb_embedding/weights"] = table
    for place, name in enumerate(PROFILE_WIDTHS):
        table = ours["encoder.users.user.weight" if not place else f"encoder.users.fields.{place - 1}.weight"]
        found[f"user_embeddings/input_from_feature_columns/{name}_emb_embedding/weights"] = table

    recurrent(ours, found, items, forget)
    norm = "encoder.self_attention.norm"
    found |= {"self_attn_0/gamma": ours[f"{norm}.weight"], "self_attn_0/beta": ours[f"{norm}.bias"]}
    made: dict[str, int] = {}
    for name, scope, first in DENSE:
        if f"encoder.{name}.weight" not in ours:
            continue
        weight, made[scope] = ours[f"encoder.{name}.weight"], made.get(scope, -1) + 1
        if first is not None and weight.shape[1] >= first + len(users):
            order = np.arange(weight.shape[1])
            order[first : first + len(users)] = first + users
            weight = weight[:, order]
        layer = scope if "prefer_fc" in scope else f"{scope}/dense_{made[scope]}" if made[scope] else f"{scope}/dense"
        found |= {f"{layer}/kernel": weight.T, f"{layer}/bias": ours[f"encoder.{name}.bias"]}
    return found


def recurrent(ours: Found, found: Found, items: np.ndarray, forget: float) -> None:
    """The weights of the recurrent layers: of GRU cells r and u = 1 - z, then the candidate; of LSTM cells i, j, f and o."""
    d, layers = 64, {int(name.split(".")[3]) for name in ours if name.startswith("encoder.recurrent.layers")}
    for layer in sorted(layers):
        start = f"encoder.recurrent.layers.{layer}."
        own = {name.removeprefix(start): tensor for name, tensor in ours.items() if name.startswith(start)}
        below = items if not layer else np.arange(d)
        cell = f"multi_rnn_cell/cell_{layer}/" if len(layers) > 1 else ""
        if "bias" in own:
            at, sign = f"encoder/rnn/{cell}gru_cell", torch.ones(3 * d).index_fill(0, torch.arange(d, 2 * d), -1.0)
            both = torch.cat([own["input"][:, below], own["recurrent"]], dim=1) * sign[:, None]  # [3 d, d_in + d]
            found[f"{at}/gates/kernel"], found[f"{at}/candidate/kernel"] = both[: 2 * d].T, both[2 * d :].T
            found[f"{at}/gates/bias"], found[f"{at}/candidate/bias"] = (own["bias"] * sign).split([2 * d, d])
        else:
            at, order = f"encoder/rnn/{cell}basic_lstm_cell", np.arange(4 * d).reshape(4, d)[[0, 2, 1, 3]].ravel()
            both = torch.cat([own["weight_ih_l0"][:, below], own["weight_hh_l0"]], dim=1)
            bias = own["bias_ih_l0"].clone()
            bias[d : 2 * d] -= forget
            found[f"{at}/kernel"], found[f"{at}/bias"] = both[order].T, bias[order]


def model_of(changed: dict[str, Any], codes: np.ndarray) -> RetrievalModel:
    """The preset with ``changed`` settings, random weights and no dropout."""
    settings = {**preset("sdm-code")["model"], "feature_widths": {"shop": WIDTHS["shop"]}, "dropout": 0.0, **changed}
    sizes = Sizes(N_ITEMS, N_ITEMS, len(LENGTHS), FEATURES, PROFILE)
    model = RetrievalModel(model_config(settings), UnclickedConfig(), sizes, codes)
    random = torch.Generator().manual_seed(len(changed))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            centre = 1.0 if name.endswith("norm.weight") else 0.0
            weight.normal_(centre, 0.0 if "bias_hh" in name else 0.15, generator=random)
            # of single precision, as theirs are; torch's LSTM has two biases for the one of theirs
            weight.copy_(weight.float())
        for table in (module for module in model.modules() if isinstance(module, torch.nn.Embedding)):
            table.weight[0] = 0
    return model


def ask_authors(tensorflow: str, authors: Path, asked: dict[str, Any]) -> dict[str, Tensor]:
    """What `sdm_tensorflow.py` answers to ``asked``."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ("in.npz", "out.npz")]
        np.savez(files[0], **asked)
        script = Path(__file__).with_name("sdm_tensorflow.py")
        ran = subprocess.run([tensorflow, script, authors, *files], stderr=subprocess.PIPE, text=True)
        if ran.returncode:
            sys.exit(f"the authors' side failed:\n{ran.stderr}")
        return {name: torch.from_numpy(value) for name, value in np.load(files[1]).items()}


class Sampled:
    """The sample that theirs drew, as a sampler of ours: the items and, found from what theirs expects of one, the draws it took."""

    def __init__(self, answer: dict[str, Tensor]) -> None:
        self.items = answer["items"].numpy() + 1
        first = -np.log1p(-answer["expected_items"].numpy()[0].astype(float))
        self.draws = round(first / -np.log1p(-log_uniform_probability(self.items[0], N_ITEMS)))

    def shared(self, rng: np.random.Generator, labels: np.ndarray) -> Negatives:
        return Negatives(self.items, lambda which: log_expected_count(which, N_ITEMS, self.draws))


def compare(
    authors: Path, tensorflow: str, theirs: dict[str, Any], ours: dict[str, Any], step: bool
) -> tuple[Found, Found]:
    """One case: settings of theirs and of ours beside the defaults and the preset; ``step``: the weights after a step as well."""
    asked = rows_of(seed=len(theirs))
    model = model_of(ours, asked.codes)
    weights = dict(model.named_parameters())
    given = {f"weight:{name}": tensor.detach().numpy() for name, tensor in to_theirs(weights, forget=1.0).items()}
    given |= {f"feature:{name}": value for name, value in asked.features.items()}
    answer = ask_authors(tensorflow, authors, {"settings": json.dumps({**THEIRS, **theirs}), **given})

    sample = Sampled(answer)
    objective = Objective(ObjectiveConfig(negatives=NEGATIVES), N_ITEMS, sample)  # type: ignore[arg-type]
    queries = model(asked.batch).query  # [P, 1, d]
    loss = objective(model, queries, asked.targets, np.random.default_rng(0))
    slopes = gradients(loss, weights.items())
    renamed = to_theirs({name[12:]: slope for name, slope in slopes.items()})
    vectors = answer["vectors"][asked.batch.row, asked.batch.position].double()  # [P, d]
    table = model.item_vectors().detach()
    mine: Found = {
        "scores": queries[:, 0] @ table.T, "scores loss": loss,
        "scores expected": torch.from_numpy(np.exp(log_expected_count(sample.items, N_ITEMS, sample.draws))),
        **{f"gradient of {name}": slope for name, slope in renamed.items()},
    }  # fmt: skip
    of_authors: Found = {
        "scores": vectors @ table.T, "scores loss": answer["loss"], "scores expected": answer["expected_items"],
        **{f"gradient of {name}": answer[f"gradient:{name}"] for name in renamed},
    }  # fmt: skip
    if step:
        step_along(model, slopes)
        for name, weight in to_theirs(dict(model.named_parameters())).items():
            mine[f"scores after {name}"], of_authors[f"scores after {name}"] = weight, answer[f"after:{name}"]
    return {name: tensor.detach() for name, tensor in mine.items()}, of_authors


def step_along(model: RetrievalModel, slopes: Found) -> None:
    """One step of the preset's optimiser along the gradients ``slopes``."""
    optimizer = new_optimizer(
        model, TrainingConfig(optimizer=preset("sdm-code")["training"]["optimizer"], learning_rate=RATE)
    )
    for name, weight in model.named_parameters():
        weight.grad = slopes[f"gradient of {name}"]
    optimizer.step()


LSTM = {"unit_type": "lstm", "num_layers": 2, "num_residual_layers": 1}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sdm-code": ({}, {}),
    "two LSTM layers with a residual": (LSTM, {"cell": "lstm", "layers": 2, "residual_layers": None}),
    "two GRU layers, 8 heads": ({"num_layers": 2, "num_heads": 8}, {"layers": 2, "heads": 8}),
    "user attention concat, no residual": (
        {"user_attn": "concat", "user_residual": False}, {"user_attention": "concat", "user_residual": False},
    ),
    "without the long term": ({"model": "rnn,self_attn,personal,user_attn"}, {"long_term": False}),
    "without user attention": ({"model": "rnn,self_attn,personal,prefer"}, {"user_attention": "none"}),
    **{f"fusion {kind}": ({"fusion_op": kind}, {"fusion": kind}) for kind in ("feature_gated", "add", "multiply", "concat")},
}  # fmt: skip


def main() -> None:
    asked = authors_argument(__doc__ or "", tensorflow="a Python that has TensorFlow 2 with Keras 2, and NumPy")

    def case(name: str) -> Callable[[], tuple[Found, Found]]:
        theirs, ours = CASES[name]
        return lambda: compare(asked.authors, asked.tensorflow, theirs, ours, step=name == "sdm-code")

    run(
        "sdm_original", "github:alicogintel/SDM", asked.commit, {name: case(name) for name in CASES},
        replaced="tf.contrib: feature columns (ids in place of hashes); cells and a triangular matrix by their later names",
        theirs="single precision",
    )  # fmt: skip


if __name__ == "__main__":
    main()
