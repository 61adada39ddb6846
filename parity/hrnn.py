"""HRNN against github:mquad/hgru4rec: ``python parity/hrnn.py --authors CHECKOUT``.

Theano is no longer to be had for a current Python, so torch stands in its place: `theano_by_torch` gives their code, unchanged,
the few operations of Theano that it asks for. Their network is then stepped click by click over rows of several sessions, with
the flags of session starts that their loop would set, and the gradients go back through all steps, as ours do through a row.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from batches import batch_of_sessions, drawn_sessions
from comparing import Found, authors_argument, gradients, load, module_of, our_model, run
from torch import Tensor

ITEMS = 40


def theano_by_torch() -> None:
    """Put modules under Theano's names in place, whose few functions are torch's, and an empty one for pandas, which reads logs."""

    def shared(value: Any, borrow: bool = False) -> Tensor:
        return torch.tensor(value, requires_grad=True)

    tensor = ModuleType("theano.tensor")
    tensor.dot = lambda a, b: a @ b  # type: ignore[attr-defined]
    tensor.tanh, tensor.zeros_like, tensor.diag = torch.tanh, torch.zeros_like, torch.diag  # type: ignore[attr-defined]
    tensor.mean = lambda x, axis=None: x.mean() if axis is None else x.mean(dim=axis)  # type: ignore[attr-defined]
    tensor.cast = lambda x, kind: x  # type: ignore[attr-defined]
    tensor.nnet = SimpleNamespace(sigmoid=torch.sigmoid)  # type: ignore[attr-defined]
    theano = ModuleType("theano")
    theano.tensor, theano.shared, theano.function = tensor, shared, None  # type: ignore[attr-defined]
    theano.config = SimpleNamespace(floatX="float32")  # type: ignore[attr-defined]
    random = ModuleType("theano.sandbox.rng_mrg")
    random.MRG_RandomStreams = lambda: None  # type: ignore[attr-defined]
    sys.modules |= {"theano": theano, "theano.tensor": tensor, "theano.sandbox": ModuleType("theano.sandbox"),
                    "theano.sandbox.rng_mrg": random, "pandas": ModuleType("pandas")}  # fmt: skip


def gates_first(weight: Tensor) -> Tensor:
    """Their columns candidate, reset, update ``[in, 3 width]`` as our rows reset, update, candidate ``[3 width, in]``."""
    candidate, reset, update = weight.T.chunk(3)
    return torch.cat([reset, update, candidate])


def as_ours(theirs: Any, of: dict[str, Tensor]) -> Found:
    """Their weights, or their gradients, ``of`` by their names, under our names and in our layout."""
    found = {
        "encoder.session.recurrent": torch.cat([*of["Ws_rz"].T.chunk(2), of["Ws_hh"].T]),
        "encoder.session.bias": gates_first(of["Bs_h"][None])[:, 0],
        "encoder.user.input": gates_first(of["Wu_in"]),
        "encoder.user.recurrent": torch.cat([*of["Wu_rz"].T.chunk(2), of["Wu_hh"].T]),
        "encoder.user.bias": gates_first(of["Bu_h"][None])[:, 0],
        "encoder.begin.weight": of["Ws_init"].T, "encoder.begin.bias": of["Bs_init"],
        "output.weight": padded(of["Wsy"]), "output_bias.weight": padded(of["By"]),
    }  # fmt: skip
    if theirs.item_embedding is None:
        found["encoder.items.tables.0.weight"] = padded(gates_first(of["Ws_in"]).T)
    else:
        found["encoder.items.tables.0.weight"] = padded(of["E_item"])
        found["encoder.session.input"] = gates_first(of["Ws_in"])
    if theirs.user_propagation_mode == "all":
        found["encoder.of_user"] = gates_first(of["Wu_to_s"])[: -theirs.session_layers[0]]
    return found


def padded(rows: Tensor) -> Tensor:
    """A row of zeros before ``rows``: our tables have one for padding."""
    return torch.cat([torch.zeros_like(rows[:1]), rows])


def weights_of(theirs: Any) -> dict[str, Tensor]:
    """Their weights by name, each a leaf; of lists of layers the only one."""
    names = ["Ws_in", "Ws_hh", "Ws_rz", "Bs_h", "Wsy", "By", "Wu_in", "Wu_hh", "Wu_rz", "Bu_h", "Ws_init", "Bs_init"]
    names += ["E_item"] if theirs.item_embedding is not None else []
    names += ["Wu_to_s"] if theirs.user_propagation_mode == "all" else []
    held = {name: getattr(theirs, name) for name in names}
    return {name: value[0] if isinstance(value, list) else value for name, value in held.items()}


def their_scores(theirs: Any, rows: list[list[list[int]]]) -> Tensor:
    """The scores ``[P, ITEMS]`` of all items after every click of ``rows`` (users, of sessions, of items), row after row."""
    found = []
    theirs.Bs_init = theirs.Bs_init[0]  # a list of one, which Theano took for what it holds
    for sessions in rows:
        session, user = torch.zeros((1, theirs.session_layers[0])), torch.zeros((1, theirs.user_layers[0]))
        for number, clicks in enumerate(sessions):
            for place, item in enumerate(clicks):
                starts = torch.tensor([float(number > 0 and place == 0)])  # nothing starts where the user does
                (session,), (user,), scores, _ = theirs.model(
                    torch.tensor([item - 1]), starts, torch.zeros(1), [session], [user], torch.arange(ITEMS)
                )
                found.append(scores)
    theirs.Bs_init = [theirs.Bs_init]
    return torch.cat(found)


def case(module: ModuleType, rows: list[list[list[int]]], variant: str, embedding: int | None) -> tuple[Found, Found]:
    """Scores at every click and the gradients of their TOP1 loss, ours and theirs."""
    batch = batch_of_sessions(rows)
    theirs = module.HGRU4Rec([12], [9], batch_size=len(batch.row), loss="top1", final_act="linear",
                             user_propagation_mode=variant, item_embedding=embedding)  # fmt: skip
    theirs.n_items = ITEMS
    theirs.init()
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in weights_of(theirs).values():
            weight.copy_(torch.randn(weight.shape, generator=rng) * 0.4)
    ours = our_model({"name": "hrnn", "variant": variant, "width": 12, "user_width": 9, "item_width": embedding or 0}, ITEMS)
    load(ours, as_ours(theirs, weights_of(theirs)))
    labels = torch.randint(0, ITEMS, (len(batch.row),), generator=rng)  # of one step, each with the others as negatives

    scores = their_scores(theirs, rows)
    learned = gradients(theirs.loss_function(scores[:, labels]), weights_of(theirs).items())
    found_theirs = {"scores": scores.detach()}
    of = {name.removeprefix("gradient of "): value for name, value in learned.items()}
    found_theirs |= {f"gradient of {name}": value for name, value in as_ours(theirs, of).items()}

    own = ours.score(ours(batch).query, ours.item_vectors())
    found_ours = {"scores": own.detach()}
    found_ours |= gradients(theirs.loss_function(own[:, labels]), ours.named_parameters())
    return found_ours, found_theirs


if __name__ == "__main__":
    asked = authors_argument("HRNN: our scores and gradients against the authors'")
    theano_by_torch()
    module, rows = module_of(asked.authors / "src", "hgru4rec"), drawn_sessions(ITEMS, np.random.default_rng(0))
    cases = {
        f"HRNN {variant.capitalize()}, {kind}": lambda variant=variant, embedding=embedding: case(module, rows, variant, embedding)
        for variant in ("init", "all") for kind, embedding in (("one-hot items", None), ("item vectors", 7))
    }  # fmt: skip
    run("hrnn", "github:mquad/hgru4rec", asked.commit, cases, replaced="Theano, by torch; scores are not put through tanh")
