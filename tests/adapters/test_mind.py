"""MIND against a generated fixture in the publisher's layout."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.reading import assert_fingerprint, assert_size_is_near, open_log, rows_of
from xdm.schema import LogError

TRAIN = [
    ("1", "U13740", "11/11/2019 9:05:58 AM", "N55189 N42782 N34694", "N55689-1 N35729-0"),
    ("2", "U91836", "11/12/2019 6:11:30 PM", "", "N20678-0 N39317-0 N58114-1"),
    ("3", "U73700", "11/14/2019 12:01:09 AM", "N10732", "N50014-0"),
]
DEV = [("1", "U13740", "11/15/2019 12:00:00 PM", "N55189 N42782 N34694", "N28682-0 N48740-1")]
NEWS = [
    ("N55189", "tv", "tvnews", 'A "quote" that is not closed: "', "", "https://example.org/1.html", "[]", "[]"),
    ("N55689", "sports", "football_nfl", "Title", "Abstract", "https://example.org/2.html", '[{"Label": "x"}]', "[]"),
]
DEV_NEWS = [NEWS[1], ("N28682", "sports", "", "Title", "Abstract", "https://example.org/3.html", "[]", "[]")]


def write_split(folder: Path, behaviors: list[tuple[str, ...]], news: list[tuple[str, ...]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("behaviors.tsv", behaviors), ("news.tsv", news)):
        (folder / name).write_text("".join("\t".join(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_split(tmp_path / "MINDsmall_train", TRAIN, NEWS)
    write_split(tmp_path / "MINDsmall_dev", DEV, DEV_NEWS)
    return tmp_path


def oracle(behaviors: list[tuple[str, ...]]) -> list[dict[str, Any]]:
    rows = []
    for _, user, text, _, impressions in behaviors:
        time = datetime.strptime(text, "%m/%d/%Y %I:%M:%S %p")
        for position, entry in enumerate(impressions.split(" "), start=1):
            item, _, label = entry.rpartition("-")
            row = {"user_id": user, "item_id": item, "timestamp": time}
            rows.append(row | {"clicked": label == "1", "position": position})
    return rows


def test_exposures_of_both_splits_train_first(folder: Path) -> None:
    source = open_log("mind", folder)
    rows = rows_of(source)
    assert rows == oracle(TRAIN + DEV)
    assert rows[0]["timestamp"] == datetime(2019, 11, 11, 9, 5, 58)
    assert rows[5]["timestamp"] == datetime(2019, 11, 14, 0, 1, 9)


def test_size_is_estimated_before_reading(tmp_path: Path) -> None:
    write_split(tmp_path, TRAIN * 50_000, NEWS)
    assert_size_is_near(open_log("mind", tmp_path), 6 * 50_000)


def test_history_is_left_out_and_counted(folder: Path) -> None:
    source = open_log("mind", folder)
    rows_of(source)
    assert list(source.left_out.values()) == [3 + 0 + 1 + 3]


def test_one_split_alone(folder: Path) -> None:
    source = open_log("mind", folder / "MINDsmall_dev")
    assert rows_of(source) == oracle(DEV)
    assert source.users is None
    assert_fingerprint(source, folder / "MINDsmall_dev", ["behaviors.tsv", "news.tsv"])


def test_items_once_each(folder: Path) -> None:
    items = open_log("mind", folder).items
    assert items is not None
    assert items.to_pylist() == [
        {"item_id": "N55189", "category": "tv", "subcategory": "tvnews"},
        {"item_id": "N55689", "category": "sports", "subcategory": "football_nfl"},
        {"item_id": "N28682", "category": "sports", "subcategory": None},
    ]


def test_no_news_no_items(folder: Path) -> None:
    (folder / "MINDsmall_dev" / "news.tsv").unlink()
    assert open_log("mind", folder / "MINDsmall_dev").items is None


def test_the_test_split_has_no_clicks(tmp_path: Path) -> None:
    write_split(tmp_path, [("1", "U1", "11/16/2019 1:02:03 AM", "N1", "N2 N3")], NEWS)
    with pytest.raises(LogError, match=r"behaviors\.tsv: the impression entry 'N2' has no click label"):
        rows_of(open_log("mind", tmp_path))


def test_a_time_of_another_form_is_refused(tmp_path: Path) -> None:
    write_split(tmp_path, [TRAIN[0], ("2", "U1", "2019-11-16 01:02:03", "N1", "N2-0")], NEWS)
    with pytest.raises(LogError, match=r"behaviors\.tsv: the time '2019-11-16 01:02:03' is not of the form"):
        rows_of(open_log("mind", tmp_path))


entries = st.tuples(st.integers(1, 99), st.sampled_from("01")).map(lambda pair: f"N{pair[0]}-{pair[1]}")
times = st.datetimes(datetime(2019, 10, 12), datetime(2019, 11, 22)).map(
    lambda time: (
        f"{time.month}/{time.day}/{time.year} {time.hour % 12 or 12}:{time:%M:%S} {'AM' if time.hour < 12 else 'PM'}"
    )
)
lines = st.tuples(st.just("1"), st.just("U1"), times, st.just(""), st.lists(entries, min_size=1).map(" ".join))


@given(behaviors=st.lists(lines, min_size=1, max_size=6))
def test_any_impressions(tmp_path_factory: pytest.TempPathFactory, behaviors: list[tuple[str, ...]]) -> None:
    folder = tmp_path_factory.mktemp("mind")
    write_split(folder, behaviors, [])
    assert rows_of(open_log("mind", folder)) == oracle(behaviors)
