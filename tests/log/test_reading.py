"""What is read, and how: columns, times, clicks and files of every kind that a log may have."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.log.writing import write_csv
from xdm.log.converting import parse_integers, to_clicked
from xdm.log.files import CsvTable, find_files
from xdm.log.ids import text_buffers
from xdm.log.preparing import prepare_log
from xdm.log.report import PrepareReport
from xdm.log.settings import PrepareSettings
from xdm.log.store import Store
from xdm.log.times import to_seconds

SECOND = 1_700_000_001


def prepared(folder: Path, columns: dict[str, Any] | str, **how: Any) -> tuple[Store, PrepareReport]:
    """Prepare a log given as columns (Parquet) or as text (CSV)."""
    if isinstance(columns, str):
        log = write_csv(folder / "log.csv", columns)
    else:
        log = folder / "log.parquet"
        pq.write_table(pa.table(columns), log)
    report = prepare_log(log, folder / "store", settings=PrepareSettings(**how), overwrite=True)
    return Store(folder / "store"), report


@pytest.mark.parametrize(
    ("times", "unit", "rounded"),
    [
        (pa.array([SECOND]), "auto", 0),
        (pa.array([SECOND], pa.uint32()), "s", 0),
        (pa.array([str(SECOND)]), "auto", 0),
        (pa.array([f" {SECOND} "]), "s", 0),
        (pa.array([float(SECOND)]), "auto", 0),
        (pa.array([SECOND + 0.75]), "auto", 1),
        (pa.array([SECOND * 1000 + 999]), "ms", 1),
        (pa.array([SECOND * 10**6]), "us", 0),
        (pa.array([SECOND * 10**9 + 1]), "ns", 1),
        (pa.array([str(SECOND * 10**9 + 999_999_999)]), "ns", 1),
        (pa.array([SECOND * 1000 + 1], pa.timestamp("ms")), "auto", 1),
        (pa.array([SECOND], pa.timestamp("s", "Europe/Berlin")), "datetime", 0),
        (pa.array([SECOND * 10**9], pa.timestamp("ns", "UTC")), "auto", 0),
        (pa.array(["2023-11-14T22:13:21Z"]), "datetime", 0),
        (pa.array(["2023-11-14 22:13:21"]), "datetime", 0),
        (pa.array(["2023-11-15T03:43:21.999999999+05:30"]), "datetime", 1),
        (pa.array(["2023-11-14T12:13:21.000-1000"]), "datetime", 0),
        (pa.array([str(SECOND)]).dictionary_encode(), "auto", 0),
    ],
)
def test_times_of_every_kind_keep_their_second(tmp_path: Path, times: pa.Array, unit: str, rounded: int) -> None:
    columns = {"user_id": ["u"], "item_id": ["i"], "timestamp": times, "clicked": [True]}
    store, report = prepared(tmp_path, columns, time_unit=unit)
    assert store.column(0, "time").tolist() == [SECOND]
    assert store.column(0, "time").dtype == np.int64
    assert report.rounded_times == rounded


def test_dates_are_midnight_utc(tmp_path: Path) -> None:
    days = [date(2024, 2, 29), date(1970, 1, 1)]
    columns = {"user_id": ["u", "v"], "item_id": ["i", "i"], "timestamp": days, "clicked": [True, False]}
    store, report = prepared(tmp_path, columns)
    midnights = [int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) for day in days]
    assert sorted(store.column(0, "time").tolist()) == sorted(midnights)
    assert "times without a time zone were taken as UTC" in report.notes


@given(st.datetimes(datetime(1970, 1, 2), datetime(2999, 1, 1)), st.integers(-14 * 60, 14 * 60), st.sampled_from("T "))
def test_iso_text_is_the_second_that_python_reads(when: datetime, offset: int, between: str) -> None:
    zoned = when.replace(tzinfo=timezone(timedelta(minutes=offset)))
    times, faults = to_seconds(pa.array([zoned.isoformat(between)]), "datetime")
    assert not faults
    assert times.seconds.tolist() == [int(zoned.replace(microsecond=0).timestamp())]
    assert times.rounded.tolist() == [when.microsecond > 0]
    assert not times.naive


@given(st.lists(st.one_of(st.integers(-(2**64), 2**64).map(str), st.text("-+0123456789 x", max_size=22))))
def test_integers_of_text_are_those_that_python_reads(texts: list[str]) -> None:
    values, bad = parse_integers(*text_buffers(pa.array(texts, pa.string())))
    for text, value, wrong in zip(texts, values.tolist(), bad.tolist(), strict=True):
        digits = text.strip(" ").removeprefix("-")
        readable = digits.isascii() and digits.isdigit() and -(2**63) <= int(text) < 2**63
        assert wrong == (not readable)
        assert value == (int(text) if readable else 0)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True, False]),
        pa.array([1, 0], pa.int8()),
        pa.array([1.0, 0.0]),
        pa.array(["TRUE", "False"]),
        pa.array(["1", " 0 "]),
        pa.array(["true", "0"], pa.large_string()).dictionary_encode(),
        pa.array(["true", "0"], pa.string_view()),
        pa.array([b"1", b"0"]),
    ],
)
def test_clicked_of_every_kind(column: pa.Array) -> None:
    clicked, faults = to_clicked(column)
    assert clicked.tolist() == [True, False]
    assert not faults


EVENTS = """uid,sku,at,event_type,amount
u,a,5,view,
u,b,6,click,
u,c,7,,3
v,a,8,buy,7
"""
RENAMED = {"user_column": "uid", "item_column": "sku", "timestamp_column": "at"}


@pytest.mark.parametrize(
    ("expression", "clicks", "unknown"),
    [
        ("event_type = 'click'", [False, True, False, False], 0),
        ("event_type IN ('click', 'buy') OR amount = '3'", [False, True, True, True], 0),
        ("CAST(NULLIF(amount, '') AS BIGINT) > 3", [False, False, False, True], 2),
        ("true", [True] * 4, 0),
    ],
)
def test_clicked_when(tmp_path: Path, expression: str, clicks: list[bool], unknown: int) -> None:
    store, report = prepared(tmp_path, EVENTS, clicked_when=expression, **RENAMED)
    assert store.column(0, "clicked").tolist() == clicks
    assert (report.clicks, report.unknown_clicks) == (sum(clicks), unknown)
    assert any("click-only" in note for note in report.notes) == all(clicks)


def test_optional_columns_are_taken_where_they_are_and_left_out_on_request(tmp_path: Path) -> None:
    text = "user_id,item_id,timestamp,clicked,session_id,kind\nu,a,1,0,s1,\nu,b,2,0,,buy\nu,c,3,1,s1,look\n"
    store, _ = prepared(tmp_path, text, action_column="kind")
    assert store.part(0).session.tolist() == [0, -1, 0]
    assert store.column(0, "action").tolist() == [0, 1, 2]
    assert store.manifest["action_names"] == ["buy", "look"]
    store, _ = prepared(tmp_path, text, session_column="")
    assert not store.manifest["has_sessions"]
    assert store.part(0).session.tolist() == [-1, -1, -1]


def test_ids_of_csv_are_text_unless_asked(tmp_path: Path) -> None:
    text = "user_id,item_id,timestamp,clicked\n007,5,1,1\n8,6,2,0\n"
    store, report = prepared(tmp_path, text)
    assert store.users.vocabulary.ids.to_pylist() == ["007", "8"]
    assert any("ids are text" in note for note in report.notes)
    store, report = prepared(tmp_path, text, id_type="integer")
    assert store.users.vocabulary.ids.to_pylist() == [7, 8]
    assert not any("ids are text" in note for note in report.notes)


def test_bad_rows_can_be_dropped_and_keep_their_number(tmp_path: Path) -> None:
    text = 'user_id,item_id,timestamp,clicked\n"u\n1",a,1,1\nu,b\n\n,c,3,0\nv,d,4,0\nv,e,x,0\n'
    _, report = prepared(tmp_path, text, on_bad_rows="drop")
    assert (report.rows_read, report.events) == (5, 2)
    rows = {reason: [bad["row"] for bad in found["first"]] for reason, found in report.bad_rows.items()}
    assert rows == {
        "the row has the wrong number of fields": [2],
        "user_id is null or empty": [3],  # blank lines are no rows, a line break in quotes ends none
        "timestamp is no 64-bit integer": [5],
    }


def test_broken_rows_are_numbered_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xdm.log.files.CSV_BLOCK", 64)
    lines = [f"{row},x" if row % 3 else f"{row}" for row in range(1, 101)]
    path = write_csv(tmp_path / "log.csv", "a,b\n" + "\n".join(lines) + "\n")
    whole: dict[int, str] = {}
    broken: dict[int, str] = {}
    for batch in CsvTable(path).batches(["a"]):
        whole |= {batch.row_number(place): value for place, value in enumerate(batch.table["a"].to_pylist())}
        broken |= dict(batch.broken)
    assert whole == {row: str(row) for row in range(1, 101) if row % 3}
    assert broken == {row: str(row) for row in range(1, 101) if not row % 3}


def test_files_of_a_folder_come_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.csv", "a.parquet", "c.csv.gz", ".hidden.csv", "_SUCCESS.csv", "notes.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in find_files([tmp_path])] == ["a.parquet", "b.csv", "c.csv.gz"]
    assert [path.name for path in find_files([tmp_path / "*.csv*"])] == ["b.csv", "c.csv.gz"]
    assert [path.name for path in find_files([tmp_path / "c.csv.gz", tmp_path / "a.parquet"])] == [
        "c.csv.gz",
        "a.parquet",
    ]


def test_small_exact_float32_times_are_times(tmp_path: Path) -> None:
    columns = {
        "user_id": ["u"], "item_id": ["i"], "timestamp": pa.array([2.0**24 - 1], pa.float32()), "clicked": [True]
    }  # fmt: skip
    store, _ = prepared(tmp_path, columns)
    assert store.column(0, "time").tolist() == [2**24 - 1]
