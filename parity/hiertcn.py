"""HierTCN against github:JiaxuanYou/HierTCN: ``python parity/hiertcn.py --authors CHECKOUT --tensorflow PYTHON``.

The authors' code is TensorFlow 1 and runs, but for two files that are copies of TensorFlow's own layers, under the compatibility
interface of TensorFlow 2 (2.15 was used) in a Python of its own: see `hiertcn_tensorflow.py`. It draws the weights and runs over
each user session by session; ours has a row a user. Compared is what each gives after every click, and the gradients of its
product with random slopes: of the scores of all items in the form for XING, of queries in Pinterest's.
"""

from __future__ import annotations

import subprocess
import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from batches import batch_of_sessions, drawn_sessions
from comparing import Found, authors_argument, gradients, load, our_model, run
from metric_models import version_of_tensorflow
from torch import Tensor

ITEMS, WIDTH = 40, 128  # the width is written into their code
SCRIPT = Path(__file__).parent / "hiertcn_tensorflow.py"


def padded(rows: Tensor) -> Tensor:
    """A row of zeros before ``rows``: our tables have one for padding."""
    return torch.cat([torch.zeros_like(rows[:1]), rows])


def cell_as_ours(gates: Tensor, candidate: Tensor) -> Tensor:
    """Their columns r, u and the candidate as our rows r, z, n; their u keeps the old state, our z lets the new one in."""
    reset, kept = gates.transpose(0, -1).chunk(2)
    return torch.cat([reset, -kept, candidate.transpose(0, -1)])


def as_ours(of: dict[str, Tensor], form: str, layers: int) -> Found:
    """Their weights, or their gradients, ``of`` by their names, under our names and in our layout."""
    told = of["hier/tcn/emb/kernel"].T
    found = {
        "encoder.items.tables.0.weight": padded(of["hier/emb/kernel"]), "encoder.mean_bias": of["hier/emb/bias"],
        "encoder.of_item.weight": told[:, :WIDTH], "encoder.of_user.weight": told[:, WIDTH:],
    }  # fmt: skip
    for layer in range(layers):
        cell = f"hier/multi_rnn_cell/cell_{layer}/gru_cell"
        both = cell_as_ours(of[f"{cell}/gates/kernel"], of[f"{cell}/candidate/kernel"])
        inputs = both.shape[1] - both.shape[0] // 3
        found |= {
            f"encoder.levels.{layer}.input": both[:, :inputs], f"encoder.levels.{layer}.recurrent": both[:, inputs:],
            f"encoder.levels.{layer}.bias": cell_as_ours(of[f"{cell}/gates/bias"], of[f"{cell}/candidate/bias"]),
        }  # fmt: skip
    for name, value in of.items():
        if "tblock_" in name:
            block, layer, kind = name.split("tblock_")[1].split("/")
            part = {"conv1": "filters", "dense": "residual"}[layer]
            found[f"encoder.blocks.{block}.{part}.{'weight' if kind == 'kernel' else kind}"] = (
                value if kind == "bias" else value.reshape(-1, value.shape[-1]).T
            )
    last, bias = of["hier/tcn/dense/kernel"].T, of["hier/tcn/dense/bias"]
    if form == "xing":
        return found | {"output.weight": padded(last), "output_bias.weight": padded(bias[:, None])}
    return found | {"encoder.leave.weight": last, "encoder.leave.bias": bias}


def authors_side(asked: Namespace, users: list[list[list[int]]], slopes: Tensor, **settings: object) -> dict[str, np.ndarray]:
    """What their script writes for these users and settings."""
    clicks = {f"session {u} {s}": np.array(one) for u, sessions in enumerate(users) for s, one in enumerate(sessions)}
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, items=ITEMS, users=len(users), sessions=[len(one) for one in users], slopes=slopes.numpy(),
                 **clicks, **settings)  # type: ignore[arg-type]  # fmt: skip
        subprocess.run([asked.tensorflow, SCRIPT, asked.authors, given, out], check=True, capture_output=True)
        return dict(np.load(out))


def case(asked: Namespace, form: str, channels: list[int], kernel: int, layers: int) -> tuple[Found, Found]:
    """Ours and theirs with these settings."""
    users = drawn_sessions(ITEMS, np.random.default_rng(0))
    batch = batch_of_sessions(users)
    width = ITEMS if form == "xing" else channels[-1]
    slopes = torch.randn((len(batch.row), width), generator=torch.Generator().manual_seed(1)) / len(batch.row)
    theirs = authors_side(asked, users, slopes, channels=channels, kernel=kernel, user_layers=layers, user_width=6,
                          unit=form == "pinterest", output=width)  # fmt: skip

    def named(kind: str) -> Found:
        of = {name.removeprefix(kind): torch.from_numpy(value) for name, value in theirs.items() if name.startswith(kind)}
        return as_ours(of, form, layers)

    ours = our_model({"name": "hiertcn", "form": form, "width": WIDTH, "channels": channels, "kernel": kernel,
                      "user_layers": layers, "user_width": 6}, ITEMS)  # fmt: skip
    weights = named("weight ")
    if form == "pinterest":
        weights["output.weight"] = torch.zeros(ITEMS + 1, width)  # their items are vectors of another model
    load(ours, weights)
    query = ours.encoder.encode(batch)  # [P, 1, d]
    scores = ours.score(ours.scoring.queries(query), ours.item_vectors()) if form == "xing" else query[:, 0]
    learned = [(name, weight) for name, weight in ours.named_parameters() if form == "xing" or name != "output.weight"]
    found_ours = {"scores": scores.detach()} | gradients((scores * slopes).sum(), learned)
    found_theirs = {"scores": torch.from_numpy(theirs["scores"])}
    return found_ours, found_theirs | {f"gradient of {name}": value for name, value in named("gradient of ").items()}


def main() -> None:
    asked = authors_argument(__doc__ or "", tensorflow="a Python that has TensorFlow 2, at most 2.15, and NumPy")
    settings = {
        "XING: their settings, with a narrow user level": ("xing", [128, 128], 5, 2),
        "XING: blocks of other widths, one layer of the user": ("xing", [20, 20, 12], 3, 1),
        "Pinterest: four blocks, queries of length one": ("pinterest", [128] * 4, 5, 2),
    }
    run("hiertcn", "github:JiaxuanYou/HierTCN", asked.commit, {
        name: lambda one=one: case(asked, *one) for name, one in settings.items()
    }, replaced="their copies of TensorFlow's dense and convolution layers, by TensorFlow's; models that are not compared",
        tensorflow=version_of_tensorflow(asked.tensorflow))  # fmt: skip


if __name__ == "__main__":
    main()
