"""GRU4Rec against its authors' own PyTorch code, github.com/hidasib/GRU4Rec_PyTorch_Official.

``python parity/gru4rec.py --authors CHECKOUT``. Their data iterator needs pandas, which this package does not.

1. The same weights, in each way that items can enter: scores of all items after every click of every session, and the gradients
   of the first step of training, for both of their losses.
2. Twenty steps, and a whole epoch, in the session-parallel order, theirs by their iterator, loss and optimiser, ours by the
   training loop: the loss of each step, and how far every weight has moved. Drawn negatives are ours on both sides; dropout is off.

All in double precision: Adagrad's first steps divide a gradient by its own size, and make much of the last digit of a float.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from comparing import Found, authors_argument, module_of, run
from side_by_side import indices, store_of
from torch import Tensor

from xdm.data.catalogue import build_catalogue
from xdm.log.store import Store
from xdm.objectives.samplers import sampler_of
from xdm.training.config import load_config
from xdm.training.loop import Loop, new_model, training_rows
from xdm.training.steps import seed_step

STEPS, UNITS, SLOTS, ALPHA, RATE, MOMENTUM = 20, 16, 8, 0.75, 0.1, 0.3
# For each way that items can enter and each loss: the authors' settings, and ours.
Settings = tuple[dict[str, Any], list[str]]
MODES: dict[str, Settings] = {
    "shared": ({"constrained_embedding": True}, []),
    "shared, two layers": ({"constrained_embedding": True, "layers": [12, UNITS]}, ["model.lower_layers=[12]"]),
    "separate": ({"constrained_embedding": False, "embedding": 12}, ["model.tie_item_embedding=false", "model.item_width=12"]),
    "one-hot": ({"constrained_embedding": False}, ["model.tie_item_embedding=false"]),
}
LOSSES: dict[str, Settings] = {
    "cross-entropy": ({"loss": "cross-entropy", "logq": 1.0}, ["objective.name=sampled_softmax", "objective.logq=support"]),
    "cross-entropy without logQ": ({"loss": "cross-entropy"}, ["objective.name=sampled_softmax", "objective.logq=none"]),
    "BPR-max": (
        {"loss": "bpr-max", "bpreg": 0.9, "elu_param": 0.5},
        ["objective.name=bpr_max", "objective.bpreg=0.9", "objective.elu=0.5", "objective.logq=none"],
    ),
}


def sessions() -> list[list[int]]:
    """Eighty sessions of 2 to 8 clicks on some of 50 items, some of them much more often than others."""
    rng = np.random.default_rng(0)
    return [(1 + 50 * rng.power(0.5, rng.integers(2, 9))).astype(int).tolist() for _ in range(80)]


class Ours:
    """Our model and its loop."""

    def __init__(self, store: Store, drawn: int, settings: list[str]) -> None:
        self.config = load_config("gru4rec", None, [
            f"model.width={UNITS}", "model.hidden_dropout=0", f"training.batch_size={SLOTS}", f"objective.negatives={drawn}",
            f"objective.alpha={ALPHA}", f"training.learning_rate={RATE}", f"training.momentum={MOMENTUM}", *settings,
        ])  # fmt: skip
        until = store.time_range[1] + 1
        catalogue = build_catalogue(store, until)
        self.clicks = catalogue.items.table["clicks"].to_numpy()
        self.items = torch.from_numpy(indices(catalogue.items.vocabulary))  # our index of each item
        self.model = new_model(self.config, catalogue)
        self.loop = Loop(self.model, training_rows(store, catalogue, self.config, until=until), self.config)

    def drawn(self, step: int, size: int) -> Tensor:
        """The items that our loop draws in ``step``."""
        sampler = sampler_of("popularity", len(self.clicks), size, SLOTS, ALPHA, self.clicks)
        index = sampler.shared(seed_step(self.config.training.seed, step), np.zeros(0, np.int64)).items
        return torch.argsort(self.items)[torch.from_numpy(index) - int(self.items.min() > 0)]

    def scores(self) -> Tensor:
        """Of all items by number, after every click of every session that a label follows."""
        batch, _ = self.loop.rows.batch(np.argsort(self.loop.rows.started))
        with torch.no_grad():
            scores = self.model.eval().score(self.model(batch.map(torch.from_numpy)).query, self.model.item_vectors())
        return scores[:, self.items[1:] - 1]


class Theirs:
    """Their model, data iterator, loss and optimiser. Items are numbers here too; theirs count from 0 in their own order."""

    def __init__(self, authors: ModuleType, rows: list[list[int]], drawn: int, settings: dict[str, Any]) -> None:
        import pandas

        number = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        data = pandas.DataFrame({"SessionId": number, "ItemId": np.concatenate(rows), "Time": np.arange(len(number))})
        self.gru = gru = authors.GRU4Rec(**{
            "layers": [UNITS], "batch_size": SLOTS, "sample_alpha": ALPHA, "n_sample": drawn, "device": torch.device("cpu"),
            **settings,
        })  # fmt: skip
        self.iterator = authors.SessionDataIterator(data, SLOTS, drawn, ALPHA, 1000, device=gru.device)
        self.items = torch.tensor(self.iterator.itemidmap.index.to_numpy())  # the number of each of theirs
        gru.P0 = torch.from_numpy(data.groupby("ItemId").size()[self.items.numpy()].to_numpy(np.float64))
        gru.model = authors.GRU4RecModel(len(self.items), gru.layers, 0.0, 0.0, gru.embedding, gru.constrained_embedding).double()
        for weight in gru.model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        self.optimizer = authors.IndexedAdagradM(gru.model.parameters(), RATE, MOMENTUM)

    def zeros(self, size: int) -> list[Tensor]:
        return [torch.zeros(size, units) for units in self.gru.layers]

    def steps(self, sample: Callable[[int], Tensor]) -> Iterator[Tensor]:
        """The loss of each step, with its gradients in the weights. ``sample``: what is drawn in a step, by number."""
        gru, hidden, live = self.gru, self.zeros(SLOTS), SLOTS
        own = torch.argsort(self.items)  # sorted by number; every number from 1 occurs
        count = iter(range(10**6))
        if gru.n_sample:
            self.iterator.sample_cache.get_sample = lambda: own[sample(next(count)) - 1]

        def reset(n_valid: int, finished: np.ndarray, valid: np.ndarray) -> bool:
            nonlocal live
            live = n_valid
            return gru._adjust_hidden(n_valid, finished, valid, hidden)

        for clicks, columns in self.iterator(enable_neg_samples=gru.n_sample > 0, reset_hook=reset):
            for state in hidden:
                state.detach_()
            gru.model.zero_grad()
            scores = gru.model.forward(clicks, hidden, columns, training=True)
            loss = gru.loss_function(scores, columns, live) / gru.batch_size
            loss.backward()
            yield loss.detach()

    def scores(self, rows: list[list[int]]) -> Tensor:
        found, own = [], torch.argsort(self.items)
        for row in rows:
            hidden = self.zeros(1)
            for item in row[:-1]:
                with torch.no_grad():
                    found.append(self.gru.model.forward(own[[item - 1]], hidden, None))
        return torch.cat(found)[:, own]

    def under_our_name(self, name: str, ours: Ours, take: Callable[[Tensor], Tensor]) -> Tensor:
        """What ``take`` gives of their weight (itself, its gradient, …) that is our weight ``name``."""
        net = self.gru.model
        one_hot = not net.constrained_embedding and not net.embedding

        def table(weight: Tensor, own: Callable[[Tensor], Tensor] = lambda values: values) -> Tensor:
            values = own(take(weight))
            rows = torch.zeros(len(values) + 1, values.shape[1])
            rows[ours.items[self.items]] = values
            return rows

        def gates(values: Tensor) -> Tensor:
            candidate, r, z = values.chunk(3, dim=-1)
            return torch.cat([r, z, candidate], dim=-1)

        if name == "output_bias.weight":
            return table(net.By.weight)
        if name == "output.weight" or (name == "encoder.items.tables.0.weight" and net.constrained_embedding):
            return table(net.Wy.weight)
        if name == "encoder.items.tables.0.weight":
            return table(net.GE.Wx0.weight, gates) if one_hot else table(net.E.weight)
        _, _, layer, part = name.split(".")
        if one_hot:
            return gates(take(net.GE.Bh0)) if part == "bias" else torch.cat([take(net.GE.Wrz0), take(net.GE.Wh0)], dim=1).T
        theirs = {"input": "weight_ih", "recurrent": "weight_hh", "input_bias": "bias_ih", "recurrent_bias": "bias_hh"}[part]
        return take(getattr(net.G[int(layer)], theirs))


def sides(authors: ModuleType, folder: Path, mode: str, loss: str, drawn: int) -> tuple[Ours, Theirs]:
    """Both with the same weights."""
    torch.manual_seed(0)
    rows = sessions()
    store = store_of(folder, rows, [1000 * place for place in range(len(rows))])
    ours = Ours(store, drawn, MODES[mode][1] + LOSSES[loss][1])
    theirs = Theirs(authors, rows, drawn, {**MODES[mode][0], **LOSSES[loss][0]})
    with torch.no_grad():
        for name, weight in ours.model.named_parameters():
            weight.copy_(theirs.under_our_name(name, ours, lambda one: one.detach()))
    return ours, theirs


def first_step(authors: ModuleType, mode: str, loss: str, drawn: int) -> tuple[Found, Found]:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = sides(authors, Path(folder), mode, loss, drawn)
        found, wanted = {"scores": ours.scores()}, {"scores": theirs.scores(sessions())}
        ours.loop.optimizer.step = lambda: None  # type: ignore[method-assign]
        ours.model.train()
        ours.loop._step(None)
        next(theirs.steps(lambda step: ours.drawn(step, drawn)))
        for name, weight in ours.model.named_parameters():
            found[f"gradient of {name}"] = weight.grad
            wanted[f"gradient of {name}"] = theirs.under_our_name(name, ours, lambda one: one.grad.to_dense())
    return found, wanted


def many_steps(authors: ModuleType, mode: str, loss: str, drawn: int, steps: int) -> tuple[Found, Found]:
    """The first ``steps`` of an epoch. The "scores" are the losses, the "gradients" what all steps have done to the weights."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = sides(authors, Path(folder), mode, loss, drawn)
        before = {name: weight.detach().clone() for name, weight in ours.model.named_parameters()}
        loop, mine, their = ours.loop, [], []
        ours.model.train()
        for one in theirs.steps(lambda step: ours.drawn(step, drawn)):
            theirs.optimizer.step()
            their.append(one)
            record = loop._step(None)
            mine.append(record["loss"] * record["labels"] / SLOTS)
            loop.batch, loop.step = loop.batch + 1, loop.step + 1
            if len(mine) == steps:
                break
        found, wanted = {"losses": torch.tensor(mine)}, {"losses": torch.stack(their)}
        for name, weight in ours.model.named_parameters():
            found[f"gradient, all steps, of {name}"] = weight.detach() - before[name]
            wanted[f"gradient, all steps, of {name}"] = theirs.under_our_name(name, ours, lambda one: one.detach()) - before[name]
    return found, wanted


if __name__ == "__main__":
    asked = authors_argument(__doc__ or "")
    torch.set_default_dtype(torch.float64)
    code = module_of(asked.authors, "gru4rec_pytorch")
    cases = {
        f"{mode}; {loss}": partial(first_step, code, mode, loss, 12)
        for mode in MODES for loss in ("cross-entropy", "BPR-max")
    } | {
        f"{name}; {mode}; {loss}; {drawn} drawn": partial(many_steps, code, mode, loss, drawn, steps)
        for name, steps in ((f"{STEPS} steps", STEPS), ("an epoch", 10**6))
        for mode in ("shared", "one-hot") for loss in LOSSES for drawn in (0, 12)
    }  # fmt: skip
    run(
        "gru4rec", "https://github.com/hidasib/GRU4Rec_PyTorch_Official", asked.commit, cases,
        steps="cases of several steps: scores are the losses of the steps, gradients what the steps together did to the weights",
    )  # fmt: skip
