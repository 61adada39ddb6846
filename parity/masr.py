"""MDR, MASS, MASR and an adversarial step against github:thanhdtran/MASR: ``python parity/masr.py --authors CHECKOUT``.

Their ``Net.py`` runs as it is; what trains it is Python 2, so the steps of its adversarial training are taken here in their order:
noise from the gradient, then the gradient of the loss and the loss with noise. A playlist's own vector is replaced by the mean of
the session's items, as ours has it. Ours reads rows and is asked at every click; theirs is given the clicks up to each point,
padded on the left, every candidate in turn. Of scores only differences between items are compared: ours leave out what is the same
for all. The biases in their attention, which cancel in its softmax, are positive here: with negative ones distance plus bias, times
65535, draws it to padding.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from batches import batch_of
from comparing import Found, authors_argument, module_of, our_model, run
from torch import Tensor, nn
from torch.nn import functional as F

from xdm.models.retrieval_model import RetrievalModel
from xdm.training.adversarial import perturbed

ITEMS, USERS, D, BETA = 40, 5, 8, 0.3
ROWS = [[3, 17, 40, 3, 9], [12], [5, 6, 7, 8, 9, 10, 11], [1, 30]]
LONGEST = 7
Score = Callable[[Tensor], Tensor]  # of one candidate a point, int64 [P], to [P]
Tables = dict[str, tuple[Tensor, Tensor]]  # a name: our weight (or a part of it) and theirs


class SessionMean(nn.Module):
    """In the place of their table of playlists: the mean of the items of each point's session."""

    def __init__(self, items: nn.Embedding, rows: Tensor) -> None:
        super().__init__()
        self.weight, self.rows = items.weight, rows  # the weight, for their sake who look for one

    def forward(self, point: Tensor) -> Tensor:
        rows = self.rows[point]  # [P, L]
        return F.embedding(rows, self.weight).sum(1) / (rows > 0).sum(1, keepdim=True)


def asked() -> tuple[Any, Tensor, Tensor]:
    """Our batch; what theirs is given: clicks ``[P, LONGEST]`` padded on the left, users ``[P]``."""
    batch = batch_of(ROWS, user=torch.arange(1, 1 + len(ROWS)))
    rows = torch.zeros((len(batch.row), LONGEST), dtype=torch.long)
    for p, (row, position) in enumerate(zip(batch.row.tolist(), batch.position.tolist(), strict=True)):
        clicked = ROWS[row][: position + 1]
        rows[p, -len(clicked) :] = torch.tensor(clicked)
    return batch, rows, batch.user[batch.row]


def drawn(model: RetrievalModel, theirs: nn.Module) -> None:
    """Random weights of the size of trained ones on both sides, rows of padding zeros; all users known to ours."""
    torch.manual_seed(1)
    for side in (model, theirs):
        for name, weight in side.named_parameters():
            if "noise" not in name:
                weight.data.normal_(std=0.3)
                if "embeddings" in name or "tables" in name or "users" in name or "bias" in name.split(".")[0]:
                    weight.data[0] = 0
    model.encoder.users.met[1:] = True


def mdr_tables(model: RetrievalModel, theirs: nn.Module, block: slice = slice(None)) -> Tables:
    found = {
        "users": (model.encoder.users.vectors.weight[:, block], theirs._user_embeddings.weight),
        "items": (model.item_table.weight[:, block], theirs._item_embeddings.weight),
        "A": (model.encoder.mahalanobis.a, theirs._A),
    }
    return found | ({} if model.encoder.mahalanobis.b is None else {"B": (model.encoder.mahalanobis.b, theirs._B)})


def mass_tables(model: RetrievalModel, theirs: nn.Module) -> Tables:
    found: Tables = {}
    for name, ours, memory, block in (
        ("attention", model.encoder.scoring.attention, theirs._A_memory, slice(-2 * D, -D)),
        ("output", model.encoder.scoring.output, theirs._C_memory, slice(-D, None)),
    ):
        found |= {
            f"{name} users": (model.encoder.users.vectors.weight[:, block], memory._user_embeddings.weight),
            f"{name} items": (model.item_table.weight[:, block], memory._item_embeddings.weight),
            f"{name} W": (ours.join, memory._W1.weight), f"{name} c": (ours.shift, memory._W1.bias),
            f"{name} A": (ours.a, memory._A1),
        }  # fmt: skip
    return found


def equal(tables: Tables, model: RetrievalModel, bias: Tensor) -> None:
    """Put their weights into ours; ``bias`` ``[ITEMS + 1, 1]`` is what theirs come to in a score."""
    with torch.no_grad():
        for ours, theirs in tables.values():
            theirs[0] = 0 if theirs.shape[0] in (ITEMS + 1, USERS + 1) else theirs[0]
            ours.copy_(theirs)
        model.output_bias.weight.copy_(bias)
        model.output_bias.weight[0] = 0


def compared(
    model: RetrievalModel, batch: Any, score: Score, tables: Tables, bias: tuple[float, Tensor]
) -> tuple[Found, Found]:
    """Scores of all pairs and the gradients of BPR, a sum over points. ``bias``: how much of one of theirs is in ours, and it."""
    scores = torch.stack([score(torch.full((len(batch.row),), item)) for item in range(1, ITEMS + 1)], dim=1)  # [P, N]
    labels, others = pairs(len(batch.row))
    theirs = {"scores": (scores - scores[:, :1]).detach()} | their_gradients(
        -torch.log(torch.sigmoid(score(labels) - score(others))).sum(), tables, bias[1]
    )
    found = model.score(model(batch).query, model.item_vectors())
    ours = {"scores": (found - found[:, :1]).detach()}
    our_loss(model, batch, labels, others).backward()
    return ours | our_gradients(model, tables, bias[0]), theirs


def pairs(points: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(1, ITEMS + 1, (points,), generator=generator)
    return labels, (labels + torch.randint(1, ITEMS, (points,), generator=generator) - 1) % ITEMS + 1


def our_loss(model: RetrievalModel, batch: Any, labels: Tensor, others: Tensor) -> Tensor:
    scores = model.score(model(batch).query, model.scored(torch.stack([labels, others], dim=1)))  # [P, 2]
    return F.softplus(scores[:, 1] - scores[:, 0]).sum()


def our_gradients(model: RetrievalModel, tables: Tables, of_bias: float) -> Found:
    """The gradients that ``backward`` left, cut as the tables are."""
    found = {"gradient of bias": of_bias * model.output_bias.weight.grad[1:]}
    for name, (ours, _) in tables.items():
        whole = ours._base if ours._base is not None else ours
        gradient = whole.grad
        if ours.shape != whole.shape:
            gradient = gradient[:, ours.storage_offset() : ours.storage_offset() + D]
        found[f"gradient of {name}"] = gradient[1:] if len(gradient) in (ITEMS + 1, USERS + 1) else gradient
    return found


def their_gradients(loss: Tensor, tables: Tables, bias: Tensor) -> Found:
    named = {"bias": bias, **{name: theirs for name, (_, theirs) in tables.items()}}
    found = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
    return {f"gradient of {name}": x[1:] if len(x) in (ITEMS + 1, USERS + 1) else x for name, x in found.items()}


def mdr(net: ModuleType, session: bool, adversarial: bool = False) -> tuple[Found, Found]:
    batch, rows, users = asked()
    ours = our_model({"name": "mdr", "width": D, "session": session}, ITEMS, USERS)
    theirs = net.MDR(USERS + 1, ITEMS + 1, len(rows) if session else None, D, adv=adversarial).eval()
    drawn(ours, theirs)
    points = torch.arange(len(rows)) if session else None
    if session:
        theirs._playlist_embeddings = SessionMean(theirs._item_embeddings, rows)
    tables, times = mdr_tables(ours, theirs), -2.0 if session else -1.0
    equal(tables, ours, times * theirs._item_biases.weight)

    def score(items: Tensor, adv: bool = False) -> Tensor:
        return theirs(None, users, items, points, adv=adv)

    if not adversarial:
        return compared(ours, batch, score, tables, (times, theirs._item_biases.weight))
    labels, others = pairs(len(rows))

    def loss(adv: bool) -> Tensor:
        return -torch.log(torch.sigmoid(score(labels, adv) - score(others, adv))).sum()

    with torch.no_grad():  # their row of padding has a bias as well
        theirs._item_biases.weight[0] = 0
    loss(True).backward()
    theirs._update_noise_params()
    found_theirs = {"scores": loss(True).detach()[None]} | their_gradients(
        loss(False) + 0.7 * loss(True), tables, theirs._item_biases.weight
    )
    our_loss(ours, batch, labels, others).backward()
    with perturbed(ours, 1.0):
        again = our_loss(ours, batch, labels, others)
        (0.7 * again).backward()
    return {"scores": again.detach()[None]} | our_gradients(ours, tables, times), found_theirs


def mass(net: ModuleType, activation: str, both: bool) -> tuple[Found, Found]:
    batch, rows, users = asked()
    settings = {"name": "masr", "width": D, "members": LONGEST, "activation": activation, "beta": BETA, "dropout": 0.0}
    ours = our_model({**settings, "parts": "both" if both else "mass"}, ITEMS, USERS)
    theirs = net.MASS(USERS + 1, ITEMS + 1, None, D, LONGEST, nonlinear_func=activation).eval()
    if not both:
        drawn(ours, theirs)
        theirs._A_memory._item_biases.weight.data.abs_()
        biases = theirs._C_memory._item_biases.weight
        tables = mass_tables(ours, theirs)
        equal(tables, ours, -biases)
        return compared(ours, batch, lambda items: theirs(rows, users, items), tables, (-1.0, biases))
    half = net.MDR(USERS + 1, ITEMS + 1, len(rows), D).eval()
    whole = net.MASR(half, theirs, BETA).eval()
    drawn(ours, whole)
    theirs._A_memory._item_biases.weight.data.abs_()
    half._playlist_embeddings = SessionMean(half._item_embeddings, rows)
    tables = mass_tables(ours, theirs) | mdr_tables(ours, half, slice(0, D))
    biases = theirs._C_memory._item_biases.weight
    equal(tables, ours, -2 * (1 - BETA) * half._item_biases.weight - BETA * biases)
    points = torch.arange(len(rows))
    return compared(ours, batch, lambda items: whole(rows, users, items, points)[:, 0], tables, (-BETA, biases))


def main() -> None:
    arguments = authors_argument(__doc__ or "")
    net = module_of(arguments.authors, "Net")
    whole_mass = net.MASS.forward
    net.MASS.forward = lambda self, x, u, j, p=None, adv=False: whole_mass(self, x, u, j, p if self._n_playlists else None, adv)
    run("masr", "github:thanhdtran/MASR", arguments.commit, {
        "MDR of users": lambda: mdr(net, session=False),
        "MDR of users and sessions": lambda: mdr(net, session=True),
        "an adversarial step of MDR": lambda: mdr(net, session=False, adversarial=True),
        "MASS": lambda: mass(net, "relu", both=False),
        "MASS with tanh": lambda: mass(net, "tanh", both=False),
        "MASR": lambda: mass(net, "relu", both=True),
    }, replaced="a playlist's vector by the mean of the session's items; the loop, which is Python 2")  # fmt: skip


if __name__ == "__main__":
    main()
