"""A recommender whose answers show which events it was given, and a store written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa

from xdm.behaviours.rules import BehaviourRules
from xdm.log.store import FORMAT, FORMAT_VERSION, write_entities
from xdm.retrieval.types import MODEL, POPULAR, Points, TopK
from xdm.schema import BundleError, UsageError
from xdm.serving.history import History
from xdm.serving.opening import Opened
from xdm.serving.questions import Served
from xdm.serving.service import Service, model_info
from xdm.serving.shelf import Shelf
from xdm.serving.telemetry import Telemetry
from xdm.vocabulary import Vocabulary

ITEMS = [f"i{number}" for number in range(1, 13)]
USERS = ["u1", "u2", "u3"]
MANIFEST = {"model": "fake", "files": {"weights": "f00d"}}


class FakeRecommender:
    """Score of an item: 10 a click of it before t, -1 a skip, less a hundredth of its index. Keeps what it was asked."""

    def __init__(self, items: Sequence[Any] = ITEMS, users: Sequence[Any] = USERS) -> None:
        self.catalogue = Vocabulary(pa.array(items))
        self.users = Vocabulary(pa.array(users))
        self.manifest: dict[str, Any] = MANIFEST
        self.path = Path("fake")
        self.rules = BehaviourRules()
        self.asked: list[Points] = []

    def top_k(self, points: Points, k: int, exclude: list[np.ndarray] | None = None, allowed: np.ndarray | None = None) -> TopK:
        self.asked.append(points)
        n = len(self.catalogue)
        items, scores = np.zeros((len(points), k), np.int32), np.full((len(points), k), -np.inf, np.float32)
        source = np.zeros(len(points), np.uint8)
        for q in range(len(points)):
            events = points.events.of_user(int(points.row[q]))
            before = events.time < points.time[q]
            score = -0.01 * np.arange(n + 1)
            np.add.at(score, events.item[before], np.where(events.clicked[before], 10.0, -1.0))
            score[[0, *(exclude[q] if exclude else [])]] = -np.inf
            if allowed is not None:
                score[~np.isin(np.arange(n + 1), allowed)] = -np.inf
            best = [index for index in np.argsort(-score, kind="stable")[:k] if score[index] > -np.inf]
            items[q, : len(best)], scores[q, : len(best)] = best, score[best]
            source[q] = MODEL if before.any() else POPULAR
        return TopK(items, scores, source)


class FakeCatalogue:
    """What `LiveCatalogue` is to those who answer, over a recommender that has no vectors. Every feature has every value."""

    width = 2

    def __init__(self, recommender: FakeRecommender, fingerprint: str = "") -> None:
        self.recommender, self.users, self.catalogue = recommender, recommender.users, recommender.catalogue
        self.index = recommender.catalogue.index
        self.external_list = recommender.catalogue.external_list
        self.n_known = self.n_candidates = len(recommender.catalogue)

    def known(self, index: int) -> bool:
        return index > 0

    has_vector = known

    def changed(self, changes: Sequence[Any]) -> tuple[FakeCatalogue, dict[str, str]]:
        return self, {str(change.item_id): "it is a fake" for change in changes}

    def unchanged(self) -> FakeCatalogue:
        return self

    def allowed(self, *, items: Sequence[Any] | None, features: Any) -> np.ndarray:
        if features:
            raise UsageError("where: the catalogue has no features")
        return np.unique([self.index(item) for item in items or [] if self.index(item)]).astype(np.int32)

    def top_k(self, points: Points, k: int, exclude: Any = None, allowed: Any = None, *, exact: bool = False) -> TopK:
        return self.recommender.top_k(points, k, exclude, allowed)

    def popular(self, k: int, exclude: np.ndarray, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        fitting = np.arange(1, self.n_known + 1) if allowed is None else allowed
        items = fitting[~np.isin(fitting, exclude)][:k].astype(np.int32)
        return np.zeros(len(items), np.float32), items

    def similar(self, index: int, k: int, exclude: np.ndarray, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        return self.popular(k, exclude, allowed)


def served_by(recommender: FakeRecommender, history: History | None = None) -> Served:
    """What a service answers with, over a fake."""
    return Served("fake", model_info(recommender.manifest), FakeCatalogue(recommender), history)  # type: ignore[arg-type]


def service_over(recommender: FakeRecommender, *, history: History | None = None, **parts: Any) -> Service:
    return Service(served_by(recommender, history), **parts)


def opened_over(served: Served, folder: Path, **parts: Any) -> Opened:
    """A service with a shelf over ``folder``, from which nothing can be opened."""
    telemetry = Telemetry()
    service = Service(served, counts=telemetry, **parts)

    def no_bundle(path: Path) -> Served:
        raise BundleError(f"{path} is a fake")

    shelf = Shelf(folder, no_bundle, service, service.served.model.fingerprint, telemetry)
    return Opened(service, shelf, telemetry)


def expected_ranking(events: Sequence[tuple[Any, bool]], items: Sequence[Any] = ITEMS) -> list[Any]:
    """What `FakeRecommender` says after ``(item_id, clicked)`` events, by plain Python over external ids."""

    def score(item: Any) -> float:
        return sum(10 if clicked else -1 for seen, clicked in events if seen == item) - 0.01 * (items.index(item) + 1)

    return sorted(items, key=score, reverse=True)


def write_store(
    path: Path, rows: Sequence[tuple[Any, Any, int, bool, int]], items: Sequence[Any], parts: int = 2
) -> Path:
    """A store of ``(user_id, item_id, timestamp, clicked, session code)`` rows."""
    users = sorted({row[0] for row in rows}, key=lambda user: (crc32(str(user).encode()) % parts, user))
    part_of = {user: crc32(str(user).encode()) % parts for user in users}
    for part in range(parts):
        folder = path / "parts" / f"{part:05d}"
        folder.mkdir(parents=True)
        of_users = [
            sorted((r for r in rows if r[0] == user), key=lambda r: r[2]) for user in users if part_of[user] == part
        ]
        mine = [row for of_user in of_users for row in of_user]
        np.save(folder / "offsets.npy", np.cumsum([0, *map(len, of_users)], dtype=np.int64))
        np.save(folder / "item.npy", np.array([list(items).index(row[1]) + 1 for row in mine], np.int32))
        np.save(folder / "time.npy", np.array([row[2] for row in mine], np.int64))
        np.save(folder / "clicked.npy", np.array([row[3] for row in mine], np.bool_))
        np.save(folder / "session.npy", np.array([row[4] for row in mine], np.int32))
    counts = {
        "clicks": [sum(row[1] == item and row[3] for row in rows) for item in items],
        "exposures": [sum(row[1] == item for row in rows) for item in items],
    }
    write_entities(path / "items.arrow", pa.table({"item_id": pa.array(items), **counts}))
    write_entities(path / "users.arrow", pa.table({"user_id": pa.array(users)}))
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "parts": parts,
        "users_per_part": [sum(part_of[user] == part for user in users) for part in range(parts)],
        "first_timestamp": min(row[2] for row in rows),
        "last_timestamp": max(row[2] for row in rows),
        "has_sessions": True,
        "fingerprint": "written by hand",
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path
