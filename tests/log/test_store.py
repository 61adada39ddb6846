from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.log.oracle import Exposure, expected_store, read_back
from tests.log.writing import write_log
from xdm.folders import MANIFEST
from xdm.log.preparing import prepare_log
from xdm.log.settings import PrepareSettings
from xdm.log.store import FORMAT_VERSION, Events, Store
from xdm.schema import StoreError

LOG = [Exposure(f"u{row % 6}", f"i{row % 5}", 100 - row, row % 3 == 0) for row in range(24)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = write_log(tmp_path / "log.parquet", LOG, optional=False, integer=False)
    prepare_log(log, tmp_path / "store", settings=PrepareSettings(partitions=4))
    return tmp_path / "store"


def test_each_user_is_found_by_index(path: Path) -> None:
    store = Store(path)
    wanted = expected_store(LOG, 4)
    assert store.n_parts == 4
    assert store.time_range == (77, 100)
    for index, user in enumerate(wanted.users, 1):
        events = store.user_events(index)
        assert events.n_users == 1
        assert store.users.vocabulary.index(user) == index
        found = [
            (store.items.vocabulary.external(np.array([item])).to_pylist()[0], int(time), bool(clicked))
            for item, time, clicked in zip(events.item, events.time, events.clicked, strict=True)
        ]
        assert found == [(row.item, row.time, row.clicked) for row in wanted.events[user]]


def test_columns_are_mapped_and_cannot_be_written(path: Path) -> None:
    part = Store(path).part(0)
    with pytest.raises(ValueError, match="read-only"):
        part.item[:1] = 5


def test_events_outside_a_catalogue_are_left_out_user_by_user() -> None:
    events = Events(
        item=np.array([1, 2, 3, 2, 1], np.int32),
        time=np.array([5, 6, 7, 1, 2]),
        clicked=np.array([True, False, True, False, True]),
        session=np.array([0, 0, 1, -1, -1], np.int32),
        offsets=np.array([0, 3, 3, 5]),
    )
    known = events.in_catalogue(np.array([0, 9, 0, 4], np.int32))  # item 2 is not in it
    assert known.item.tolist() == [9, 4, 9]
    assert known.time.tolist() == [5, 7, 2]
    assert known.clicked.tolist() == [True, True, True]
    assert known.session.tolist() == [0, 1, -1]
    assert known.offsets.tolist() == [0, 2, 2, 3]
    assert len(known.of_user(2)) == 1
    assert events.in_catalogue(np.arange(4, dtype=np.int32)).item.tolist() == events.item.tolist()


def test_collections_of_users_are_joined_in_order() -> None:
    ones = [Events.of_one_user([3, 4], [1, 2], [True, False]), Events.of_one_user([], [], []), Events.of_one_user([5], [9], [True])]
    joined = Events.joined([Events.joined(ones), ones[0]])
    assert [joined.of_user(row).item.tolist() for row in range(joined.n_users)] == [[3, 4], [], [5], [3, 4]]
    assert (joined.item.dtype, joined.offsets.dtype, len(joined)) == (ones[0].item.dtype, np.int64, 5)
    assert Events.joined(ones[:1]) is ones[0]


def test_events_of_one_user_can_be_sorted() -> None:
    events = Events.of_one_user([1, 2, 3], [9, 5, 9], [True, False, True], sort=True)
    assert events.item.tolist() == [2, 1, 3]
    assert events.session.tolist() == [-1, -1, -1]
    assert (events.n_users, len(events)) == (1, 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format_version": FORMAT_VERSION + 1}, "upgrade xdm, or prepare the log again"),
        ({"format": "xdm-bundle"}, "no event store"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_store_is_refused(path: Path, change: dict[str, Any] | None, says: str) -> None:
    manifest = path / MANIFEST
    manifest.write_text("{" if change is None else json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(StoreError, match=says):
        Store(path)


def test_a_folder_without_a_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="xdm prepare LOG --out"):
        Store(tmp_path)


def test_a_store_of_format_1_is_still_read(tmp_path: Path) -> None:
    """A store as format version 1 wrote it, kept in the repository (`LOG`, with two parts)."""
    shutil.copytree(Path(__file__).parent / "store_v1", tmp_path / "store")
    assert read_back(tmp_path / "store") == expected_store(LOG, 2)
