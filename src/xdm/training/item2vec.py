"""Item vectors trained ahead of the model: skip-gram with negative sampling over what each user clicked.

Paper: Barkan and Koenigstein, "Item2Vec: Neural Item Embedding for Collaborative Filtering", MLSP 2016, arXiv 1603.04259. The
steps are word2vec's (Mikolov et al., arXiv 1310.4546): one pair after the other, a reach drawn for each click, a rate that
falls in a straight line. ``weighted`` is w-item2vec of BINN (Li et al., KDD 2018, arXiv 1808.01075).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from xdm.data.clicks import Clicks, TrainingLog
from xdm.models.encoder import Encoder
from xdm.models.retrieval_model import RetrievalModel
from xdm.schema import ConfigError

LEAST_RATE = 1e-4  # the share of the first rate that the last step still has


class Item2VecConfig(BaseModel):
    """Skip-gram's settings. Defaults: word2vec's; the authors of item2vec have 15 negatives and 20 epochs."""

    model_config = ConfigDict(extra="forbid")

    window: int = Field(5, ge=1, description="clicks on either side, at most: each click draws its own reach from 1 to this")
    negatives: int = Field(5, ge=1, description="drawn items that each pair is set against")
    epochs: int = Field(5, ge=1, description="passes over all clicks")
    learning_rate: float = Field(0.025, gt=0, description="of the first step; it falls to nothing in a straight line")
    power: float = Field(0.75, ge=0, le=4, description="negatives are drawn by clicks to this power")
    weighted: bool = Field(
        False, description="w-item2vec (BINN): a click's pairs weigh by how often its item stands in that sequence"
    )


def pretrain(model: RetrievalModel, log: TrainingLog, settings: Any, seed: int) -> None:
    """Put vectors trained on ``log`` into the table of item vectors, as ``settings`` (`ItemVectorsConfig`) has it; else nothing.

    Raises:
        ConfigError: the input table is to have them too, and has another width.
    """
    if settings.pretrained == "none":
        return
    vectors = torch.from_numpy(item2vec(log.clicks, len(log.catalogue.clicks), log.catalogue.n_items, model.encoder.width,
                                        settings.item2vec, seed))  # fmt: skip
    with torch.no_grad():
        for table in pretrained_tables(model, inputs=settings.inputs):
            table.weight.copy_(vectors[: len(table.weight)])


def freeze(model: RetrievalModel, *, inputs: bool) -> None:
    """Item vectors (and with ``inputs`` the input vectors of items) that no step moves.

    Raises:
        ConfigError: a model whose item vectors are made, or moved, by more than the optimiser.
    """
    for what in ("compose", "after_step"):
        if getattr(type(model.encoder), what) is not getattr(Encoder, what):
            raise ConfigError(f"item_vectors.frozen: {type(model.encoder).__name__} makes or moves its item vectors itself ({what})")
    for table in pretrained_tables(model, inputs=inputs):
        table.weight.requires_grad_(False)


def pretrained_tables(model: RetrievalModel, *, inputs: bool) -> list[nn.Embedding]:
    """The table of item vectors, and with ``inputs`` that of the items' inputs, where it is another."""
    tables = [model.item_table]
    own = model.encoder.items.tables[0]
    if inputs and own is not tables[0]:
        assert isinstance(own, nn.Embedding)
        if own.embedding_dim != model.encoder.width:
            raise ConfigError(
                f"item_vectors.inputs: input vectors have the width {own.embedding_dim}, item vectors {model.encoder.width}; "
                "give both one width, or set item_vectors.inputs=false"
            )
        tables.append(own)
    return tables


def item2vec(
    clicks: Clicks, n_candidates: int, n_items: int, width: int, settings: Item2VecConfig, seed: int
) -> np.ndarray:
    """float32 ``[n_items + 1, width]``: the input vectors of skip-gram; row 0 is zeros.

    A sequence is all that one user clicked, in the order of time. ``n_candidates``: the items that are drawn as negatives. An
    item that never stood beside another keeps the small random vector it began with.
    """
    order = np.argsort(clicks.user, kind="stable")
    user, items = clicks.user[order], clicks.item[order]
    offsets = np.concatenate([[0], np.flatnonzero(user[1:] != user[:-1]) + 1, [len(user)]]).astype(np.int64)
    frequency = np.bincount(items, minlength=n_items + 1)[1 : n_candidates + 1].astype(np.float64) ** settings.power
    rng = np.random.default_rng([seed, 6])
    into = ((rng.random((n_items + 1, width)) - 0.5) / width).astype(np.float32)
    into[0] = 0
    skip_gram(
        offsets, items, weights_of(user, items) if settings.weighted else np.ones(len(items), np.float32),
        np.cumsum(frequency), into, np.zeros_like(into), settings.window, settings.negatives, settings.epochs,
        settings.learning_rate, rng,
    )  # fmt: skip
    return into


def weights_of(user: np.ndarray, items: np.ndarray) -> np.ndarray:
    """float32 ``[C]``: how often each click's item stands in its user's sequence, over the mean of that over all clicks."""
    _, which, counts = np.unique(np.stack([user, items]), axis=1, return_inverse=True, return_counts=True)
    of_click = counts[which.reshape(-1)]
    return (of_click / of_click.mean()).astype(np.float32)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})  # sums of a product by several at once
def skip_gram(offsets, items, weights, cumulative, into, out, window, negatives, epochs, rate, rng):
    """Steps of word2vec over sequences ``offsets`` int64 ``[S + 1]`` of ``items`` ``[C]``; tables ``into``, ``out`` ``[I + 1, d]``
    are moved in place. ``weights`` ``[C]``; negatives are items 1, 2, … drawn by their sums ``cumulative``."""
    done, total, width = 0, epochs * len(items), into.shape[1]
    move = np.empty(width, np.float32)
    for _ in range(epochs):
        for s in range(len(offsets) - 1):
            for at in range(offsets[s], offsets[s + 1]):
                step = np.float32(rate * max(1 - done / total, LEAST_RATE) * weights[at])
                done += 1
                centre, reach = items[at], rng.integers(1, window + 1)
                for beside in range(max(offsets[s], at - reach), min(offsets[s + 1], at + reach + 1)):
                    if beside == at:
                        continue
                    move[:] = 0
                    for drawn in range(negatives + 1):
                        other = items[beside]
                        if drawn:
                            other = 1 + np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
                            if other == items[beside]:
                                continue
                        score = np.float32(0)
                        for k in range(width):
                            score += into[centre, k] * out[other, k]
                        pull = step * ((np.float32(1) if drawn == 0 else np.float32(0)) - 1 / (1 + np.exp(-score)))
                        for k in range(width):
                            move[k] += pull * out[other, k]
                            out[other, k] += pull * into[centre, k]
                    for k in range(width):
                        into[centre, k] += move[k]
