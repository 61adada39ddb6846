from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.learning import call
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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "no event store"), ("3", "no event store"), ('"x"', "no event store"), ("null", "no event store"),
        ("true", "no event store"), ('{"format": "xdm-event-store"}', "lacks format_version, parts, users_per_part"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(path: Path, content: str, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    (path / MANIFEST).write_text(content)
    with pytest.raises(StoreError, match=says):
        Store(path)
    assert call("behaviours", path, "--user", "u1") == 2
    assert capfd.readouterr().err.count("\n") == 1


def read_whole(path: Path) -> None:
    store = Store(path)
    assert len(store.items)
    assert len(store.users)
    for part in range(store.n_parts):
        store.part(part)
        for name in store.manifest["extra_columns"]:
            store.column(part, name)


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    """A store of one part with every column that a store may have."""
    log = [replace(row, session=f"s{row.time // 7}", action="like", position=3) for row in LOG]
    prepare_log(write_log(tmp_path / "log.parquet", log, optional=True, integer=False), tmp_path / "store")
    return tmp_path / "store"


COLUMNS = [f"parts/00000/{name}.npy" for name in ("offsets", "item", "time", "clicked", "session", "action", "position")]


@pytest.mark.parametrize("name", ["items.arrow", "users.arrow", *COLUMNS])
def test_a_file_that_is_missing_or_cut_off_anywhere_is_named(rich: Path, name: str) -> None:
    read_whole(rich)
    file = rich / name
    whole = file.read_bytes()
    file.unlink()
    for length in (None, *range(len(whole))):
        if length is not None:
            file.write_bytes(whole[:length])
        with pytest.raises(StoreError, match=re.escape(f"{file} cannot be read")):
            read_whole(rich)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_whose_header_is_damaged_is_named_or_read_otherwise(rich: Path, name: str) -> None:
    """Whatever byte of the header it is: numpy's parser raises errors of many kinds."""
    file = rich / name
    whole, said = file.read_bytes(), []
    for place in range(len(whole) - np.load(file).nbytes):
        for value in (0, 2, 44, 66):
            file.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                Store(rich).column(0, file.stem)
            except StoreError as error:
                said.append(str(error))
    assert len(said) > 100
    assert [text for text in said if str(file) not in text] == []


@pytest.mark.parametrize("damage", ["missing", "empty", "half"])
@pytest.mark.parametrize("name", ["items.arrow", "users.arrow", *COLUMNS[:5]])
def test_the_command_line_names_the_damaged_file(rich: Path, name: str, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    file = rich / name
    whole = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(whole[: len(whole) // 2 if damage == "half" else 0])
    assert call("behaviours", rich, "--user", "u1") == 2
    printed = capfd.readouterr()
    assert printed.err.startswith(f"xdm: {file} cannot be read (")
    assert "or make it anew" in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_table_without_ids_is_named(rich: Path) -> None:
    shutil.copy(rich / "users.arrow", rich / "items.arrow")
    with pytest.raises(StoreError, match=re.escape(f"{rich / 'items.arrow'} cannot be read")):
        read_whole(rich)


def test_a_folder_without_a_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="xdm prepare LOG --out"):
        Store(tmp_path)


def test_a_store_of_format_1_is_still_read(tmp_path: Path) -> None:
    """A store as format version 1 wrote it, kept in the repository (`LOG`, with two parts)."""
    shutil.copytree(Path(__file__).parent / "store_v1", tmp_path / "store")
    assert read_back(tmp_path / "store") == expected_store(LOG, 2)
