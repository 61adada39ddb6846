"""``xdm prepare --adapter`` on a generated fixture of each set: the store holds what a plain reading of the files gives."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.adapters import test_ebnerd, test_kuairand, test_mind, test_movielens
from xdm.cli import group
from xdm.log.store import Store

Event = tuple[Any, Any, int, bool]  # user_id, item_id, seconds, clicked


def write_ebnerd(folder: Path) -> list[dict[str, Any]]:
    test_ebnerd.write_split(folder / "train", test_ebnerd.TRAIN, [[101, 102]])
    test_ebnerd.write_split(folder / "validation", test_ebnerd.VALIDATION, [])
    test_ebnerd.write_articles(folder / "articles.parquet")
    return test_ebnerd.oracle(test_ebnerd.TRAIN + test_ebnerd.VALIDATION)


def write_kuairand(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for seed, name in enumerate(test_kuairand.LOGS):
        test_kuairand.write_csv(folder / name, test_kuairand.LOG_HEADER, test_kuairand.log_rows(seed, 50))
        rows += [test_kuairand.oracle(row) for row in test_kuairand.log_rows(seed, 50)]
    return rows


def write_mind(folder: Path) -> list[dict[str, Any]]:
    second = ("N35729", "tv", "tvnews", "Title", "", "https://example.org/4.html", "[]", "[]")
    test_mind.write_split(folder / "MINDsmall_train", test_mind.TRAIN, [*test_mind.NEWS, second])
    test_mind.write_split(folder / "MINDsmall_dev", test_mind.DEV, test_mind.DEV_NEWS)
    return test_mind.oracle(test_mind.TRAIN + test_mind.DEV)


def write_movielens(folder: Path) -> list[dict[str, Any]]:
    test_movielens.write_dat(folder)
    return test_movielens.CLICKS


def seconds(time: datetime | int) -> int:
    if isinstance(time, int):
        return time
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() // 1)


def events_of(store: Store) -> list[Event]:
    events = []
    for user in range(1, len(store.users) + 1):
        own = store.user_events(user)
        [name] = store.users.vocabulary.external_list([user])
        items = store.items.vocabulary.external_list(own.item)
        events += [
            (name, item, int(time), bool(clicked))
            for item, time, clicked in zip(items, own.time, own.clicked, strict=True)
        ]
    return events


CASES: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "ebnerd": write_ebnerd,
    "kuairand": write_kuairand,
    "mind": write_mind,
    "movielens": write_movielens,
}
ITEM_FEATURES = {
    "ebnerd": {"category", "subcategory", "article_type", "premium", "sentiment_label"},
    "kuairand": set(),
    "mind": {"category", "subcategory"},
    "movielens": {"category", "year"},
}
REPORTED = {
    "ebnerd": "left out: 2 clicks in history.parquet",
    "kuairand": "times with a fraction of a second, rounded down",
    "mind": "left out: 7 history entries",
    "movielens": "a click-only log",
}


@pytest.mark.parametrize("name", CASES)
def test_prepare_walks(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    rows = CASES[name](folder)
    out = tmp_path / "store"
    result = CliRunner().invoke(
        group, ["prepare", str(folder), "--adapter", name, "--out", str(out)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert REPORTED[name] in result.stdout

    expected = [(row["user_id"], row["item_id"], seconds(row["timestamp"]), row["clicked"]) for row in rows]
    store = Store(out)
    assert sorted(events_of(store)) == sorted(expected)
    assert set(store.items.features) == ITEM_FEATURES[name]
    assert store.manifest["n_clicks"] == sum(row["clicked"] for row in rows)
