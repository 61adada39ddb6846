"""TDM with attention against its authors' network, alibaba/x-deeplearning (TDM's script for UserBehavior).

``python parity/tdm.py --authors CHECKOUT --mxnet PYTHON``. Their script runs inside XDL, which can no longer be installed; the
network in it is MXNet and runs by itself in a Python of its own: see `tdm_mxnet.py`. Theirs computes in single precision, ours in
double.

Sessions of any length are asked at every eighth click. Each label's path and the nodes that ours draws beside it are the pairs of one
step: theirs is given the vectors of the clicks and of the node for each pair, so ours is compared as a whole, with the tree, the
windows and the batch normalisation over all pairs. Compared are the logits, the loss (theirs is a mean over pairs, ours a sum over
them and a mean over labels and levels: one constant apart) and all gradients, those of tables summed over the pairs.

Where the paper and their code differ, ours is the paper's; theirs is given weights that make the two the same: a slope of 1, which
makes the weight of a click linear, and a last dense layer of 32 units, here as wide as the vectors. Of their two outputs for a
softmax the first is held at zero. The biases of its attention are a constant 0.1; so are ours here, which are learned otherwise.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, our_model, run
from torch import Tensor

from xdm.models.retrieval_model import RetrievalModel

N_ITEMS, WIDTH, LENGTHS = 90, 32, [1, 4, 30, 75]
WINDOWS = (1, 1, 1, 2, 2, 2, 10, 10, 20, 20)
ASKED = slice(
    None, None, 8
)  # of all clicks; of many more some unit would lie within single precision of its PReLU's kink
torch.set_default_dtype(torch.float64)


def random_model(seed: int) -> RetrievalModel:
    """A first tree and weights that ``seed`` draws; negatives are each label's own."""
    torch.manual_seed(seed)
    settings = {
        "name": "tdm", "variant": "attention", "width": WIDTH, "hidden": [128, 64], "windows": WINDOWS,
        "negatives": [9, 6, 4, 3, 2], "negatives_for": "label",
    }  # fmt: skip
    model = our_model(settings, N_ITEMS).train()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(1.0 if name.endswith("norm.weight") else 0.0, 0.17)
            if name.endswith(("click.bias", "weigh.bias")):
                weight.fill_(0.1)
            if name.endswith("slope"):
                weight.abs_().add_(0.1)  # for theirs is divided by it, see `tdm_mxnet.py`
            weight.copy_(weight.float())  # of single precision, as theirs are
        for table in (model.encoder.items.tables[0], model.encoder.nodes):
            table.weight[0] = 0
    return model


def to_theirs(ours: Found) -> Found:
    """Our tensors (weights, or gradients of weights) of the scoring network under their names; time windows the other way round."""
    own = {name.removeprefix("encoder.scoring."): tensor for name, tensor in ours.items() if "scoring" in name}
    parts = [own[f"{name}.weight"].T for name in ("click", "product", "node")]
    found = {
        "fc_w_1": torch.cat(parts)[None], "alpha_1_1": own["slope"][None, None], "fc_w_2": own["weigh.weight"].T[None],
    }  # fmt: skip
    order = np.arange(11 * WIDTH).reshape(11, WIDTH)
    order[:10] = order[9::-1]
    for place in range(3):
        at = f"{place + 1}_d"
        weight = own[f"layers.{place}.linear.weight"]
        found[f"fc_w_{at}"] = weight if place else weight[:, order.ravel()]
        found[f"bn_gamma_1_{at}"], found[f"bn_bias_1_{at}"] = (
            own[f"layers.{place}.norm.{name}"] for name in ("weight", "bias")
        )
        found[f"alpha_1_{at}"] = own[f"layers.{place}.slope"]
    # one logit, the second; the first stays zero
    found["fc_w_4_d"], found["fc_b_4_d"] = own["logit.weight"], own["logit.bias"]
    return found


def ask_authors(mxnet: str, authors: Path, asked: dict[str, Any]) -> dict[str, Tensor]:
    """What `tdm_mxnet.py` answers to ``asked``."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ("in.npz", "out.npz")]
        np.savez(files[0], **asked)
        script = Path(__file__).with_name("tdm_mxnet.py")
        ran = subprocess.run([mxnet, script, authors, *files], capture_output=True, text=True)
        if ran.returncode:
            sys.exit(f"the authors' side failed:\n{ran.stderr}")
        return {name: torch.from_numpy(value).double() for name, value in np.load(files[1]).items()}


def pairs_of(
    model: RetrievalModel, rows: list[list[int]], targets: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The clicks ``[R, 69]`` (oldest first, 0 for none), nodes ``[R]`` and labels ``[R]`` of all pairs of a step, in plain Python.

    A node is its number in the tree; the number of a leaf is turned into minus its item.
    """
    leaves, depth = model.encoder.leaves.tolist(), model.encoder.depth
    points = [row[: end + 1] for row in rows for end in range(len(row))][ASKED]
    nodes, items = model.encoder.draw(torch.from_numpy(targets)[:, None], np.random.default_rng(seed))
    clicks, of_pair, labels = [], [], []
    for p, (seen, target) in enumerate(zip(points, targets.tolist(), strict=True)):
        path = [leaves[target] >> (depth - level) for level in range(1, depth)] + [-target]
        beside = nodes[p].tolist() + [-item for item in items[p].tolist()]
        last = sum(WINDOWS)
        clicks += [([0] * last + seen)[-last:]] * (len(path) + len(beside))
        of_pair += path + beside
        labels += [1] * len(path) + [0] * len(beside)
    return np.array(clicks), np.array(of_pair), np.array(labels)


def given_theirs(model: RetrievalModel, clicks: np.ndarray, nodes: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What theirs is asked: the vectors of all pairs and our weights; of what ours lacks what makes no difference."""
    items, inner = (table.weight.detach().numpy() for table in (model.encoder.items.tables[0], model.encoder.nodes))
    weights = {name: weight.detach().numpy() for name, weight in to_theirs(dict(model.named_parameters())).items()}
    weights |= {
        f"fc_b_{place}_d": np.zeros(len(weights[f"fc_w_{place}_d"])) for place in (1, 2, 3)
    }  # the norm has a bias
    weights |= {
        name: np.concatenate([np.zeros_like(weights[name]), weights[name]]) for name in ("fc_w_4_d", "fc_b_4_d")
    }
    weights["alpha_1_2"] = np.ones((1, 1, 1))
    vectors = np.where(nodes[:, None] < 0, items[np.maximum(-nodes, 0)], inner[np.maximum(nodes, 0)])
    arrays = {"clicks": items[clicks], "nodes": vectors, "labels": labels}
    arrays |= {f"weight:{name}": weight for name, weight in weights.items()}
    return {"windows": ",".join(map(str, WINDOWS[::-1])), **{name: a.astype(np.float32) for name, a in arrays.items()}}


def ours(model: RetrievalModel, rows: list[list[int]], targets: np.ndarray, n_pairs: int, seed: int) -> Found:
    """Logits, loss and gradients of one step of ours, under their names."""
    kept: list[Tensor] = []
    score = model.encoder.score
    model.encoder.score = lambda *given: kept.append(score(*given)) or kept[-1]  # type: ignore[method-assign, func-returns-value]
    batch = batch_of(rows).at(ASKED)
    queries = model(batch).query
    loss = model.encoder.own_loss(queries, torch.from_numpy(targets)[:, None], batch, model, np.random.default_rng(seed))
    loss = loss * len(targets) * model.encoder.depth / n_pairs  # a mean over pairs
    slopes = {
        name.removeprefix("gradient of "): slope for name, slope in gradients(loss, model.named_parameters()).items()
    }
    found = {
        "items": slopes["encoder.items.tables.0.weight"], "nodes": slopes["encoder.nodes.weight"], **to_theirs(slopes),
    }  # fmt: skip
    return {
        "scores": kept[0].detach().flatten(), "scores loss": loss.detach(),
        **{f"gradient of {name}": slope for name, slope in found.items()},
    }  # fmt: skip


def theirs(answer: dict[str, Tensor], like: Found, clicks: np.ndarray, nodes: np.ndarray, labels: np.ndarray) -> Found:
    """Their answer under the names and in the shapes of ``like``."""
    found = {name: answer[f"gradient:{name}"] for name in (key.removeprefix("gradient of ") for key in like)
             if f"gradient:{name}" in answer}  # fmt: skip
    found |= {name: found[name][1:] for name in ("fc_w_4_d", "fc_b_4_d")}
    of_items, of_nodes = (torch.zeros_like(like[f"gradient of {name}"]) for name in ("items", "nodes"))
    of_items.index_add_(0, torch.from_numpy(clicks.ravel()), answer["clicks"].flatten(0, 1))
    for place, slope in zip(nodes.tolist(), answer["gradient:node"], strict=True):
        (of_items[-place] if place < 0 else of_nodes[place]).add_(slope)
    of_items[0] = 0  # padding
    logits = answer["logits"][:, 1] - answer["logits"][:, 0]
    return {
        "scores": logits, "scores loss": (torch.nn.functional.softplus(logits) - torch.from_numpy(labels) * logits).mean(),
        **{f"gradient of {name}": slope for name, slope in {**found, "items": of_items, "nodes": of_nodes}.items()},
    }  # fmt: skip


def compare(authors: Path, mxnet: str, seed: int) -> tuple[Found, Found]:
    """Ours and theirs for one drawing of sessions, labels and negatives."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(1, N_ITEMS + 1, length).tolist() for length in LENGTHS]
    targets = rng.integers(1, N_ITEMS + 1, sum(LENGTHS))[ASKED]
    model = random_model(seed)
    pairs = pairs_of(model, rows, targets, seed)
    answer = ask_authors(mxnet, authors, given_theirs(model, *pairs))
    found = ours(model, rows, targets, len(pairs[0]), seed)
    return found, theirs(answer, found, *pairs)


def main() -> None:
    asked = authors_argument(__doc__ or "", mxnet="a Python that has MXNet 1.9.1")

    def case(seed: int) -> Callable[[], tuple[Found, Found]]:
        return lambda: compare(asked.authors, asked.mxnet, seed)

    run(
        "tdm", "github:alibaba/x-deeplearning", asked.commit, {f"attention, drawing {seed}": case(seed) for seed in (1, 2, 3)},
        replaced="XDL: their network is given looked-up vectors; Python 2 as Python 3; the gradient of a PReLU's slope, to which "
        "MXNet 1.9.1 adds the slope as a factor", theirs="single precision", mxnet="1.9.1",
    )  # fmt: skip


if __name__ == "__main__":
    main()
