"""The store of any log is the one that plain Python makes of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.log.oracle import Exposure, expected_store, read_back, with_session_codes
from tests.log.writing import write_log
from xdm.log import files
from xdm.log.preparing import prepare_log
from xdm.log.settings import PrepareSettings
from xdm.log.store import Store

TEXT_IDS = [
    "a",
    "b",
    "7",
    "u-1",
    "ünïcode",
    "a longer id of 26 letters",
    "12345678",
    "1234567",
    "x,y",
    'q"',
    "two\nlines",
]
INTEGER_IDS = [0, 1, 7, 10, 2**31 - 1, 2**31, 2**62, 99]
TIMES = st.one_of(
    st.integers(1_700_000_000, 1_700_000_005),
    st.sampled_from([0, 1, 2**24 + 1, 2**31 - 1, 2**31, 2**31 + 1, 32_503_679_999]),
)


def exposures(ids: list, optional: bool) -> st.SearchStrategy[list[Exposure]]:
    none = st.none()
    row = st.builds(
        Exposure,
        user=st.sampled_from(ids),
        item=st.sampled_from(ids),
        time=TIMES,
        clicked=st.booleans(),
        session=st.none() | st.sampled_from(ids) if optional else none,
        action=st.none() | st.sampled_from(["buy", "cart"]) if optional else none,
        position=st.none() | st.integers(0, 3) if optional else none,
    )
    return st.lists(row, min_size=1, max_size=40)


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[list[Exposure]], bool, bool]:
    """A log in files, whether its ids are integers, and whether it has the optional columns."""
    integer, optional = draw(st.booleans()), draw(st.booleans())
    rows = draw(exposures(INTEGER_IDS if integer else TEXT_IDS, optional))
    rows += draw(st.lists(st.sampled_from(rows), max_size=6))  # duplicates
    if draw(st.booleans()):
        rows.sort(key=lambda row: row.time)
    cut = draw(st.integers(0, len(rows)))
    return [rows[:cut], rows[cut:]] if draw(st.booleans()) else [rows], integer, optional


@given(log=logs(), suffix=st.sampled_from([".parquet", ".csv", ".csv.gz"]), parts=st.integers(1, 4))
@settings(max_examples=120, deadline=None)
def test_store_equals_oracle(log: tuple[list[list[Exposure]], bool, bool], suffix: str, parts: int) -> None:
    pieces, integer, optional = log
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(files, "BATCH_ROWS", 7):
        for number, rows in enumerate(pieces):
            write_log(Path(folder) / f"log{number}{suffix}", rows, optional=optional, integer=integer)
        how = PrepareSettings(partitions=parts, id_type="integer" if integer else "text")
        report = prepare_log(folder, Path(folder) / "store", settings=how)
        found = read_back(Path(folder) / "store")
    if optional and integer and suffix != ".parquet":  # session ids of a CSV are text
        pieces = [[Exposure(**{**row.__dict__, "session": _text(row.session)}) for row in rows] for rows in pieces]
    rows = [row for piece in pieces for row in piece]
    wanted = expected_store(with_session_codes(rows), parts)
    assert found == wanted
    assert report.rows_read == len(rows) == report.events + report.duplicates


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def test_the_log_may_mix_formats(tmp_path: Path) -> None:
    rows = [Exposure("u", "a", 5, False), Exposure("u", "b", 3, True)]
    first = write_log(tmp_path / "1.parquet", rows[:1], optional=False, integer=False)
    second = write_log(tmp_path / "2.csv", rows[1:], optional=False, integer=False)
    prepare_log([first, second], tmp_path / "store")
    assert read_back(tmp_path / "store") == expected_store(rows, 1)


def test_a_second_with_very_many_rows_is_quick_and_exact(tmp_path: Path) -> None:
    many = 60_000
    positions = [row % (many // 2) for row in range(many)]
    table = pa.table(
        {
            "user_id": pa.array([1] * many),
            "item_id": pa.array([1] * many),
            "timestamp": pa.array([9] * many),
            "clicked": pa.array([False] * many),
            "position": pa.array(positions, pa.int32()),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    report = prepare_log(tmp_path / "log.parquet", tmp_path / "store")
    assert report.duplicates == many // 2
    assert Store(tmp_path / "store").column(0, "position").tolist() == positions[: many // 2]


def test_dwell_and_position_keep_their_values(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": ["u"] * 4, "item_id": list("abcd"), "timestamp": [1, 2, 3, 4], "clicked": [0, 1, 0, 1],
            "dwell": [1.5, None, 0.0, 30.25], "position": [1.0, 2.0, None, 3.0],
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "log.parquet")
    prepare_log(tmp_path / "log.parquet", tmp_path / "store")
    store = Store(tmp_path / "store")
    dwell = store.column(0, "dwell")
    assert dwell.dtype == "float32"
    assert [None if value != value else value for value in dwell.tolist()] == [1.5, None, 0.0, 30.25]
    assert store.column(0, "position").tolist() == [1, 2, -1, 3]
    assert store.column(0, "clicked").tolist() == [False, True, False, True]


def test_equal_logs_give_equal_bytes(tmp_path: Path) -> None:
    rows = [Exposure(f"u{row % 7}", f"i{row % 5}", row // 3, row % 4 == 0) for row in range(200)]
    log = write_log(tmp_path / "log.parquet", rows, optional=True, integer=False)
    for name in ("one", "two"):
        prepare_log(log, tmp_path / name, settings=PrepareSettings(partitions=3))
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_settings_say_one_thing_about_clicks() -> None:
    with pytest.raises(ValueError, match="give one of them"):
        PrepareSettings(clicked_when="true", clicked_column="c")
