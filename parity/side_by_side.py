"""Ours and the authors' code trained on the same sequences for as many epochs, and judged by the same measure.

Sequences are lists of item numbers from 1, one a user (or a session), oldest first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from comparing import RESULTS

from xdm.data.catalogue import build_catalogue
from xdm.log.preparing import prepare_log
from xdm.log.store import Store
from xdm.models.retrieval_model import RetrievalModel
from xdm.training.config import Config
from xdm.training.loop import Loop, new_model, set_threads, training_rows
from xdm.vocabulary import Vocabulary

Sequences = Sequence[Sequence[int]]
Curve = list[dict[str, float]]  # figures after each epoch that is judged


def sequences_of(log: pl.DataFrame) -> list[list[int]]:
    """The items of each user of ``log``, users and items numbered by their first row, items from 1."""
    items = log["item_id"].unique(maintain_order=True)
    number = dict(zip(items, range(1, len(items) + 1), strict=True))
    users = log.group_by("user_id", maintain_order=True).agg(pl.col("item_id"))
    return [[number[item] for item in row] for row in users["item_id"]]


def store_of(folder: Path, sequences: Sequences, begins: Sequence[int]) -> Store:
    """A store of ``sequences`` by users 0, 1, …; each is one session, a click a second from its second ``begins`` on."""
    lengths = np.array([len(row) for row in sequences])
    user = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(user)) - np.repeat(lengths.cumsum() - lengths, lengths)
    pl.DataFrame({
        "user_id": user, "item_id": np.concatenate([np.asarray(row) for row in sequences]),
        "timestamp": np.asarray(begins)[user] + place, "clicked": np.ones(len(user), bool), "session_id": user,
    }).write_parquet(folder / "log.parquet")  # fmt: skip
    prepare_log(folder / "log.parquet", folder / "store")
    return Store(folder / "store")


@dataclass(frozen=True)
class Trained:
    """A model after an epoch. ``items`` and ``users`` int64: the catalogue's index by the numbers of `store_of`, 0 unknown."""

    model: RetrievalModel
    items: np.ndarray
    users: np.ndarray
    seconds: float  # of processor time that the epoch took


def epochs_of(store: Store, config: Config, until: int) -> Iterator[Trained]:
    """The model after each epoch of training on what was clicked before ``until`` (seconds), without an end."""
    set_threads(config.training.threads)
    catalogue = build_catalogue(store, until)
    items, users = indices(catalogue.items.vocabulary), indices(catalogue.users.vocabulary)
    loop = Loop(new_model(config, catalogue), training_rows(store, catalogue, config, until=until), config)
    while True:
        began = time.process_time()
        loop.run_epoch(lambda record: None)
        loop.model.eval()
        yield Trained(loop.model, items, users, time.process_time() - began)


def indices(vocabulary: Vocabulary) -> np.ndarray:
    """The index of each number; 0 where there is none."""
    index = np.arange(1, len(vocabulary) + 1)
    numbers = np.array(vocabulary.external(index).to_pylist(), np.int64)
    found = np.zeros(numbers.max() + 1, np.int64)
    found[numbers] = index
    return found


def keep(name: str, settings: dict[str, Any], curves: dict[str, Curve]) -> None:
    """Write ``results/<name>.json``: the settings of the run, and each side's figures; a side that was not run now keeps its own."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**held, "torch": torch.__version__, **settings, **curves}, indent=2) + "\n")


def say(side: str, epoch: int, figures: dict[str, float]) -> None:
    """One line of progress."""
    print(f"{side}, epoch {epoch}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)
