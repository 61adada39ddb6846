"""Logs as files, in every format that is read."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.log.oracle import Exposure

COLUMNS = {"user": "user_id", "item": "item_id", "time": "timestamp", "clicked": "clicked"}
OPTIONAL = {"session": "session_id", "action": "action", "position": "position"}


def write_log(path: Path, rows: Sequence[Exposure], *, optional: bool, integer: bool) -> Path:
    """Write ``rows`` as the path's suffix says; ``optional`` adds the optional columns."""
    names = COLUMNS | (OPTIONAL if optional else {})
    if path.suffix == ".parquet":
        kinds = {"time": pa.int64(), "clicked": pa.bool_(), "position": pa.int32(), "action": pa.string()}
        ids = pa.int64() if integer else pa.string()
        columns = {
            name: pa.array([getattr(row, field) for row in rows], kinds.get(field, ids))
            for field, name in names.items()
        }
        pq.write_table(pa.table(columns), path, row_group_size=5)
        return path
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names.values())
        writer.writerows(
            ["" if getattr(row, field) is None else getattr(row, field) for field in names] for row in rows
        )
    return path


def write_csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
