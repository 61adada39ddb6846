"""Models of every shape that a configuration can switch, and batches of made-up behaviours for them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.models.settings import SMALL_MODELS
from xdm.data.batches import Batch
from xdm.data.clicks import Clicks
from xdm.models.registry import model_config
from xdm.models.retrieval_model import RetrievalModel
from xdm.models.shared.inputs import Sizes
from xdm.models.unclicked import UnclickedConfig

N_ITEMS, N_USERS = 30, 9
SIZES = Sizes(N_ITEMS, 25, N_USERS, {"category": 5, "brand": 3}, {"age": 4, "region": 2})
BARE = Sizes(N_ITEMS, 25, N_USERS)

XDM_SWITCHES: dict[str, dict[str, Any]] = {
    **{pooling: {"pooling": pooling, "heads": 2} for pooling in ("sum", "mean", "attention", "self_attention", "gru")},
    **{f"{pooling} with user": {"pooling": pooling, "user_query": True, "heads": 2}
       for pooling in ("sum", "attention", "self_attention")},
    **{f"sum {fusion}": {"fusion": fusion} for fusion in ("gate", "scalar", "none")},
    **{f"{pooling} of inputs": {"items": "input", "pooling": pooling} for pooling in ("sum", "attention")},
}  # fmt: skip


def model_of(
    sizes: Sizes = SIZES, seed: int = 1, unclicked: dict[str, Any] | None = None, **settings: Any
) -> RetrievalModel:
    """A model with fresh weights; ``unclicked`` None leaves the extension out. Dropout is 0.2 unless set."""
    torch.manual_seed(seed)
    name = settings.pop("name", "sdm")
    config = model_config({"name": name, **SMALL_MODELS.get(name, SMALL_MODELS["sdm"]), **settings})
    extension = UnclickedConfig(enabled=unclicked is not None, **{"dropout": 0.2, **(unclicked or {})})
    rng = np.random.default_rng(0)
    codes = [np.arange(N_ITEMS + 1)] + [rng.integers(0, n + 1, N_ITEMS + 1) for n in sizes.features.values()]
    for row in codes:
        row[0] = 0
    model = RetrievalModel(config, extension, sizes, np.stack(codes))
    with torch.no_grad():
        model.encoder.before_training(model, log_of(sizes))
    return model


def log_of(sizes: Sizes = SIZES, clicks: int = 200) -> Any:
    """A training part of made-up clicks over eight days, the last of which is that of the batches."""
    rng = np.random.default_rng(5)
    time = np.sort(1_700_000_000 + 6000 - rng.integers(0, 8 * 86400, clicks))
    made_up = Clicks(rng.integers(1, sizes.n_users + 1, clicks), rng.integers(1, sizes.n_items + 1, clicks), time)
    ends = [sizes.n_users + 1, sizes.n_items + 1]
    pairs = {clicked: np.unique(rng.integers(1, ends, (30, 2)), axis=0).T for clicked in (True, False)}
    return SimpleNamespace(clicks=made_up, pairs=pairs.__getitem__, until=1_700_000_000 + 6001)


def batch_of(
    lengths: list[int], long: list[int], unclicked: list[int], sizes: Sizes = SIZES, seed: int = 0
) -> Batch:
    """A batch of tensors with a point at every position: session, long-term and unclicked lengths by session."""
    rng = np.random.default_rng(seed)
    size, counts = len(lengths), np.array(lengths)
    short = rng.integers(1, N_ITEMS + 1, (size, max(lengths)))
    short[np.arange(max(lengths)) >= counts[:, None]] = 0
    rows = [N_ITEMS, *sizes.features.values()]
    lists = np.stack([rng.integers(1, n + 1, (size, max(1, *long))) for n in rows], axis=1)
    lists[np.broadcast_to(np.arange(lists.shape[2]) >= np.array(long)[:, None, None], lists.shape)] = 0
    profile = [rng.integers(0, n + 1, size) for n in sizes.profile.values()]
    row = np.repeat(np.arange(size), counts)
    # a click a minute or so, and each question some time after the last click that it may see
    times = 1_700_000_000 + np.cumsum(rng.integers(1, 120, short.shape), axis=1)
    position = np.concatenate([np.arange(n) for n in lengths])
    # every third click or so opens a session
    sessions = np.where(short > 0, 1 + np.cumsum((np.arange(short.shape[1]) > 0) & (short % 3 == 0), axis=1), 0)
    batch = Batch(
        short=short, short_time=np.where(short > 0, times, 0), short_session=sessions, short_length=counts, long=lists,
        user=rng.integers(1, N_USERS + 1, size),
        profile=np.stack(profile, axis=1) if profile else np.zeros((size, 0), np.int64),
        unclicked=rng.integers(1, N_ITEMS + 1, sum(unclicked)), unclicked_of=np.repeat(np.arange(size), unclicked),
        unclicked_owner=np.arange(size), row=row, position=position, time=times[row, position] + 30,
        unclicked_row=row, **stream_of(lengths, rng),
    )  # fmt: skip
    return batch.map(lambda array: torch.from_numpy(np.asarray(array, np.int64)))


def last_points(lengths: list[int], long: list[int], unclicked: list[int], sizes: Sizes = SIZES) -> Batch:
    """A batch of arrays with one point a session, the last, as recommenders ask; the first user is unknown."""
    batch = batch_of(lengths, long, unclicked, sizes, seed=7)
    rows = torch.arange(len(lengths))
    user = batch.user.clone()
    user[0] = 0
    ends = batch.short_length.cumsum(0) - 1
    last = replace(batch.at(ends), user=user)
    assert torch.equal(last.row, rows)
    assert torch.equal(last.position, batch.short_length - 1)
    return last.map(lambda tensor: tensor.numpy())


def stream_of(lengths: list[int], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Streams of twice as many exposures as the sessions have clicks: before each click something is skipped."""
    counts = np.array(lengths)
    items = rng.integers(1, N_ITEMS + 1, (len(lengths), 2 * max(lengths)))
    inside = np.arange(items.shape[1]) < 2 * counts[:, None]
    return {
        "stream": np.where(inside, items, 0), "stream_action": np.where(inside, 1 + np.arange(items.shape[1]) % 2, 0),
        "stream_owner": np.arange(len(lengths)), "stream_row": np.repeat(np.arange(len(lengths)), counts),
        "stream_position": np.concatenate([2 * np.arange(n) + 1 for n in lengths]),
    }  # fmt: skip


def session(batch: Batch, b: int) -> Batch:
    """Session ``b`` of a batch in a batch of its own, without the padding that the others caused."""
    length = int(batch.short_length[b])
    long = max(1, int((batch.long[b] != 0).sum(dim=-1).max()))
    mine = batch.row == b
    sequence = batch.unclicked_of == b
    zeros = torch.zeros(int(mine.sum()), dtype=torch.long)
    return replace(
        batch, short=batch.short[[b], :length], short_time=batch.short_time[[b], :length],
        short_session=batch.short_session[[b], :length], short_length=batch.short_length[[b]], long=batch.long[[b], :, :long],
        user=batch.user[[b]], profile=batch.profile[[b]], unclicked=batch.unclicked[sequence],
        unclicked_of=torch.zeros(int(sequence.sum()), dtype=torch.long), unclicked_owner=torch.zeros(1, dtype=torch.long),
        row=zeros, position=batch.position[mine], time=batch.time[mine], unclicked_row=zeros,
        stream=batch.stream[[b], : 2 * length],
        stream_action=batch.stream_action[[b], : 2 * length], stream_owner=torch.zeros(1, dtype=torch.long), stream_row=zeros,
        stream_position=batch.stream_position[mine],
    )  # fmt: skip
