"""Ours and the authors' code after as many steps of as many rows, judged by each user's last click.

Sequences are lists of item numbers from 1, one a user, oldest first. The last click of each is asked for, the one before it is
held back from training too, and all items are ranked but those that the user clicked before.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from batches import batch_of
from side_by_side import Curve, Sequences, Trained, indices, keep, sequences_of, store_of

from xdm.data.catalogue import build_catalogue
from xdm.training.config import Config
from xdm.training.loop import Loop, StepRecord, new_model, set_threads, training_rows

TOP = 10
USERS_AT_ONCE = 256
# The scores of all items, [users, items], item 1 first, of users by their place and the rows that they clicked.
Scorer = Callable[[np.ndarray, Sequences], np.ndarray]
Point = dict[str, float]  # a side's figures after so many steps


def read(path: Path) -> list[list[int]]:
    """The clicks of each user in the log ``path``; items are numbered by their first row."""
    return sequences_of(pl.read_parquet(path, columns=["user_id", "item_id", "timestamp"]).sort("timestamp", maintain_order=True))


def training_part(sequences: Sequences) -> list[list[int]]:
    return [list(row[:-2]) for row in sequences]


def judged(scorer: Scorer, sequences: Sequences) -> dict[str, float]:
    """HR@10 and NDCG@10 of each user's last click, and NDCG@10 of the one before it, asked without the last."""
    hits, gains = _of_last(scorer, sequences)
    return {"hr@10": hits, "ndcg@10": gains, "validation_ndcg@10": _of_last(scorer, [row[:-1] for row in sequences])[1]}


def _of_last(scorer: Scorer, sequences: Sequences) -> tuple[float, float]:
    """HR@10 and NDCG@10 of the last click of each row. Of equal scores the asked item's counts as the lowest."""
    ranks = []
    for begin in range(0, len(sequences), USERS_AT_ONCE):
        rows = sequences[begin : begin + USERS_AT_ONCE]
        scores = scorer(np.arange(begin, begin + len(rows)), [row[:-1] for row in rows])
        asked = np.array([row[-1] for row in rows]) - 1
        of_asked = scores[np.arange(len(rows)), asked][:, None].copy()
        for one, row in zip(scores, rows, strict=True):
            one[np.asarray(row[:-1]) - 1] = -np.inf
        scores[np.arange(len(rows)), asked] = -np.inf  # an item is not its own rival, nor hidden where it was clicked before
        ranks.append((scores >= of_asked).sum(axis=1))
    rank = np.concatenate(ranks)
    return float((rank < TOP).mean()), float(np.where(rank < TOP, 1 / np.log2(rank + 2), 0).mean())


def ours(folder: Path, sequences: Sequences, config: Config, steps: Sequence[int], latest: int = 0) -> Iterator[Point]:
    """Our model's figures after each number of ``steps``; of each user it learns from the ``latest`` clicks, 0 for all."""
    train = [row[-latest:] for row in training_part(sequences)]
    for step, one, labels in after_steps(folder, train, config, steps):
        items = np.zeros(max(map(max, sequences)) + 1, np.int64)
        items[: len(one.items)] = one.items
        figures = judged(scorer_of(one, items, config.behaviours.history_max), sequences)
        yield {"step": step, "labels": labels, "seconds": one.seconds, **figures}


def scorer_of(one: Trained, items: np.ndarray, longest: int) -> Scorer:
    """``items`` int64: the catalogue's index by number, 0 for one that was never clicked in training, which is ranked last."""

    @torch.inference_mode()
    def scorer(users: np.ndarray, rows: Sequences) -> np.ndarray:
        known = [items[np.asarray(row)] for row in rows]
        batch = batch_of([row[row > 0][-longest:].tolist() for row in known], torch.from_numpy(one.users[users]))
        last = batch.at((batch.position == batch.short_length[batch.row] - 1).nonzero()[:, 0])
        found = one.model.score(one.model(last).query, one.model.item_vectors()).numpy()
        scores = np.full((len(rows), len(items) - 1), -np.inf, np.float32)
        ranked = np.flatnonzero(items[1:])
        scores[:, ranked] = found[:, items[1:][ranked] - 1]
        return scores

    return scorer


class _Enough(Exception):
    """Raised within an epoch, which the loop can go on with."""


def after_steps(
    folder: Path, train: Sequences, config: Config, steps: Sequence[int]
) -> Iterator[tuple[int, Trained, int]]:
    """The model after each number of ``steps``, and how many labels all of them had."""
    set_threads(config.training.threads)
    store, until = store_of(folder, train, [0] * len(train)), max(map(len, train))
    catalogue = build_catalogue(store, until)
    items, users = indices(catalogue.items.vocabulary), indices(catalogue.users.vocabulary)
    loop = Loop(new_model(config, catalogue), training_rows(store, catalogue, config, until=until), config)
    print(f"ours: {loop.batches_an_epoch} steps an epoch, {loop.rows.n_labels} labels", flush=True)
    labels, seconds = 0, 0.0

    def count(record: StepRecord) -> None:
        nonlocal labels
        labels += int(record["labels"])
        if loop.step in steps:
            raise _Enough

    while loop.step < max(steps):
        began = time.process_time()
        try:
            loop.run_epoch(count)
        except _Enough:
            seconds += time.process_time() - began
            loop.model.eval()
            yield loop.step, Trained(loop.model, items, users, seconds), labels
        else:
            seconds += time.process_time() - began


def follow(name: str, asked: Namespace, sequences: Sequences, sides: dict[str, Iterator[Point]]) -> None:
    """Run the ``sides`` that are ``asked`` for, one after the other, and keep each of their figures as it comes."""
    counts = {"users": len(sequences), "clicks": sum(map(len, sequences)), "items": max(map(max, sequences))}
    for side in asked.sides.split(","):
        curve: Curve = []
        for point in sides[side]:
            curve.append(point)
            print(f"{side}: " + ", ".join(f"{key} {value:.5g}" for key, value in point.items()), flush=True)
            keep(name, {**counts, "seed": asked.seed, "set": asked.set}, {side: curve})


def options(description: str, authors: str) -> ArgumentParser:
    """The command line of both scripts; ``authors`` says what is to be checked out."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--log", type=Path, required=True, help="interactions.parquet")
    parser.add_argument("--authors", type=Path, required=True, help=f"a checkout of {authors}")
    parser.add_argument("--steps", type=lambda text: sorted(map(int, text.split(","))), required=True, help="when to judge")
    parser.add_argument("--sides", default="ours,theirs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of ours")
    return parser
