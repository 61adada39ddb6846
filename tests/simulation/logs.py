"""Simulated logs, prepared, for tests; and questions about all of their users."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from xdm.log.preparing import prepare_log
from xdm.log.store import Store
from xdm.retrieval.types import Points
from xdm.simulation import World
from xdm.simulation.writing import write_world


class Log(NamedTuple):
    world: World
    folder: Path
    store: Store

    def likes(self, day: int) -> set[tuple[str, str]]:
        """``(user_id, category)`` of what is liked on ``day`` (from 1), as truth.parquet says."""
        rows = pq.read_table(self.folder / "truth.parquet").to_pylist()
        return {(row["user_id"], row["category"]) for row in rows if row["first_day"] <= day <= row["last_day"]}


def make_log(folder: Path, world: World) -> Log:
    log = folder / "log"
    write_world(world, log)
    prepare_log(log / "exposures.parquet", folder / "store", items=log / "items.parquet", users=log / "users.parquet")
    return Log(world, log, Store(folder / "store"))


def everyone(store: Store, time: int) -> Iterator[tuple[Any, Points]]:
    """For each part its events, and a question about every user of it at ``time``."""
    for first_user, events in store.parts():
        row = np.arange(events.n_users)
        yield events, Points(events, row, (first_user + row + 1).astype(np.int32), np.full(len(row), time))
