"""Models of every shape that a configuration can switch, and batches of made-up behaviours for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from xdm.data.batches import Batch
from xdm.models.inputs import Sizes
from xdm.models.registry import model_config
from xdm.models.retrieval_model import RetrievalModel
from xdm.models.unclicked import UnclickedConfig

N_ITEMS, N_USERS = 30, 9
SIZES = Sizes(N_ITEMS, 25, N_USERS, {"category": 5, "brand": 3}, {"age": 4, "region": 2})
BARE = Sizes(N_ITEMS, 25, N_USERS)

# Small widths; what a test does not set.
SMALL_MODELS: dict[str, dict[str, Any]] = {
    "sdm": {"width": 8, "heads": 2, "item_width": 6, "feature_width": 3, "user_width": 4, "field_width": 2, "dropout": 0.2},
    "gru4rec": {"width": 8}, "sasrec": {"width": 8, "heads": 2},
    "ligr": {"width": 8, "heads": 2}, "hstu": {"width": 8, "heads": 2, "key_width": 3, "value_width": 5},
    "bert4rec": {"width": 8, "inner": 12}, "comirec": {"width": 8},
    "caser": {"width": 8, "user_width": 4, "horizontal": 3, "vertical": 2}, "srgnn": {"width": 8},
    "comirec_dr": {"width": 8}, "mind": {"width": 8},
    "cml": {"width": 8}, "transrec": {"width": 8}, "lrml": {"width": 8, "slots": 5, "deviation": 0.5, "negatives": 10, "margin": 2.0},
    "tdm": {
        "width": 8, "windows": [1, 1, 2, 4], "hidden": [12, 10], "attention_hidden": 6, "norm": "layer", "negatives": [6, 3, 2],
        "beam": 4,
    },
}  # fmt: skip
SDM_SWITCHES: dict[str, dict[str, Any]] = {
    "lstm": {}, "gru": {"cell": "gru"}, "gru reset before": {"cell": "gru_reset_before", "layers": 2},
    "two layers": {"layers": 2}, "no residual": {"user_residual": False},
    "one residual": {"layers": 3, "residual_layers": 1}, "no user id": {"user_width": 0}, "actions": {"name": "sdm_actions"},
    "concat attention": {"user_attention": "concat"}, "dot attention": {"user_attention": "dot"},
    "no user attention": {"user_attention": "none"}, "no long term": {"long_term": False},
    "neither": {"user_attention": "none", "long_term": False}, "dot scores": {"long_score": "dot"},
    # e_u has 4 + 2 + 2 = 8 dimensions, as many as d: no projection then
    "dot scores of equal widths": {"user_attention": "dot", "long_score": "dot", "item_width": 8, "feature_width": 8},
    **{f"fusion {kind}": {"fusion": kind} for kind in ("feature_gated", "add", "multiply", "concat")},
    "widths by name": {"feature_widths": {"brand": 5}, "field_widths": {"region": 3}},
    "left out by name": {"feature_widths": {"category": 0}, "field_widths": {"age": 0}},
    "ids alone": {"feature_width": 0, "field_width": 0}, "tied": {"item_width": 8, "tie_item_embedding": True},
    "orthogonal": {"init": "orthogonal"},
}  # fmt: skip
# Of the encoders that read the session alone.
SESSION_SWITCHES: dict[str, dict[str, Any]] = {
    "gru4rec two layers": {"name": "gru4rec", "lower_layers": [6], "input_dropout": 0.3},
    "gru4rec with features": {"name": "gru4rec", "feature_width": 3},
    "gru4rec one-hot": {"name": "gru4rec", "tie_item_embedding": False, "lower_layers": [6]},
    "gru4rec separate": {"name": "gru4rec", "tie_item_embedding": False, "item_width": 5},
    "gru4rec paper's cell": {"name": "gru4rec", "cell": "paper", "bias": False},
    "sasrec original": {"name": "sasrec", "norm": "original"}, "sasrec one block": {"name": "sasrec", "blocks": 1},
    "sasrec with features": {"name": "sasrec", "feature_width": 3, "tie_item_embedding": False},
    "sasrec post": {"name": "sasrec", "norm": "post", "attention_output": True},
    "sasrec from the end": {"name": "sasrec", "positions": "from_end"},
    "gsasrec": {"name": "sasrec", "norm": "original", "scale_inputs": False, "norm_eps": 1e-5, "tie_item_embedding": False},
    "ligr with features": {"name": "ligr", "feature_width": 3}, "ligr from the end": {"name": "ligr", "positions": "from_end"},
    "hstu of the request": {"name": "hstu", "time_bias": "request"}, "hstu of no time": {"name": "hstu", "time_bias": "none"},
    "hstu with features": {"name": "hstu", "feature_width": 3, "tie_item_embedding": False},
    "bert4rec with features": {"name": "bert4rec", "feature_width": 3, "tie_item_embedding": False},
    "caser long window": {"name": "caser", "window": 9, "feature_width": 3}, "caser without user": {"name": "caser", "user_width": 0},
    "caser other activations": {"name": "caser", "conv_activation": "tanh", "dense_activation": "identity"},
    "srgnn two steps": {"name": "srgnn", "steps": 2, "window": 6}, "srgnn not hybrid": {"name": "srgnn", "hybrid": False},
    "srgnn with features": {"name": "srgnn", "feature_width": 3, "tie_item_embedding": False},
    "comirec one interest": {"name": "comirec", "interests": 1}, "comirec with features": {"name": "comirec", "feature_width": 3},
    "comirec not tied": {"name": "comirec", "tie_item_embedding": False},
    "comirec_dr with features": {"name": "comirec_dr", "feature_width": 3}, "comirec_dr one": {"name": "comirec_dr", "interests": 1},
    "mind of interests alone": {"name": "mind", "layers": 0, "adaptive": False}, "mind two layers": {"name": "mind", "layers": 2},
    "mind soft": {"name": "mind", "power": 1.0, "user_width": 4}, "mind with features": {"name": "mind", "feature_width": 3},
    "cml with covariances": {"name": "cml", "covariance": 10.0}, "transrec with a penalty": {"name": "transrec", "l2": 0.1},
    "lrml own relations": {"name": "lrml", "negative_relation": "own"}, "lrml of any length": {"name": "lrml", "unit_ball": False},
    "tdm attention": {"name": "tdm", "variant": "attention"}, "tdm batch norm": {"name": "tdm", "norm": "batch"},
    "tdm with features": {"name": "tdm", "feature_width": 3}, "tdm no hidden layer": {"name": "tdm", "hidden": []},
    "tdm not tied": {"name": "tdm", "variant": "attention", "tie_item_embedding": False},
}  # fmt: skip
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
    return RetrievalModel(config, extension, sizes, np.stack(codes))


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
    batch = Batch(
        short=short, short_time=np.where(short > 0, times, 0), short_length=counts, long=lists,
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
        short_length=batch.short_length[[b]], long=batch.long[[b], :, :long],
        user=batch.user[[b]], profile=batch.profile[[b]], unclicked=batch.unclicked[sequence],
        unclicked_of=torch.zeros(int(sequence.sum()), dtype=torch.long), unclicked_owner=torch.zeros(1, dtype=torch.long),
        row=zeros, position=batch.position[mine], time=batch.time[mine], unclicked_row=zeros,
        stream=batch.stream[[b], : 2 * length],
        stream_action=batch.stream_action[[b], : 2 * length], stream_owner=torch.zeros(1, dtype=torch.long), stream_row=zeros,
        stream_position=batch.stream_position[mine],
    )  # fmt: skip
