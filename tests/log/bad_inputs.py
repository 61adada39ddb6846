"""The table of bad inputs: what is written, what is asked, and what the message must say."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HEADER = "user_id,item_id,timestamp,clicked\n"
GOOD = "u,i,1700000000,true\n"


def csv(text: str, name: str = "log.csv") -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def rows(*lines: str) -> Callable[[Path], None]:
    """A CSV log with a good row and then ``lines``."""
    return csv(HEADER + GOOD + "".join(line + "\n" for line in lines))


def parquet(name: str = "log.parquet", **columns: Any) -> Callable[[Path], None]:
    """A Parquet log of two rows in which some columns are replaced."""
    good = {
        "user_id": pa.array(["u", "v"]),
        "item_id": pa.array(["i", "j"]),
        "timestamp": pa.array([1_700_000_000, 1_700_000_001]),
        "clicked": pa.array([True, False]),
    }
    table = pa.table({name: column for name, column in (good | columns).items() if column is not None})
    return lambda folder: pq.write_table(table, folder / name)


def all_of(*writers: Callable[[Path], None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for writer in writers:
            writer(folder)

    return write


def damaged(name: str, keep: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / name
        if name.endswith(".parquet"):
            parquet(name)(folder)
        else:
            path.write_bytes(gzip.compress((HEADER + GOOD * 5000).encode()))
        path.write_bytes(path.read_bytes()[:keep])

    return write


def bytes_of(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


@dataclass(frozen=True)
class Bad:
    name: str
    write: Callable[[Path], None]
    says: tuple[str, ...]  # parts of the message
    log: tuple[str, ...] = ("log.csv",)
    options: tuple[str, ...] = ()


ITEMS = ("--items", "items.csv")
PARQUET = ("log.parquet",)

CASES = [
    # --- files ---
    Bad("no such file", lambda folder: None, ("log.csv does not exist",)),
    Bad("no file matches", lambda folder: None, ("no file matches", "*.parquet"), ("*.parquet",)),
    Bad("folder without a log", csv("x", "notes.txt"), ("holds no .parquet or .csv",), (".",)),
    Bad("only hidden files", csv(HEADER + GOOD, "_log.csv"), ("holds no .parquet or .csv",), (".",)),
    Bad("unknown suffix", csv(HEADER + GOOD, "log.txt"), ("log.txt is none of .parquet, .csv, .csv.gz",), ("log.txt",)),
    Bad("named twice", rows(), ("log.csv is named twice",), ("log.csv", "*.csv")),
    Bad("empty file", csv(""), ("log.csv cannot be read as CSV", "Empty")),
    Bad("header only", csv(HEADER), ("the log is empty: it has no rows",)),
    Bad(
        "empty Parquet",
        parquet(
            **{
                name: pa.array([], kind)
                for name, kind in (
                    ("user_id", pa.string()),
                    ("item_id", pa.string()),
                    ("timestamp", pa.int64()),
                    ("clicked", pa.bool_()),
                )
            }
        ),
        ("the log is empty: it has no rows",),
        PARQUET,
    ),
    Bad(
        "no Parquet at all", bytes_of("log.parquet", b"no parquet"), ("log.parquet cannot be read as Parquet",), PARQUET
    ),
    Bad("cut Parquet", damaged("log.parquet", 200), ("log.parquet cannot be read as Parquet",), PARQUET),
    Bad("cut gzip", damaged("log.csv.gz", 60), ("log.csv.gz cannot be read as CSV",), ("log.csv.gz",)),
    Bad("no gzip at all", csv(HEADER + GOOD, "log.csv.gz"), ("log.csv.gz cannot be read as CSV",), ("log.csv.gz",)),
    Bad("open quote", csv(HEADER + GOOD + 'u,"i,5,1\n' + GOOD), ("row 2: a quote is opened and never closed",)),
    # --- columns ---
    Bad(
        "missing column",
        csv("user_id,item_id,time_stamp,clicked\n" + GOOD),
        (
            "log.csv has no column 'timestamp'",
            "user_id, item_id, time_stamp, clicked",
            "Did you mean 'time_stamp'?",
            "--timestamp-column",
        ),
    ),
    Bad("missing clicked", parquet(clicked=None), ("has no column 'clicked'", "--clicked-when"), PARQUET),
    Bad(
        "named column missing",
        rows(),
        ("no column 'uid'", "Did you mean 'user_id'?", "--user-column"),
        options=("--user-column", "uid"),
    ),
    Bad(
        "named optional column missing",
        rows(),
        ("no column 'visit'", "--session-column"),
        options=("--session-column", "visit"),
    ),
    Bad("column twice", csv("user_id,item_id,timestamp,clicked,item_id\nu,i,1,1,j\n"), ("has 2 columns 'item_id'",)),
    Bad("semicolons", csv("user_id;item_id;timestamp;clicked\nu;i;1;1\n"), ("no column 'user_id'", "separated by ';'")),
    Bad(
        "float ids",
        parquet(item_id=pa.array([1.0, 2.0])),
        ("log.parquet, column 'item_id' holds double", "ids are text or integers"),
        PARQUET,
    ),
    Bad("boolean ids", parquet(user_id=pa.array([True, False])), ("column 'user_id' holds bool",), PARQUET),
    Bad(
        "float32 times",
        parquet(timestamp=pa.array([1.7e9, 1.7e9], pa.float32())),
        ("column 'timestamp' holds float", "cannot hold a second", "int64"),
        PARQUET,
    ),
    Bad(
        "float nanoseconds",
        parquet(timestamp=pa.array([1.7e18, 1.7e18])),
        ("cannot hold a nanosecond",),
        PARQUET,
        ("--time-unit", "ns"),
    ),
    Bad("boolean times", parquet(timestamp=pa.array([True, False])), ("column 'timestamp' holds bool",), PARQUET),
    Bad(
        "typed times in a unit",
        parquet(timestamp=pa.array([1, 2], pa.timestamp("ms"))),
        ("has a unit of its own",),
        PARQUET,
        ("--time-unit", "ms"),
    ),
    Bad(
        "integers as datetime",
        parquet(),
        ("--time-unit datetime is for ISO-8601",),
        PARQUET,
        ("--time-unit", "datetime"),
    ),
    Bad(
        "list as clicked",
        parquet(clicked=pa.array([[1], []])),
        ("column 'clicked' holds list", "--clicked-when"),
        PARQUET,
    ),
    Bad("float sessions", parquet(session_id=pa.array([1.0, 2.0])), ("column 'session_id' holds double",), PARQUET),
    Bad(
        "files with other columns",
        all_of(parquet("a.parquet", action=pa.array(["x", "y"])), parquet("b.parquet")),
        ("a.parquet has a column 'action' and", "b.parquet has none", "--action-column ''"),
        (".",),
    ),
    Bad(
        "files with other types",
        all_of(parquet("a.parquet"), parquet("b.parquet", user_id=pa.array([1, 2]))),
        ("column 'user_id' is string in", "a.parquet", "int64 in", "b.parquet", "--id-type"),
        (".",),
    ),
    Bad(
        "files of typed and untyped ids",
        all_of(parquet("a.parquet", user_id=pa.array([1, 2])), csv(HEADER + GOOD, "b.csv")),
        ("column 'user_id' is int64 in", "string in", "--id-type"),
        (".",),
    ),
    # --- rows ---
    Bad(
        "null id",
        parquet(user_id=pa.array(["u", None])),
        ("1 of 2 rows are bad", "user_id is null or empty", "log.parquet, row 2: None"),
        PARQUET,
    ),
    Bad("empty id", rows("u,,1,0"), ("item_id is null or empty", "log.csv, row 2: ''")),
    Bad("negative id", parquet(item_id=pa.array([5, -1])), ("item_id is negative", "row 2: -1"), PARQUET),
    Bad("negative id as text", rows("-5,i,1,0"), ("user_id is negative", "row 2: '-5'")),
    Bad(
        "id beyond int64",
        parquet(user_id=pa.array([1, 2**64 - 1], pa.uint64())),
        ("user_id is beyond the 64-bit integers", "row 2: 18446744073709551615"),
        PARQUET,
    ),
    Bad(
        "id that is no integer",
        rows(),
        ("user_id is no 64-bit integer", "row 1: 'u'"),
        options=("--id-type", "integer"),
    ),
    Bad("null time", parquet(timestamp=pa.array([1, None])), ("timestamp is null or empty", "row 2"), PARQUET),
    Bad("negative time", rows("u,i,-5,0"), ("timestamp is negative (before 1970)", "row 2: '-5'")),
    Bad(
        "milliseconds",
        rows("u,i,1700000000000,0"),
        ("timestamp looks like milliseconds: pass --time-unit ms", "row 2: '1700000000000'"),
    ),
    Bad(
        "microseconds",
        parquet(timestamp=pa.array([1, 1_700_000_000_000_000])),
        ("looks like microseconds: pass --time-unit us",),
        PARQUET,
    ),
    Bad(
        "nanoseconds",
        parquet(timestamp=pa.array([1, 1_700_000_000_000_000_000])),
        ("looks like nanoseconds: pass --time-unit ns",),
        PARQUET,
    ),
    Bad(
        "after the year 3000",
        rows("u,i,99999999999999,0"),
        ("timestamp is after the year 3000",),
        options=("--time-unit", "ms"),
    ),
    Bad("date as text", rows("u,i,2024-01-31 10:00:00,0"), ("looks like a date: pass --time-unit datetime", "row 2")),
    Bad("word as time", rows("u,i,soon,0"), ("timestamp is no 64-bit integer", "row 2: 'soon'")),
    Bad("hexadecimal time", rows("u,i,0x10,0"), ("timestamp is no 64-bit integer", "row 2: '0x10'")),
    Bad(
        "no such day",
        csv(HEADER + "u,i,2024-01-31,0\nu,i,2024-02-31,0\n"),
        ("timestamp is no ISO-8601", "row 2: '2024-02-31'"),
        options=("--time-unit", "datetime"),
    ),
    Bad(
        "infinite time", parquet(timestamp=pa.array([1.0, np.inf])), ("timestamp is not finite", "row 2: inf"), PARQUET
    ),
    Bad("time NaN", parquet(timestamp=pa.array([1.0, np.nan])), ("timestamp is not finite", "row 2: nan"), PARQUET),
    Bad(
        "clicked is 2",
        parquet(clicked=pa.array([1, 2])),
        ("clicked is no boolean", "--clicked-when", "row 2: 2"),
        PARQUET,
    ),
    Bad("clicked is a word", rows("u,i,1,yes"), ("clicked is no boolean", "row 2: 'yes'")),
    Bad("clicked is null", parquet(clicked=pa.array([True, None])), ("clicked is null or empty", "row 2"), PARQUET),
    Bad("too few fields", rows("u,i,1"), ("the row has the wrong number of fields", "row 2: 'u,i,1'")),
    Bad("too many fields", rows("u,i,1,0,5"), ("the row has the wrong number of fields", "row 2")),
    Bad(
        "not UTF-8",
        bytes_of("log.csv", HEADER.encode() + GOOD.encode() + b"\xff\xfe,i,1,0\n"),
        ("user_id is not UTF-8 text", "row 2"),
    ),
    Bad(
        "bad position",
        csv(HEADER[:-1] + ",position\nu,i,1,0,3\nu,i,2,0,-1\n"),
        ("position is no whole number", "row 2: '-1'"),
    ),
    Bad(
        "bad dwell",
        csv(HEADER[:-1] + ",dwell\nu,i,1,0,3\nu,i,2,0,-1\n"),
        ("dwell is negative or infinite", "row 2: '-1'"),
    ),
    Bad(
        "nothing left",
        csv(HEADER + "u,i,-1,0\n"),
        ("none of its 1 rows is good", "timestamp is negative"),
        options=("--on-bad-rows", "drop"),
    ),
    Bad(
        "the user's name of a column",
        csv("uid,item_id,timestamp,clicked\n,i,1,0\n"),
        ("user_id (column 'uid') is null or empty",),
        options=("--user-column", "uid"),
    ),
    # --- what counts as a click ---
    Bad(
        "no SQL", rows(), ("--clicked-when 'clicked =' is no SQL expression",), options=("--clicked-when", "clicked =")
    ),
    Bad("no condition", rows(), ("gives String, not true or false",), options=("--clicked-when", "clicked")),
    Bad(
        "unknown column",
        rows(),
        ("has no column 'clickd', which --clicked-when names", "Did you mean 'clicked'?"),
        options=("--clicked-when", "clickd = '1'"),
    ),
    Bad(
        "text against number",
        rows(),
        ("cannot be evaluated", "the columns of a CSV file are text"),
        options=("--clicked-when", "timestamp > 5"),
    ),
    Bad(
        "looks at other rows",
        csv(HEADER + "u,i,1,0\nu,i,2,1\n"),
        ("depends on other rows",),
        options=("--clicked-when", "timestamp = MAX(timestamp)"),
    ),
    Bad(
        "clicks said twice",
        rows(),
        ("give one of them",),
        options=("--clicked-when", "true", "--clicked-column", "clicked"),
    ),
    # --- tables of items and users ---
    Bad("no items file", rows(), ("items.csv does not exist",), options=ITEMS),
    Bad(
        "items without id",
        all_of(rows(), csv("id,category\ni,c\n", "items.csv")),
        ("items.csv has no column 'item_id'", "id, category"),
        options=ITEMS,
    ),
    Bad(
        "item twice",
        all_of(rows(), csv("item_id,category\ni,c\ni,d\n", "items.csv")),
        ("more than one row for 1 ids: 'i'",),
        options=ITEMS,
    ),
    Bad(
        "item without id",
        all_of(rows(), csv("item_id,category\ni,c\n,d\n", "items.csv")),
        ("items.csv, row 2: item_id is null or empty",),
        options=ITEMS,
    ),
    Bad(
        "ragged items",
        all_of(rows(), csv("item_id,category\ni\n", "items.csv")),
        ("items.csv, row 1: the wrong number of fields",),
        options=ITEMS,
    ),
    Bad(
        "unknown feature",
        all_of(rows(), csv("item_id,category\ni,c\n", "items.csv")),
        ("has no feature 'brand'", "item_id, category"),
        options=(*ITEMS, "--items-columns", "brand"),
    ),
    Bad("features without a table", rows(), ("there is no items table",), options=("--items-columns", "brand")),
    Bad(
        "float user ids",
        all_of(rows(), lambda folder: pq.write_table(pa.table({"user_id": [1.5]}), folder / "users.parquet")),
        ("users.parquet, column 'user_id' holds double",),
        options=("--users", "users.parquet"),
    ),
    Bad(
        "items in many files",
        all_of(rows(), csv("item_id\ni\n", "a.csv"), csv("item_id\nj\n", "b.csv")),
        ("[ab].csv means 2 files", "one Parquet or CSV file"),
        options=("--items", "[ab].csv"),
    ),
    # --- wrong use ---
    Bad(
        "unknown adapter",
        rows(),
        ("there is no adapter 'mindd'", "Did you mean 'mind'?"),
        options=("--adapter", "mindd"),
    ),
    Bad(
        "adapter and columns",
        rows(),
        ("an adapter knows its columns; leave out --user-column",),
        options=("--adapter", "mind", "--user-column", "u"),
    ),
    Bad("no parts", rows(), ("0 is not in the range",), options=("--partitions", "0")),
]
