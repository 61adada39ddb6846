"""Caser on MovieLens-1M: ours and the authors' code, the same split, as many epochs, judged by their own measure.

``python parity/caser_ml1m.py --log interactions.parquet --authors CHECKOUT --epochs 20``. The split that their repository ships
is not at hand, so it is made as they say: of each user the first 80 % of the clicks to learn from, the rest the truth, less
items that nobody clicked in the first part. All items are ranked but the user's own of the first part (published: MAP .15;
about .17 after 20 epochs of their PyTorch code, by its page).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import polars as pl
import torch
from batches import batch_of
from comparing import module_of
from side_by_side import Curve, Sequences, Trained, epochs_of, keep, say, sequences_of, store_of

from xdm.training.config import load_config

SHARE = 0.8


def read(path: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Of each user the clicks to learn from, and the later ones on items that somebody learned from."""
    log = pl.read_parquet(path, columns=["user_id", "item_id", "timestamp"]).sort("timestamp", maintain_order=True)
    place, clicks = pl.int_range(pl.len()).over("user_id"), pl.len().over("user_id")
    train, test = (log.filter(part) for part in (place < SHARE * clicks, place >= SHARE * clicks))
    test = test.filter(pl.col("item_id").is_in(train["item_id"].unique().implode()))
    users = train["user_id"].unique(maintain_order=True)
    number = dict(zip(train["item_id"].unique(maintain_order=True), range(1, len(log)), strict=False))
    later = dict(test.group_by("user_id").agg(pl.col("item_id")).iter_rows())
    return sequences_of(train), [[number[item] for item in later.get(user, [])] for user in users]


def write_triplets(path: Path, sequences: Sequences) -> None:
    """Their file: user, item and 1, in order of time."""
    path.write_text("".join(f"{user} {item} 1\n" for user, row in enumerate(sequences) for item in row))


class Judge:
    """Their data of both parts and their ranking measure."""

    def __init__(self, authors: Path, folder: Path, train: Sequences, test: Sequences) -> None:
        interactions, self.evaluation = (module_of(authors, name) for name in ("interactions", "evaluation"))
        for name, part in (("train", train), ("test", test)):
            write_triplets(folder / name, part)
        self.train = interactions.Interactions(folder / "train")
        self.train.to_sequence(5, 3)
        self.test = interactions.Interactions(folder / "test", user_map=self.train.user_map, item_map=self.train.item_map)
        self.test.num_items = self.train.num_items  # theirs forgets the row of the padding

    def figures(self, predict, seconds: float) -> dict[str, float]:
        """``predict(user)`` gives the scores of all of their items, ``[items + 1]``."""
        precision, recall, mean_ap = self.evaluation.evaluate_ranking(
            SimpleNamespace(predict=predict), self.test, self.train, k=[1, 5, 10]
        )
        each = {f"{name}@{k}": float(np.mean(values)) for name, of_k in (("precision", precision), ("recall", recall))
                for k, values in zip((1, 5, 10), of_k, strict=True)}  # fmt: skip
        return {"map": float(mean_ap), **each, "seconds": seconds}


def ours(judge: Judge, folder: Path, train: Sequences, epochs: list[int], settings: list[str]) -> Curve:
    store = store_of(folder, train, [0] * len(train))
    their_item = np.zeros(max(map(max, train)) + 1, np.int64)  # by our number
    for item, place in judge.train.item_map.items():
        their_item[int(item)] = place
    curve: Curve = []
    spent, until = 0.0, max(map(len, train))
    for epoch, one in enumerate(epochs_of(store, load_config("caser", None, settings), until), start=1):
        spent += one.seconds
        if epoch in epochs:
            placed = np.full((len(train), len(their_item)), -np.inf)
            placed[:, their_item[1:]] = scores_of(one, train)[:, one.items[1:] - 1]
            curve.append({"epoch": epoch} | judge.figures(placed.__getitem__, spent))
            say("ours", epoch, curve[-1])
        if epoch == epochs[-1]:
            break
    return curve


@torch.inference_mode()
def scores_of(one: Trained, train: Sequences) -> np.ndarray:
    """The scores of every item after each user's last click: ``[users, items]`` by index."""
    batch = batch_of([one.items[row[-10:]].tolist() for row in train], torch.from_numpy(one.users))
    last = batch.at((batch.position == batch.short_length[batch.row] - 1).nonzero()[:, 0])
    return one.model.score(one.model(last).query, one.model.item_vectors()).numpy()


def theirs(authors: Path, judge: Judge, epochs: list[int]) -> Curve:
    """Their ``train_caser.py`` with its own settings, judged at ``epochs``."""
    module: ModuleType = module_of(authors, "train_caser")
    module.set_seed(1234)
    settings = Namespace(d=50, nv=4, nh=16, drop=0.5, ac_conv="relu", ac_fc="relu", L=5)
    one = module.Recommender(n_iter=1, batch_size=512, learning_rate=1e-3, l2=1e-6, neg_samples=3, model_args=settings)
    curve: Curve = []
    spent = 0.0
    for epoch in range(1, epochs[-1] + 1):
        began = time.process_time()
        one.fit(judge.train, judge.test)  # goes on where it stopped
        spent += time.process_time() - began
        if epoch in epochs:
            curve.append({"epoch": epoch} | judge.figures(one.predict, spent))
            say("theirs", epoch, curve[-1])
    return curve


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Caser on MovieLens-1M")
    parser.add_argument("--log", type=Path, required=True, help="interactions.parquet")
    parser.add_argument("--authors", type=Path, required=True, help="a checkout of github:graytowne/caser_pytorch")
    parser.add_argument("--epochs", type=lambda text: sorted(map(int, text.split(","))), default=[5, 10, 20], help="when to judge")
    parser.add_argument("--sides", default="ours,theirs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of ours")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    train, test = read(asked.log)
    counts = {"users": len(train), "clicks to learn from": sum(map(len, train)), "truth": sum(map(len, test))}
    print(counts, file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(asked.authors, Path(folder), train, test)
        curves = {}
        if "theirs" in asked.sides:
            curves["theirs"] = theirs(asked.authors, judge, asked.epochs)
        if "ours" in asked.sides:
            curves["ours"] = ours(judge, Path(folder), train, asked.epochs, asked.set)
    keep("caser_ml1m", {**counts, "set": asked.set}, curves)
