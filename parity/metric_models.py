"""What the proofs of metric models share: made-up pairs with negatives, a batch that asks for them, and a run of the authors' side."""

from __future__ import annotations

import subprocess
import tempfile
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparing import Found
from torch import Tensor

from xdm.data.batches import Batch

USERS, ITEMS, PAIRS = 40, 300, 64


def pairs(negatives: int) -> dict[str, np.ndarray]:
    """``user`` and ``positive`` ``[PAIRS]``, ``negatives`` ``[PAIRS, negatives]``, none of them the pair's own item; ids from 1."""
    rng = np.random.default_rng(0)
    positive = rng.integers(1, ITEMS + 1, PAIRS)
    other = rng.integers(1, ITEMS, (PAIRS, negatives))
    return {
        "user": rng.integers(1, USERS + 1, PAIRS), "positive": positive,
        "negatives": np.where(other >= positive[:, None], other + 1, other),
    }  # fmt: skip


def asking(user: np.ndarray) -> Batch:
    """One point for each of ``user``, after a click that these models do not read."""
    rows = np.arange(len(user))
    given = {"short": np.ones((len(user), 1), np.int64), "short_length": np.ones(len(user), np.int64), "user": user,
             "row": rows, "position": np.zeros(len(user), np.int64)}  # fmt: skip
    nothing = np.zeros(0, np.int64)
    return Batch(**{field.name: torch.from_numpy(given.get(field.name, nothing)) for field in fields(Batch)})


def authors_side(asked: Namespace, script: str = "metric_tensorflow.py", **given: Any) -> Found:
    """What ``script`` finds with what is ``given``."""
    with tempfile.TemporaryDirectory() as folder:
        arrays = {name: value.detach().numpy() if isinstance(value, Tensor) else value for name, value in given.items()}
        np.savez(f"{folder}/in.npz", **arrays)
        files = [f"{folder}/in.npz", f"{folder}/out.npz"]
        subprocess.run([asked.tensorflow, Path(__file__).with_name(script), asked.authors, *files], check=True)
        return {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(f"{folder}/out.npz").items()}


def version_of_tensorflow(python: str) -> str:
    version = [python, "-c", "import tensorflow; print(tensorflow.__version__)"]
    return subprocess.run(version, check=True, capture_output=True, text=True).stdout.strip()


def draw_weights(model: torch.nn.Module) -> None:
    """Weights of the size of a trained model's, some vectors longer than 1; padding rows stay zeros."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
        for table in (table for table in model.modules() if isinstance(table, torch.nn.Embedding)):
            table.weight[0] = 0
