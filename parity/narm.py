"""NARM against its authors' own code, lijingsdu/sessionRec_NARM.

``python parity/narm.py --authors CHECKOUT --theano PYTHON``. Their code is Theano and runs, unchanged, under Aesara (2.9.4 was used)
in a Python of its own: see `narm_theano.py`. Ours reads a few long rows and is asked at every click; theirs is given one row for each
such point. Both in double precision, but for the weights, which theirs keeps in single precision.

Theirs gives probabilities of all items and of row 0, the padding's, whose vector is zeros here: the scores compared are the logs of
the items' probabilities, less the log of that row's. Theirs multiplies by the share that dropout keeps when it is asked, ours divides
by it in training: a constant, which the matrices behind the dropout take up.
"""

from __future__ import annotations

from argparse import Namespace

import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, our_model, run
from metric_models import authors_side
from torch import Tensor
from torch.nn import functional as F

ITEMS, LENGTHS = 60, [1, 12, 4, 19, 9]


def their_order(rows: Tensor) -> Tensor:
    """Our gates r, z, n in the order of theirs: z, r, n. Either way round it is the same change."""
    r, z, n = rows.chunk(3)
    return torch.cat([z, r, n])


def as_theirs(named: dict[str, Tensor], scale_in: float, scale_out: float) -> dict[str, Tensor]:
    """Our weights, or their gradients, under the names and in the layout of theirs; a weight behind a dropout times a scale."""
    hidden = named["gru.recurrent"].shape[1]
    urz = their_order(named["gru.recurrent"])
    return {
        "Wemb": named["items.tables.0.weight"],
        "gru_Wxrz": their_order(named["gru.input"]).T * scale_in,
        "gru_Urz": urz[: 2 * hidden].T, "gru_Uh": urz[2 * hidden :].T, "gru_b": their_order(named["gru.bias"][:, None])[:, 0],
        "W_encoder": named["of_click.weight"], "W_decoder": named["of_last.weight"], "bl_vector": named["weigh"][None],
        "bili": named["decode.weight"] * scale_out,
    }  # fmt: skip


def case(asked: Namespace, dropout: bool) -> tuple[Found, Found]:
    """Scores of every item at every point, and the gradients of every weight, ours and theirs."""
    torch.manual_seed(1)
    ours = our_model({"name": "narm", "width": 10, "hidden": 14}, ITEMS)
    weights = dict(ours.encoder.named_parameters())
    with torch.no_grad():
        for weight in weights.values():
            weight.copy_(weight.normal_(std=0.5).float())
        weights["items.tables.0.weight"][0] = 0
    batch = batch_of([torch.randint(1, ITEMS + 1, (n,)).tolist() for n in LENGTHS])
    labels = torch.randint(1, ITEMS + 1, (len(batch.row),))
    places = torch.arange(max(LENGTHS))
    rows = torch.where(places <= batch.position[:, None], batch.short[batch.row], 0)
    kept_in, kept_out = (0.75, 0.5) if dropout else (1.0, 1.0)
    given = {f"weight {name}": weight for name, weight in as_theirs(weights, 1 / kept_in, 1 / kept_out).items()}
    theirs = authors_side(
        Namespace(tensorflow=asked.theano, authors=asked.authors), "narm_theano.py",
        rows=rows, labels=labels, dropout=torch.tensor(dropout), **given,
    )  # fmt: skip
    logs = theirs.pop("probabilities").log()
    found_theirs = {"scores": logs[:, 1:] - logs[:, :1], **theirs}

    query = ours(batch).query
    scores = ours.score(query, ours.item_vectors())
    loss = F.cross_entropy(F.pad(scores, (1, 0)), labels)  # and the padding's row, whose score is 0
    own = gradients(loss, weights.items())
    slopes = as_theirs({name: own[f"gradient of {name}"] for name in weights}, kept_in, kept_out)
    found_ours = {"scores": scores.detach(), "loss": loss.detach()} | {f"gradient of {name}": one for name, one in slopes.items()}
    for side in (found_ours, found_theirs):
        side["gradient of Wemb"] = side["gradient of Wemb"][1:]
    return found_ours, found_theirs


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    asked = authors_argument(__doc__ or "", theano="a Python that has Aesara or Theano, and NumPy")
    run("narm", "github:lijingsdu/sessionRec_NARM", asked.commit, {
        "without dropout": lambda: case(asked, dropout=False),
        "their dropout when it is asked": lambda: case(asked, dropout=True),
    }, replaced="Theano by Aesara 2.9.4, random streams by ones")  # fmt: skip
