"""SASRec with ``norm: original`` against its authors' own code, kang205/SASRec.

``python parity/sasrec_original.py --authors CHECKOUT --tensorflow PYTHON``. Their code is TensorFlow 1 and runs, unchanged, under
the compatibility interface of TensorFlow 2 (2.15 was used) in a Python of its own: see `transformers_tensorflow.py`. Theirs
computes in single precision, ours in double. Weights are random, dropout is off; rows are of any length, theirs padded on
the left, so positions count from the end. The bias of their keys, which changes no softmax, has no counterpart here.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, load, our_model, run
from torch import Tensor
from torch.nn.functional import logsigmoid

N_ITEMS, WIDTH, LENGTH, BLOCKS = 60, 20, 12, 2
LENGTHS = [1, 2, 5, 9, 12, 12]
torch.set_default_dtype(torch.float64)


def names() -> list[tuple[str, tuple[int, ...]]]:
    """Our name and their shape of each of their weights, in the order in which their code makes them."""
    square, line = (WIDTH, WIDTH), (WIDTH,)
    found = [("encoder.items.tables.0.weight", (N_ITEMS + 1, WIDTH)), ("encoder.positions.weight", (LENGTH, WIDTH))]
    for b in range(BLOCKS):
        at = f"encoder.blocks.{b}"
        found += [(f"{at}.norm_attention.bias", line), (f"{at}.norm_attention.weight", line)]
        for part in ("query", "key", "value"):
            found += [(f"{at}.attention.{part}.weight", square), (f"{at}.attention.{part}.bias", line)]
        found += [(f"{at}.norm_forward.bias", line), (f"{at}.norm_forward.weight", line)]
        for part in ("inner", "outer"):
            found += [(f"{at}.{part}.weight", square), (f"{at}.{part}.bias", line)]
    return [*found, ("encoder.norm.bias", line), ("encoder.norm.weight", line)]


def to_ours(theirs: list[np.ndarray]) -> Found:
    """Their tensors (weights, or gradients of weights) under our names: dense layers the other way round."""
    ours = {}
    for (name, shape), array in zip(names(), theirs, strict=True):
        tensor = torch.from_numpy(array.astype(np.float64)).reshape(shape)
        ours[name] = tensor.T if shape == (WIDTH, WIDTH) else tensor
    return {name: tensor for name, tensor in ours.items() if not name.endswith("key.bias")}


def ask_authors(tensorflow: str, authors: Path, asked: dict[str, object]) -> dict[str, np.ndarray]:
    """What `transformers_tensorflow.py` answers to ``asked``."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ("in.npz", "out.npz")]
        np.savez(files[0], **asked)  # type: ignore[arg-type]
        script = Path(__file__).with_name("transformers_tensorflow.py")
        ran = subprocess.run([tensorflow, script, authors, *files], stderr=subprocess.PIPE, text=True)
        if ran.returncode:
            sys.exit(f"the authors' side failed:\n{ran.stderr}")
        return dict(np.load(files[1]))


def compare(authors: Path, tensorflow: str, heads: int) -> tuple[Found, Found]:
    """Scores of all items at every place, and gradients of their loss: one positive and one negative at every place."""
    rng = np.random.default_rng(heads)
    weights = [
        rng.normal(1.0 if name.endswith("norm.weight") else 0.0, 0.3, shape).astype(np.float32)
        for name, shape in names()
    ]
    weights[0][0] = 0
    settings = {
        "norm": "original",
        "positions": "from_end",
        "width": WIDTH,
        "heads": heads,
        "blocks": BLOCKS,
        "length": LENGTH,
    }
    ours = our_model({"name": "sasrec", **settings}, N_ITEMS)
    load(ours, to_ours(weights))

    rows = [rng.integers(1, N_ITEMS + 1, n).tolist() for n in LENGTHS]
    targets = rng.integers(1, N_ITEMS + 1, (2, sum(LENGTHS)))
    padded = np.array([[0] * (LENGTH - len(row)) + row for row in rows])
    inside = padded > 0
    placed = np.zeros((2, *padded.shape), int)
    placed[:, inside] = targets
    found = ask_authors(tensorflow, authors, {
        "kind": "sasrec", "items": N_ITEMS, "length": LENGTH, "heads": heads, "blocks": BLOCKS, "rows": padded,
        "positives": placed[0], "negatives": placed[1], **{f"weight:{i}": weight for i, weight in enumerate(weights)},
    })  # fmt: skip

    scores = ours.score(ours(batch_of(rows)).query, ours.item_vectors())
    positive, negative = (scores[torch.arange(len(scores)), torch.from_numpy(items - 1)] for items in targets)
    loss: Tensor = -(logsigmoid(positive) + logsigmoid(-negative)).mean()
    renamed = to_ours([found[f"gradient:{i}"] for i in range(len(weights))])
    return (
        {"scores": scores.detach(), **gradients(loss, ours.named_parameters())},
        {
            "scores": torch.from_numpy(found["scores"][inside]),
            **{f"gradient of {name}": g for name, g in renamed.items()},
        },
    )


if __name__ == "__main__":
    asked = authors_argument(__doc__, tensorflow="a Python that has TensorFlow 2 with Keras 2")
    cases = {f"heads {heads}": lambda heads=heads: compare(asked.authors, asked.tensorflow, heads) for heads in (1, 4)}
    run(
        "sasrec_original", "github.com/kang205/SASRec", asked.commit, cases,
        replaced="tf.contrib.layers.l2_regularizer, of weight 0", theirs="single precision",
    )  # fmt: skip
