"""What a store must hold, in plain Python: the judge of `prepare_log`."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xdm.log.store import Store

Id = int | str


@dataclass(frozen=True)
class Exposure:
    """One row of a log; ``session``, ``action`` and ``position`` are None for none."""

    user: Id
    item: Id
    time: int
    clicked: bool
    session: Id | None = None
    action: Id | None = None
    position: int | None = None


@dataclass
class Expected:
    users: list[Id]
    items: list[Id]
    events: dict[Id, list[Exposure]]
    counts: dict[Id, tuple[int, int]]  # clicks, exposures
    users_per_part: list[int]
    duplicates: int
    without_exposure: int


def expected_store(log: list[Exposure], parts: int) -> Expected:
    """The store of ``log``, in the log's order."""
    order = {user: zlib.crc32(str(user).encode()) % parts for user in dict.fromkeys(row.user for row in log)}
    users = [user for part in range(parts) for user in order if order[user] == part]
    events = {
        user: list(dict.fromkeys(sorted((row for row in log if row.user == user), key=lambda row: row.time)))
        for user in users
    }
    kept = [row for rows in events.values() for row in rows]
    counts = {
        item: (sum(row.clicked for row in kept if row.item == item), sum(row.item == item for row in kept))
        for item in dict.fromkeys(row.item for row in log)
    }
    alone = sum(
        not any(other.item == row.item and not other.clicked and other.time <= row.time for other in events[row.user])
        for row in kept
        if row.clicked
    )
    return Expected(
        users=users,
        items=sorted(counts, key=lambda item: (-counts[item][0], -counts[item][1])),
        events=events,
        counts=counts,
        users_per_part=[list(order.values()).count(part) for part in range(parts)],
        duplicates=len(log) - len(kept),
        without_exposure=alone,
    )


def read_back(path: Path) -> Expected:
    """What a store holds, in the same form (sessions as ids cannot be read back and become their codes)."""
    store = Store(path)
    items = store.items.vocabulary.ids.to_pylist()
    users = store.users.vocabulary.ids.to_pylist()
    clicks, exposures = store.items.counts("clicks"), store.items.counts("exposures")
    events: dict[Id, list[Exposure]] = {}
    for first, part in store.parts():
        number = int(np.flatnonzero(store.first_users == first)[-1]) if part.n_users else 0
        for row in range(part.n_users):
            span = range(int(part.offsets[row]), int(part.offsets[row + 1]))
            events[users[first + row]] = [
                _event(store, number, part, place, users[first + row], items) for place in span
            ]
    report = store.manifest["report"]
    return Expected(
        users=users,
        items=items,
        events=events,
        counts={item: (int(clicks[row]), int(exposures[row])) for row, item in enumerate(items, 1)},
        users_per_part=store.manifest["users_per_part"],
        duplicates=report["duplicates"],
        without_exposure=report["clicks_without_exposure"],
    )


def _event(store: Store, part_number: int, part: Any, place: int, user: Id, items: list[Id]) -> Exposure:
    manifest = store.manifest
    session = int(part.session[place])
    action = position = None
    if "action" in manifest["extra_columns"]:
        code = int(store.column(part_number, "action")[place])
        action = manifest["action_names"][code - 1] if code else None
    if "position" in manifest["extra_columns"]:
        position = int(store.column(part_number, "position")[place])
    return Exposure(
        user, items[part.item[place] - 1], int(part.time[place]), bool(part.clicked[place]),
        None if session < 0 else session, action, None if position in (None, -1) else position,
    )  # fmt: skip


def with_session_codes(log: list[Exposure]) -> list[Exposure]:
    """The log with each session id replaced by its code: its place among the ids by first appearance."""
    codes: dict[Id, int] = {}
    rows = []
    for row in log:
        code = None if row.session is None else codes.setdefault(row.session, len(codes))
        rows.append(Exposure(row.user, row.item, row.time, row.clicked, code, row.action, row.position))
    return rows
