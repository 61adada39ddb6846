"""STAMP against github:uestcnlp/STAMP: ``python parity/stamp.py --authors CHECKOUT --tensorflow PYTHON``.

The authors' code is TensorFlow 1 and runs, unchanged, under the compatibility interface of TensorFlow 2 (2.15 was used) in a Python
of its own: see `stamp_tensorflow.py`. Their batches hold prefixes of one length, ours rows of any length asked at every click:
each prefix of ours is found in their batch of its length. Compared are the scores of all items, the losses, and the gradients of
the sum of the losses, with item vectors that are cut to the greatest length and with such as are short enough.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, our_model, run

ITEMS, WIDTH = 40, 12
SCRIPT = Path(__file__).with_name("stamp_tensorflow.py")
LAYERS = ("from_last", "from_click", "from_mean", "of_session", "of_last")  # theirs have the inputs in rows


def as_theirs(of: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Our weights, or their gradients, under the names that `stamp_tensorflow.py` gives theirs."""
    found = {name: of[f"encoder.{name}.weight"].T for name in LAYERS}
    found |= {"items": of["encoder.items.tables.0.weight"], "weigh": of["encoder.weigh"][:, None]}
    return {name: value.detach().numpy() for name, value in found.items()}


def their_side(authors: Path, python: str, module: str, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `stamp_tensorflow.py` answers."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = f"{folder}/in.npz", f"{folder}/out.npz"
        np.savez(asked, **given)  # type: ignore[arg-type]
        subprocess.run([python, SCRIPT, authors, module, asked, answered], check=True, capture_output=True)
        return dict(np.load(answered))


def case(authors: Path, python: str, module: str, max_norm: float, deviation: float) -> tuple[Found, Found]:
    torch.manual_seed(1)
    model = our_model({"name": "stamp", "width": WIDTH, "max_norm": max_norm}, ITEMS)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.5)
        table = model.encoder.items.tables[0].weight  # type: ignore[union-attr]
        table.normal_(std=deviation)
        table[0] = 0  # type: ignore[index]
    rng = np.random.default_rng(2)
    rows = [rng.integers(1, ITEMS + 1, length).tolist() for length in (1, 9, 4, 4, 2)]
    batch = batch_of(rows)
    labels = torch.from_numpy(rng.integers(1, ITEMS + 1, len(batch.row)))
    scores = model(batch).query[:, 0] @ model.item_vectors().T  # [P, n]
    losses = torch.nn.functional.cross_entropy(scores, labels - 1, reduction="none")
    named = dict(model.named_parameters())
    slopes = {
        name.removeprefix("gradient of "): slope for name, slope in gradients(losses.sum(), named.items()).items()
    }
    ours = {"scores": scores.detach(), "loss": losses.detach()} | {
        f"gradient of {name}": torch.from_numpy(value) for name, value in as_theirs(slopes).items()
    }
    weights = {f"weight {name}": value for name, value in as_theirs(named).items()}
    theirs = {name: torch.zeros_like(value) for name, value in ours.items()}
    for position in batch.position.unique().tolist():  # prefixes of one length
        points = torch.nonzero(batch.position == position)[:, 0]
        clicks = batch.short[batch.row[points], : position + 1]
        answer = their_side(
            authors, python, module, weights | {"clicks": clicks.numpy(), "labels": labels[points].numpy()}
        )
        for name, value in answer.items():
            if name.startswith("gradient"):
                theirs[name] += torch.from_numpy(value)
            else:
                theirs[name][points] = torch.from_numpy(value)
    return ours, theirs


if __name__ == "__main__":
    asked = authors_argument("STAMP: ours against the authors'", tensorflow="a Python with TensorFlow 2")
    cases = {
        "Yoochoose, vectors longer than 1": ("STAMP_rsc", 1.0, 0.6), "Yoochoose, shorter vectors": ("STAMP_rsc", 1.0, 0.1),
        "Diginetica, vectors longer than 1.5": ("STAMP_cikm", 1.5, 0.6),
    }  # fmt: skip
    run("stamp", "github:uestcnlp/STAMP", asked.commit, {
        name: lambda of=of: case(asked.authors, asked.tensorflow, *of) for name, of in cases.items()
    }, compared="scores, losses and gradients of every prefix")  # fmt: skip
