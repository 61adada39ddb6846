"""Caser against github:graytowne/caser_pytorch.

``python parity/caser.py --authors CHECKOUT``. Ours reads a few long rows and is asked at every click; theirs is given the last
five clicks of each point, padded with 0 on the left. Their row 0 of the item table, which pads, is our `Caser.padding`.
The loss is theirs: binary cross-entropy over three targets and three negatives of each point.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, module_of, our_model, run
from torch import Tensor
from torch.nn import functional as F

from xdm.models.caser import CaserConfig
from xdm.models.retrieval_model import RetrievalModel

ITEMS, USERS, LENGTHS = 60, 5, [1, 12, 4, 7, 3]
THEIR_NAMES = {"sigmoid": "sigm", "identity": "iden"}  # of activations; the others are called the same


def shared(ours: RetrievalModel) -> dict[str, tuple[str, Callable[[Tensor], Tensor]]]:
    """Their name of each weight: our name, and the way from theirs to ours."""
    own = {name: (f"encoder.{name}", lambda w: w) for name in ("dense.weight", "dense.bias")}
    names = {name.replace("dense", "fc1"): to for name, to in own.items()}
    names["conv_v.weight"] = ("encoder.vertical.weight", lambda w: w[:, 0, :, 0])
    names["conv_v.bias"] = ("encoder.vertical.bias", lambda w: w)
    for h in range(ours.encoder.window):
        names[f"conv_h.{h}.weight"] = (f"encoder.horizontal.{h}.weight", lambda w: w[:, 0].transpose(1, 2))
        names[f"conv_h.{h}.bias"] = (f"encoder.horizontal.{h}.bias", lambda w: w)
    # Their users count from 0, ours from 1; row 0 of our tables is the zero row.
    names["user_embeddings.weight"] = ("encoder.users.user.weight", lambda w: F.pad(w, (0, 0, 1, 0)))
    names["item_embeddings.weight"] = ("encoder.items.tables.0.weight", without_padding)
    names["W2.weight"] = ("output.weight", without_padding)
    names["b2.weight"] = ("output_bias.weight", without_padding)
    return names


def without_padding(w: Tensor) -> Tensor:
    """``w`` with a row 0 of zeros."""
    return F.pad(w[1:], (0, 0, 1, 0))


def case(authors: ModuleType, settings: dict[str, Any], training: bool) -> tuple[Found, Found]:
    """Scores of every item at every point, and the gradients of every weight, ours and theirs."""
    config = CaserConfig(**settings)
    torch.manual_seed(1)
    theirs = authors.Caser(USERS, ITEMS + 1, Namespace(
        L=config.window, d=config.width, nh=config.horizontal, nv=config.vertical, drop=config.dropout,
        ac_conv=THEIR_NAMES.get(config.conv_activation, config.conv_activation),
        ac_fc=THEIR_NAMES.get(config.dense_activation, config.dense_activation),
    ))  # fmt: skip
    ours = our_model({"name": "caser", **settings}, ITEMS, USERS)
    weights, names = dict(ours.named_parameters()), shared(ours)
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            weight.normal_(std=0.2)
            weights[names[name][0]].copy_(names[name][1](weight))
        ours.encoder.padding.copy_(theirs.item_embeddings.weight[0])
    assert {names[name][0] for name, _ in theirs.named_parameters()} == weights.keys() - {"encoder.padding"}
    ours.train(training)
    theirs.train(training)

    users = torch.arange(USERS)
    batch = batch_of([torch.randint(1, ITEMS + 1, (length,)).tolist() for length in LENGTHS], user=users + 1)
    windows = torch.zeros((len(batch.row), config.window), dtype=torch.long)
    for p, (row, position) in enumerate(zip(batch.row, batch.position, strict=True)):
        clicks = batch.short[row, : position + 1][-config.window :]
        windows[p, config.window - len(clicks) :] = clicks
    asked = torch.randint(1, ITEMS + 1, (len(windows), 6))  # three targets, three negatives

    def score_ours(items: Tensor) -> Tensor:
        torch.manual_seed(2)  # the same places drop out
        return ours.score(ours(batch).query, ours.scored(items))

    def score_theirs(items: Tensor) -> Tensor:
        torch.manual_seed(2)
        return theirs(windows, users[batch.row][:, None], items)

    every = torch.arange(1, ITEMS + 1).expand(len(windows), -1)
    found_ours, found_theirs = ({"scores": score(every).detach()} for score in (score_ours, score_theirs))
    positive, negative = score_theirs(asked).split(3, dim=1)
    loss = -torch.log(torch.sigmoid(positive)).mean() - torch.log(1 - torch.sigmoid(negative)).mean()
    found_theirs |= gradients(loss, theirs.named_parameters())
    positive, negative = score_ours(asked).split(3, dim=1)
    own = gradients(F.softplus(-positive).mean() + F.softplus(negative).mean(), weights.items())
    padding = found_theirs["gradient of item_embeddings.weight"][:1]
    for theirs_name, (name, turn) in names.items():
        found_ours[f"gradient of {theirs_name}"] = own[f"gradient of {name}"]
        found_theirs[f"gradient of {theirs_name}"] = turn(found_theirs[f"gradient of {theirs_name}"])
    found_ours["gradient of the padding"], found_theirs["gradient of the padding"] = own["gradient of encoder.padding"][None], padding
    return found_ours, found_theirs


if __name__ == "__main__":
    asked = authors_argument("Caser: our scores and gradients against the authors'")
    module = module_of(asked.authors, "caser")
    cases: dict[str, tuple[dict[str, Any], bool]] = {
        "the authors' settings": ({}, False),
        "the same, with dropout 0.5": ({}, True),
        "tanh and sigmoid, L = 8": ({"conv_activation": "tanh", "dense_activation": "sigmoid", "window": 8}, False),
    }
    run("caser", "github:graytowne/caser_pytorch", asked.commit, {
        name: lambda one=one: case(module, *one) for name, one in cases.items()
    })  # fmt: skip
