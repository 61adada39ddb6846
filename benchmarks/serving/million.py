"""A bundle of a million items and a store of users that click them, without training: what matters to a load is their size."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from benchmarks.serving.process import run_xdm

CLUSTERS = 1000
SHOWN = 40  # events of a user in the store, half of them clicked
LIVE = 10  # and over HTTP
VISIT = 10  # events of a visit, a minute apart
DAY = 86_400


class Made(NamedTuple):
    """A bundle with an approximate index, its store, and events of the same users that come after the store's."""

    bundle: Path
    store: Path
    users: list[str]
    live: list[dict[str, Any]]
    index: dict[str, Any]  # what `xdm index` built and measured


def make(folder: Path, items: int, width: int, users: int) -> Made:
    """SASRec over item vectors in clusters, and its index. Its blocks are not trained, but made to mix a session's clicks as trained
    ones do: a query lies between the clusters of a user's last clicks.

    What ``folder`` holds already of the same size is taken as it is, but for the times of the live events.
    """
    rng = np.random.default_rng(7)
    cluster = rng.integers(0, CLUSTERS, items)
    bundle, store = folder / "models" / "million", folder / "store"
    size = {"items": items, "width": width, "users": users}
    made = folder / "made.json"
    if not made.exists() or json.loads(made.read_text()) != size:
        _write_store(store, clicks_of(cluster, users, SHOWN), items)
        _write_bundle(bundle, store, _vectors(cluster, width, rng), width)
        run_xdm("index", bundle, store)
        made.write_text(json.dumps(size))
    now, names = int(time.time()), [f"u{number}" for number in range(users)]
    shown = clicks_of(cluster, users, SHOWN + LIVE)[:, SHOWN:]
    live = [
        {"event_id": f"{now}.{user}.{n}", "user_id": names[user], "item_id": int(item), "timestamp": now - 600 + 50 * n,
         "clicked": n % 2 == 0}
        for user in range(users) for n, item in enumerate(shown[user])
    ]  # fmt: skip
    return Made(bundle, store, names, live, json.loads((bundle / "manifest.json").read_text())["ivf"])


def clicks_of(cluster: np.ndarray, users: int, events: int) -> np.ndarray:
    """Item ids ``[users, events]``: everybody looks at three clusters, and there at the popular items (small ids) most."""
    rng = np.random.default_rng(8)
    order = np.argsort(cluster, kind="stable")
    starts = np.searchsorted(cluster[order], np.arange(CLUSTERS + 1))
    looked_at = rng.integers(0, CLUSTERS, (users, 3))[np.arange(users)[:, None], rng.integers(0, 3, (users, events))]
    sizes = np.maximum(np.diff(starts), 1)[looked_at]
    place = (sizes * rng.random((users, events)) ** 3).astype(np.int64)
    return order[np.minimum(starts[looked_at] + place, len(order) - 1)]


def _vectors(cluster: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """float32 ``[N, width]``: around their clusters' centres, of lengths that differ as popularity makes them."""
    centres = rng.standard_normal((CLUSTERS, width), np.float32)
    vectors = centres[cluster] + 0.5 * rng.standard_normal((len(cluster), width), np.float32)
    return vectors * (0.1 * rng.lognormal(0, 0.2, (len(cluster), 1))).astype(np.float32)


def _write_store(path: Path, shown: np.ndarray, items: int) -> None:
    from xdm.log.store import FORMAT, FORMAT_VERSION, write_entities

    users, events = shown.shape
    part = path / "parts" / "00000"
    part.mkdir(parents=True, exist_ok=True)
    end = int(time.time()) - 3600
    visits = np.sort(np.random.default_rng(9).integers(end - 5 * DAY, end - 3600, (users, events // VISIT)), axis=1)
    when = np.sort(np.repeat(visits, VISIT, axis=1) + np.tile(60 * np.arange(VISIT), events // VISIT), axis=1)
    columns = {"item": shown + 1, "time": when, "clicked": np.broadcast_to(np.arange(events) % 2 == 0, shown.shape)}
    for (name, column), kind in zip(columns.items(), (np.int32, np.int64, np.bool_), strict=True):
        np.save(part / f"{name}.npy", column.ravel().astype(kind))
    np.save(part / "offsets.npy", np.arange(users + 1, dtype=np.int64) * events)
    counts = np.bincount(shown.ravel(), minlength=items)
    write_entities(path / "items.arrow", pa.table({"item_id": np.arange(items), "clicks": counts // 2, "exposures": counts}))
    write_entities(path / "users.arrow", pa.table({"user_id": [f"u{number}" for number in range(users)]}))
    (path / "manifest.json").write_text(json.dumps({
        "format": FORMAT, "format_version": FORMAT_VERSION, "parts": 1, "users_per_part": [users], "has_sessions": False,
        "first_timestamp": end - 5 * DAY, "last_timestamp": end, "fingerprint": "made for a load",
    }))  # fmt: skip


def _write_bundle(path: Path, store: Path, vectors: np.ndarray, width: int) -> None:
    import torch

    from xdm.bundle.writing import write_bundle
    from xdm.data.catalogue import Catalogue
    from xdm.log.store import Store
    from xdm.models.retrieval_model import build_model
    from xdm.training.config import load_config

    opened = Store(store)
    n = len(vectors)
    catalogue = Catalogue(opened.items, opened.users, n, np.arange(n + 1, dtype=np.int32))
    config = load_config("sasrec", None, [f"model.width={width}"])
    model = build_model(config.model, config.unclicked, catalogue, seed=1)
    with torch.no_grad():
        model.item_table.weight[1:] = torch.from_numpy(vectors)
        for block in model.encoder.blocks:  # what they add to the last click: the mean of the session's, and a little of anything
            block.attention.value.weight.copy_(torch.eye(width))
            block.attention.value.bias.zero_()
            block.outer.weight.mul_(0.1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bundle(path, model, catalogue, config, {"model": "sasrec"}, [], b"", overwrite=True)
