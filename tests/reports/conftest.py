"""What the tests of reports share: SDM beside the trained XDM, and every user's log in plain Python."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.learning import SMALL
from xdm.log.store import Store

Log = dict[Any, list[tuple[Any, int, bool, int | None]]]  # user_id to (item_id, time, clicked, session)


@pytest.fixture(scope="session")
def plain(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of an SDM trained as `trained` is."""
    from xdm.training.config import load_config
    from xdm.training.run import Run

    out = tmp_path_factory.mktemp("plain") / "sdm"
    Run(Store(simulated), load_config("sdm", None, SMALL), out).train()
    return out


@pytest.fixture(scope="session")
def store(simulated: Path) -> Store:
    return Store(simulated)


@pytest.fixture(scope="session")
def logs(store: Store) -> Log:
    """Every user's events in external ids."""
    found: Log = {}
    for user, user_id in enumerate(store.users.vocabulary.ids.to_pylist(), start=1):
        events = store.user_events(user)
        sessions = [None if code < 0 else int(code) for code in events.session]
        items = store.items.vocabulary.external_list(events.item)
        found[user_id] = list(zip(items, events.time.tolist(), events.clicked.tolist(), sessions, strict=True))
    return found


@pytest.fixture(scope="session")
def category(store: Store) -> Callable[[Any], Any]:
    table = store.items.table
    return dict(zip(table["item_id"].to_pylist(), table["category"].to_pylist(), strict=True)).get


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_pictures(folder: Path, *names: str) -> None:
    """Each picture is there, as PNG and as SVG, and not empty."""
    for name in names:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (folder / f"{name}.svg").read_text()
        assert svg.rstrip().endswith("</svg>")
        assert svg.count("<path") > 10
