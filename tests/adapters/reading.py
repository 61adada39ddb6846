"""Reads a log source to its end, as a list of plain rows, and checks what every source promises."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from xdm.log.adapters import ADAPTERS
from xdm.log.source import LogSource, SourceBatch


def open_log(name: str, path: Path) -> LogSource:
    return ADAPTERS[name](path)


def rows_of(source: LogSource) -> list[dict[str, Any]]:
    batches = list(source.batches())
    assert len({batch.table.schema for batch in batches}) == 1
    assert_rows_are_numbered(batches)
    return [row for batch in batches for row in batch.table.to_pylist()]


def assert_rows_are_numbered(batches: list[SourceBatch]) -> None:
    seen: dict[str, int] = {}
    for batch in batches:
        assert batch.first_row == seen.get(batch.name, 0) + 1
        seen[batch.name] = seen.get(batch.name, 0) + batch.table.num_rows


def assert_size_is_near(source: LogSource, rows: int) -> None:
    """The size before reading is an estimate; progress never goes back and ends near 1."""
    assert source.size is not None
    assert abs(source.size - rows) <= max(1, rows // 20)
    fractions = [batch.fraction for batch in source.batches()]
    assert None not in fractions
    assert fractions == sorted(fractions)
    assert 0.9 < fractions[-1] <= 1


def assert_fingerprint(source: LogSource, root: Path, names: list[str]) -> None:
    expected = [
        {
            "name": name,
            "bytes": (root / name).stat().st_size,
            "sha256": hashlib.sha256((root / name).read_bytes()).hexdigest(),
        }
        for name in names
    ]
    assert source.fingerprint() == expected
