"""What the tests of the learning side share: stores in memory, a simulated store, small settings, the command line."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from xdm.cli import main
from xdm.log.store import EntityTable, Events

Event = tuple[int, int, bool, int | None]  # item, time, clicked, session or None

# Width 8 and one thread: a run over 200 simulated users takes a fraction of a second and is the same bit by bit.
SMALL = (
    "model.width=8", "model.heads=2", "model.item_width=8", "model.feature_width=4", "model.user_width=4",
    "model.field_width=2", "training.batch_size=32", "training.threads=1", "training.epochs=2", "training.seed=1",
    "training.learning_rate=0.01", "objective.negatives=20",
)  # fmt: skip


def category_of(item: int) -> str | None:
    """The category of an item of `memory_store`; every fifth has none."""
    return None if item % 5 == 0 else f"c{item % 3}"


def memory_store(users: Sequence[Sequence[Event]], parts: int = 1) -> Any:
    """A store that was never written: users ``1, 2, …`` spread over ``parts``, items in the order of `xdm prepare`.

    That order counts the clicks of the whole log; a model must not learn from it.
    """
    clicks: Counter[int] = Counter({event[0]: 0 for user in users for event in user})
    clicks.update(event[0] for user in users for event in user if event[2])
    ids = [item for item, _ in clicks.most_common()]
    index = {item: place + 1 for place, item in enumerate(ids)}
    names = pa.array(["c0", "c1", "c2"])
    codes = [None if category_of(item) is None else int(str(category_of(item))[1]) for item in ids]
    category = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), names)
    zeros = np.zeros(len(ids), np.int64)
    items = pa.table({"item_id": pa.array(ids, pa.int64()), "clicks": zeros, "exposures": zeros, "category": category})
    of_part = [[user for user in range(len(users)) if user % parts == part] for part in range(parts)]
    order = [user for part in of_part for user in part]
    firsts = np.cumsum([0] + [len(part) for part in of_part])
    held = [
        (int(first), _events([users[u] for u in part], index)) for first, part in zip(firsts[:-1], of_part, strict=True)
    ]
    return SimpleNamespace(
        path=Path("memory"), items=EntityTable(items, "item_id"),
        users=EntityTable(pa.table({"user_id": pa.array([user + 1 for user in order], pa.int64())}), "user_id"),
        parts=lambda: iter(held),
    )  # fmt: skip


def _events(users: Sequence[Sequence[Event]], index: dict[int, int]) -> Events:
    flat = [event for user in users for event in sorted(user, key=lambda event: event[1])]
    return Events(
        np.array([index[e[0]] for e in flat], np.int32), np.array([e[1] for e in flat], np.int64),
        np.array([e[2] for e in flat], np.bool_), np.array([-1 if e[3] is None else e[3] for e in flat], np.int32),
        np.cumsum([0] + [len(user) for user in users]).astype(np.int64),
    )  # fmt: skip


def losses_of(steps: Path) -> list[dict[str, Any]]:
    """The records of a ``steps.jsonl``."""
    return [json.loads(line) for line in steps.read_text().splitlines()]


def call(*arguments: object) -> int:
    """``xdm ARGUMENTS`` in this process; the exit code. Output goes where the caller's goes (see `capfd`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["xdm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def sets(*assignments: str) -> list[str]:
    """``--set`` options of the command line."""
    return [word for assignment in assignments for word in ("--set", assignment)]
