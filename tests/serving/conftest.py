"""A store with skips and two trained bundles over it, for all tests that need real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.serving.fakes import write_store
from xdm.log.store import Store

ITEMS = [f"item {number}" for number in range(40)]
START = 1_700_000_000


def simulated_rows() -> list[tuple[str, str, int, bool, int]]:
    """Even users click even items and skip odd ones, and the other way round; a session every other hour."""
    rng = np.random.default_rng(5)
    rows = []
    for user in range(40):
        for session in range(8):
            for step in range(6):
                item = int(rng.zipf(1.3)) % 40
                time = START + session * 7200 + step * 30 + user
                rows.append((f"u{user}", ITEMS[item], time, item % 2 == user % 2, -1))
    return rows


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("served") / "store", simulated_rows(), ITEMS)


def train(store: Path, name: str, *settings: str, model: str = "xdm") -> Path:
    """A small bundle of that name in the models folder beside the store."""
    from xdm.training.config import load_config
    from xdm.training.run import Run

    common = ["training.epochs=2", "training.batch_size=16", "training.threads=1"]
    out = store.with_name("models") / name
    out.parent.mkdir(exist_ok=True)
    Run(Store(store), load_config(model, None, [*common, *settings]), out).train()
    return out


@pytest.fixture(scope="session")
def bundle(store) -> Path:
    return train(store, "bundle")


@pytest.fixture(scope="session")
def other_bundle(store, bundle) -> Path:
    """Another model of the same log, in the same folder."""
    return train(store, "bundle-2", "training.seed=2", "model.width=32")
