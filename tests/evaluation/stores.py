"""A small store written by hand, a recommender that shows what it was asked, and the split's plain-Python oracle."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa

from xdm.log.store import FORMAT, FORMAT_VERSION, Events, Store, write_entities
from xdm.retrieval.types import MODEL, POPULAR, Points, TopK
from xdm.vocabulary import Vocabulary

Row = tuple[Any, Any, int, bool]  # user_id, item_id, timestamp, clicked


def make_store(path: Path, rows: list[Row], parts: int = 2, features: dict[str, dict[Any, str]] | None = None) -> Store:
    """A store of ``rows``, laid out as `xdm.log.store` says: items by falling clicks, users by part; ``features`` are of
    items: name to item to value, none where an item is missing."""
    clicks = Counter({item: 0 for _, item, _, _ in rows})
    clicks.update(item for _, item, _, clicked in rows if clicked)
    items = [item for item, _ in clicks.most_common()]
    index = {item: place + 1 for place, item in enumerate(items)}
    part_of = {user: crc32(str(user).encode()) % parts for user, *_ in rows}
    for part in range(parts):
        folder = path / "parts" / f"{part:05d}"
        folder.mkdir(parents=True)
        of_users = [sorted((r for r in rows if r[0] == u), key=lambda r: r[2]) for u in part_of if part_of[u] == part]
        mine = [row for of_user in of_users for row in of_user]
        np.save(folder / "offsets.npy", np.cumsum([0, *map(len, of_users)], dtype=np.int64))
        np.save(folder / "item.npy", np.array([index[row[1]] for row in mine], np.int32))
        np.save(folder / "time.npy", np.array([row[2] for row in mine], np.int64))
        np.save(folder / "clicked.npy", np.array([row[3] for row in mine], np.bool_))
    users = sorted(part_of, key=lambda user: part_of[user])
    columns = {"item_id": pa.array(items), "clicks": pa.array([clicks[i] for i in items])}
    for name, value_of in (features or {}).items():
        columns[name] = pa.array([value_of.get(i) for i in items], pa.string()).dictionary_encode()
    write_entities(path / "items.arrow", pa.table(columns))
    write_entities(path / "users.arrow", pa.table({"user_id": pa.array(users)}))
    times = [row[2] for row in rows]
    manifest = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "parts": parts, "has_sessions": False,
        "users_per_part": [sum(part_of[user] == part for user in users) for part in range(parts)],
        "first_timestamp": min(times), "last_timestamp": max(times),
    }  # fmt: skip
    (path / "manifest.json").write_text(json.dumps(manifest))
    return Store(path)


def events_of(users: list[list[tuple[int, int, bool]]]) -> Events:
    """Events of several users, each a list of ``(item index, time, clicked)``."""
    flat = [event for user in users for event in user]
    item, time, clicked = zip(*flat, strict=True) if flat else ((), (), ())
    one = Events.of_one_user(item, time, clicked)
    return Events(one.item, one.time, one.clicked, one.session, np.cumsum([0, *map(len, users)], dtype=np.int64))


def oracle(user: list[tuple[Any, int, bool]], protocol: str, cut_off: int, until: int, nth_last: int = 1) -> list:
    """The questions about one user, ``[(time, sorted truth), …]``, read off the protocol's definition."""
    clicks = [(item, time) for item, time, clicked in user if clicked and cut_off <= time < until]
    if protocol == "each-click":
        return [(time, [item]) for item, time in clicks]
    if protocol == "last-click":
        return [(clicks[-nth_last][1], [clicks[-nth_last][0]])] if len(clicks) >= nth_last else []
    if protocol == "time":
        return [(cut_off, sorted({item for item, _ in clicks}))] if clicks else []
    if len(clicks) < 2:
        return []
    asked_at = clicks[max(1, len(clicks) // 4)][1]
    return [(asked_at, sorted({item for item, time in clicks if time >= asked_at}))]


class LastSeenFirst:
    """A `Recommender` whose list is what the user was shown before t, latest first, then its catalogue from the end.

    Users without an event get the catalogue in order, as source "popular". Knows only the ids it was given.
    """

    def __init__(self, items: list[Any], users: list[Any], manifest: dict[str, Any] | None = None) -> None:
        self.catalogue, self.users = Vocabulary(pa.array(items)), Vocabulary(pa.array(users))
        self.manifest = manifest or {}
        self.asked_users: list[int] = []

    def top_k(self, points: Points, k: int, exclude: list[np.ndarray] | None = None) -> TopK:
        items, scores = np.zeros((len(points), k), np.int32), np.full((len(points), k), -np.inf, np.float32)
        source = np.zeros(len(points), np.uint8)
        self.asked_users += points.user.tolist()
        for q in range(len(points)):
            events = points.events.of_user(int(points.row[q]))
            seen = events.item[events.time < points.time[q]].tolist()
            source[q] = MODEL if seen else POPULAR
            order = seen[::-1] + list(range(len(self.catalogue), 0, -1)) if seen else range(1, len(self.catalogue) + 1)
            excluded = set(exclude[q].tolist()) if exclude else set()
            best = [item for item in dict.fromkeys(order) if item not in excluded][:k]
            items[q, : len(best)], scores[q, : len(best)] = best, -np.arange(len(best))
        return TopK(items, scores, source)

    def expected(self, history: list[tuple[Any, int, bool]], time: int, k: int, exclude_seen: bool) -> list[Any]:
        """The same list in external ids and plain Python, from a user's ``(item_id, time, clicked)``."""
        items = self.catalogue.ids.to_pylist()
        seen = [item for item, when, _ in history if when < time and item in items]
        clicked = {item for item, when, is_click in history if when < time and is_click} if exclude_seen else set()
        order = seen[::-1] + items[::-1] if seen else items
        return [item for item in dict.fromkeys(order) if item not in clicked][:k]
