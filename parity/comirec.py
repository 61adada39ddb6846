"""ComiRec-SA, ComiRec-DR and MIND (as ComiRec's authors compare with it) against github:THUDM/ComiRec.

``python parity/comirec.py --authors CHECKOUT --tensorflow PYTHON``. The authors' code is TensorFlow 1 and runs, unchanged,
under the compatibility interface of TensorFlow 2 (2.15 was used) in a Python of its own: see `comirec_tensorflow.py`.

Ours reads a few long rows and is asked at every click; theirs is given one row for each such point, with the clicks up to it.
So equal scores also say that no point sees its future. Then one step of sampled softmax on one label a point, over the sample
that theirs drew, through the interest that scores the label highest. Id 0 is padding on both sides, with a vector of zeros;
theirs lets it be drawn as an item and learn, ours does not: its own gradient is left out.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from comparing import Found, authors_argument, gradients, run

from xdm.data.batches import Batch
from xdm.models.comirec import ComiRec, ComiRecConfig, ComiRecDR, ComiRecDRConfig
from xdm.models.encoder import Encoder
from xdm.models.mind import MIND, MINDConfig
from xdm.models.shared.inputs import Sizes
from xdm.objectives.softmax import sampled_softmax

ITEMS, WIDTH, INTERESTS, LENGTH = 1000, 16, 4, 20  # of ITEMS one is padding
LENGTHS = [20, 7, 1, 13]
# Our weights by theirs, with the way from ours to theirs; theirs end in these names.
SAME, TURNED = (lambda w: w), (lambda w: w.T)
TABLE = {"mid_embedding_var": ("items.tables.0.weight", SAME)}
ATTENTION = TABLE | {
    "position_embedding": ("positions", SAME), "dense/kernel": ("inner.weight", TURNED), "dense/bias": ("inner.bias", SAME),
    "dense_1/kernel": ("outer.weight", TURNED),
}  # fmt: skip
ROUTING = TABLE | {"bilinear/weights": ("maps", SAME)}
ONE_MAP = TABLE | {"bilinear/dense/kernel": ("map.weight", TURNED)}
# Without a profile ours joins the interests with a constant, here 0, which the last column of the layer's weight multiplies.
WITH_LAYER = ONE_MAP | {
    "proj/kernel": ("layers.0.weight", lambda w: w[:, :WIDTH].T), "proj/bias": ("layers.0.bias", SAME),
}  # fmt: skip
# What theirs has beyond ours: a bias over the places of a softmax, which changes nothing whatever it is, and a bias of MIND's
# map, which its paper does not have.
EXTRA = {
    "Model_ComiRec_SA": {"dense_1/bias": np.linspace(-1, 1, INTERESTS, dtype=np.float32)},
    "Model_ComiRec_DR": {}, "Model_MIND": {"bilinear/dense/bias": np.zeros(WIDTH, np.float32)},
}  # fmt: skip


def batch_of(short: np.ndarray) -> Batch:
    """Rows ``[B, T]`` of clicks, padded with 0 on the right, with a point at every click."""
    row, position = short.nonzero()
    given = {"short": short, "short_length": (short > 0).sum(1), "row": row, "position": position,
             "user": np.zeros(len(short), np.int64)}  # fmt: skip
    nothing = np.zeros(0, np.int64)
    return Batch(**{field.name: torch.from_numpy(given.get(field.name, nothing)) for field in fields(Batch)})


def case(args: tuple[Path, str], kind: str, encoder: Encoder, names: dict[str, tuple[str, Callable]]) -> tuple[Found, Found]:
    """Ours and theirs of one model; ``args``: their checkout and the Python that runs it."""
    rng = np.random.default_rng(0)
    short = rng.integers(1, ITEMS, (len(LENGTHS), LENGTH))
    short[np.arange(LENGTH) >= np.array(LENGTHS)[:, None]] = 0
    batch = batch_of(short)
    rows = np.where(np.arange(LENGTH) <= batch.position.numpy()[:, None], short[batch.row.numpy()], 0)
    labels = rng.integers(1, ITEMS, len(rows))
    weights = dict(encoder.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            if "constant" not in name:
                weight.normal_(std=0.5, generator=torch.Generator().manual_seed(len(name)))
        encoder.items.tables[0].weight[0] = 0
    logits = getattr(encoder, "logits", torch.zeros(0)).numpy()
    given = {f"weight:{theirs}": turn(weights[ours].detach()).numpy() for theirs, (ours, turn) in names.items()}
    given |= {f"weight:{name}": value for name, value in EXTRA[kind].items()}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/in.npz", kind=kind, items=ITEMS, width=WIDTH, interests=INTERESTS, rows=rows, labels=labels,
                 logits=logits, relu=int("proj/kernel" in names), **given)  # fmt: skip
        script = Path(__file__).with_name("comirec_tensorflow.py")
        subprocess.run([args[1], script, args[0], f"{folder}/in.npz", f"{folder}/out.npz"], check=True)
        out = {name: torch.from_numpy(value) for name, value in np.load(f"{folder}/out.npz").items()}

    def theirs_of(name: str) -> torch.Tensor:
        return out[next(key for key in out if key.startswith("gradient of ") and key.endswith(name))]

    table, targets = encoder.items.tables[0].weight, torch.from_numpy(labels)[:, None]
    queries = encoder.encode(batch)  # [P, K, d]
    query, items = encoder.readout(queries, table[targets[:, 0]]), out["items"]  # [P, d], [S]
    positive = (query[:, None] * table[targets]).sum(-1) - out["expected_labels"].log()  # [P, 1]
    negative = query @ table[items].T - out["expected_items"].log()  # [P, S]
    loss = sampled_softmax(positive, negative, torch.ones_like(positive), targets != items).mean()
    found = gradients(loss, weights.items())
    ours: Found = {"scores": (queries @ table.T).amax(1), "scores queries": queries, "scores loss": loss}
    theirs: Found = {
        "scores": (out["queries"] @ table.T).amax(1), "scores queries": out["queries"], "scores loss": out["loss"].reshape(()),
    }  # fmt: skip
    for name, (own, turn) in names.items():
        first = 1 if own == "items.tables.0.weight" else 0
        mine = turn(found[f"gradient of {own}"])[first:]
        ours[f"gradient of {own}"], theirs[f"gradient of {own}"] = mine, theirs_of(name).reshape(turn(weights[own]).shape)[first:]
    return {name: value.detach() for name, value in ours.items()}, {name: value.detach() for name, value in theirs.items()}


def main() -> None:
    asked = authors_argument(__doc__ or "", tensorflow="a Python that has TensorFlow 2, at most 2.15, and NumPy")
    args = (asked.authors, asked.tensorflow)
    version = [asked.tensorflow, "-c", "import tensorflow; print(tensorflow.__version__)"]
    tensorflow = subprocess.run(version, check=True, capture_output=True, text=True).stdout.strip()
    torch.manual_seed(0)
    sizes, codes = Sizes(ITEMS - 1, ITEMS - 1, 0), np.arange(ITEMS)[None]
    shape = {"width": WIDTH, "interests": INTERESTS, "length": LENGTH}
    mind = {**shape, "adaptive": False}
    run("comirec", "github:THUDM/ComiRec", asked.commit, {
        "ComiRec-SA": lambda: case(args, "Model_ComiRec_SA", ComiRec(ComiRecConfig(**shape), sizes, codes), ATTENTION),
        "ComiRec-DR": lambda: case(args, "Model_ComiRec_DR", ComiRecDR(ComiRecDRConfig(**shape), sizes, codes), ROUTING),
        "MIND": lambda: case(args, "Model_MIND", MIND(MINDConfig(**mind, layers=0), sizes, codes), ONE_MAP),
        "MIND with a layer": lambda: case(args, "Model_MIND", MIND(MINDConfig(**mind), sizes, codes), WITH_LAYER),
    }, replaced="imports that these models do not use; MIND's numbers that routing starts from, drawn once for both sides",
       tensorflow=tensorflow)  # fmt: skip


if __name__ == "__main__":
    main()
