"""HGN against github:allenjack/HGN.

``python parity/hgn.py --authors CHECKOUT``. Ours reads a few long rows and is asked at every click; theirs is given the last clicks of
each point, padded with 0 on the left. Their row 0 of the item table, which pads, is our `HGN.padding`. The loss is theirs: BPR, summed
over three pairs of a target and a negative. Their gates over the clicks are plain tensors that their optimiser never sees; their
gradients are compared all the same.
"""

from __future__ import annotations

from argparse import Namespace
from types import ModuleType

import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, module_of, our_model, run
from torch import Tensor
from torch.nn import functional as F

from xdm.models.hgn import HGNConfig
from xdm.models.retrieval_model import RetrievalModel

ITEMS, USERS, LENGTHS = 60, 5, [1, 12, 4, 7, 3]
NAMES = {  # their name of each weight and ours
    "feature_gate_item.weight": "encoder.gate_of_item.weight", "feature_gate_item.bias": "encoder.gate_of_item.bias",
    "feature_gate_user.weight": "encoder.gate_of_user.weight", "feature_gate_user.bias": "encoder.gate_of_user.bias",
    "instance_gate_item": "encoder.instance_of_item", "instance_gate_user": "encoder.instance_of_user",
    "user_embeddings.weight": "encoder.users.user.weight", "item_embeddings.weight": "encoder.items.tables.0.weight",
    "W2.weight": "output.weight", "b2.weight": "output_bias.weight",
}  # fmt: skip


def as_ours(name: str, weight: Tensor) -> Tensor:
    """Their users count from 0, ours from 1; row 0 of our tables is zeros."""
    if name == "user_embeddings.weight":
        return F.pad(weight, (0, 0, 1, 0))
    return F.pad(weight[1:], (0, 0, 1, 0)) if name in ("item_embeddings.weight", "W2.weight", "b2.weight") else weight


def windows_of(batch: object, length: int) -> Tensor:
    """What theirs is given: the last ``length`` clicks of each point, padded with 0 on the left."""
    windows = torch.zeros((len(batch.row), length), dtype=torch.long)  # type: ignore[attr-defined]
    for p, (row, position) in enumerate(zip(batch.row, batch.position, strict=True)):  # type: ignore[attr-defined]
        clicks = batch.short[row, : position + 1][-length:]  # type: ignore[attr-defined]
        windows[p, length - len(clicks) :] = clicks
    return windows


def weights_of(theirs: torch.nn.Module) -> dict[str, Tensor]:
    return {name: dict(theirs.named_parameters()).get(name, getattr(theirs, name.split(".")[0], None)) for name in NAMES}


def loss_of(positive: Tensor, negative: Tensor) -> Tensor:
    """Theirs, whose gradient fades where a pair is wrong by more than 18, for the 1e-8 inside; ours has none."""
    return -torch.log(torch.sigmoid(positive - negative) + 1e-8).sum()


def case(authors: ModuleType, window: int) -> tuple[Found, Found]:
    """Scores of every item at every point, and the gradients of every weight, ours and theirs."""
    config = HGNConfig(window=window)
    torch.manual_seed(1)
    theirs = authors.HGN(USERS, ITEMS + 1, Namespace(L=window, d=config.width), torch.device("cpu"))
    ours: RetrievalModel = our_model({"name": "hgn", "window": window}, ITEMS, USERS)
    weights, given = dict(ours.named_parameters()), weights_of(theirs)
    with torch.no_grad():
        for name, weight in given.items():
            weight.normal_(std=0.2)
            weights[NAMES[name]].copy_(as_ours(name, weight))
        ours.encoder.padding.copy_(theirs.item_embeddings.weight[0])
    assert set(NAMES.values()) == weights.keys() - {"encoder.padding"}

    users = torch.arange(USERS)
    batch = batch_of([torch.randint(1, ITEMS + 1, (length,)).tolist() for length in LENGTHS], user=users + 1)
    windows, user = windows_of(batch, window), users[batch.row]
    asked = torch.randint(1, ITEMS + 1, (len(windows), 6))  # three targets, three negatives
    every = torch.arange(1, ITEMS + 1)
    scores = {"scores": ours.score(ours(batch).query, ours.scored(every)).detach()}
    their_scores = {"scores": theirs(windows, user, every.expand(len(windows), -1)).detach()}

    positive, negative = theirs(windows, user, asked).split(3, dim=1)
    found = gradients(loss_of(positive, negative), given.items())
    positive, negative = ours.score(ours(batch).query, ours.scored(asked)).split(3, dim=1)
    own = gradients(loss_of(positive, negative), weights.items())
    padding = found["gradient of item_embeddings.weight"][0]
    for name, our_name in NAMES.items():
        scores[f"gradient of {name}"] = own[f"gradient of {our_name}"]
        their_scores[f"gradient of {name}"] = as_ours(name, found[f"gradient of {name}"])
    scores["gradient of the padding"], their_scores["gradient of the padding"] = own["gradient of encoder.padding"], padding
    return scores, their_scores


if __name__ == "__main__":
    asked = authors_argument("HGN: our scores and gradients against the authors'")
    module = module_of(asked.authors / "model", "gating_network")
    run("hgn", "github:allenjack/HGN", asked.commit, {
        f"L = {window}": lambda window=window: case(module, window) for window in (5, 3, 8)
    })  # fmt: skip
