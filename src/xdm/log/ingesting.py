"""The first pass over a log: read, checked, ids to codes, and every row to its part's file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xdm.log.ahead import read_ahead
from xdm.log.checking import BadRows, Checker, Rows
from xdm.log.ids import IdTable
from xdm.log.settings import PrepareSettings
from xdm.log.source import LogSource, SourceBatch
from xdm.log.spilling import Spill, UserParts
from xdm.schema import ACTION, ITEM_ID, NO_SESSION, SESSION_ID, USER_ID, LogError

ROWS_A_PART = 2_000_000
PARTS_OF_UNKNOWN_SIZE = 16
MAX_PARTS = 512
MAX_ACTIONS = 2**15 - 1

# (what is being done, how much of it, 0 to 1, rows so far)
Progress = Callable[[str, float, int], None]


class BadRowsError(LogError):
    """The log holds bad rows, ``bad`` among ``rows_read``; the message is a table of them."""

    def __init__(self, bad: BadRows, rows_read: int) -> None:
        self.bad, self.rows_read = bad, rows_read
        super().__init__(
            f"{len(bad):,} of {rows_read:,} rows are bad; nothing was written. Correct them, or drop them with "
            f"--on-bad-rows drop. By reason, with the first rows (the first data row is 1):\n{bad}"
        )


@dataclass
class ReadLog:
    """The log after the first pass: ids, counts, and its rows by part in ``spill``."""

    settings: PrepareSettings
    checker: Checker
    users: IdTable
    items: IdTable
    parts: UserParts
    spill: Spill
    extras: dict[str, IdTable | None]  # the optional columns that the log has, in the order of the spilled fields
    first: int
    last: int

    @property
    def n_parts(self) -> int:
        return self.parts.parts


def read_log(source: LogSource, folder: Path, settings: PrepareSettings, tell: Progress) -> ReadLog:
    """Read, check and spill the whole log.

    Raises:
        LogError: see `prepare_log`.
    """
    checker = Checker(settings)
    n_parts = settings.partitions or _parts_for(source.size)
    read: ReadLog | None = None
    with ThreadPoolExecutor(2) as pool:
        for batch, rows in read_ahead(_checked(source, checker)):
            if settings.on_bad_rows == "drop" or not checker.bad:
                if read is None:
                    read = _begin(rows, checker, folder, settings, n_parts)
                _spill(read, rows, pool)
            tell("reading", _fraction(batch, source, checker), checker.rows_read)
    if checker.bad and settings.on_bad_rows == "fail":
        raise BadRowsError(checker.bad, checker.rows_read)
    if read is None or not len(read.users):
        why = (
            f"none of its {checker.rows_read:,} rows is good:\n{checker.bad}" if checker.rows_read else "it has no rows"
        )
        raise LogError(f"the log is empty: {why}")
    return read


def _checked(source: LogSource, checker: Checker) -> Iterator[tuple[SourceBatch, Rows]]:
    for batch in source.batches():
        yield batch, checker.check(batch)


def _parts_for(rows: int | None) -> int:
    if rows is None:
        return PARTS_OF_UNKNOWN_SIZE
    return min(MAX_PARTS, max(1, math.ceil(rows / ROWS_A_PART)))


def _fraction(batch: SourceBatch, source: LogSource, checker: Checker) -> float:
    if batch.fraction is not None:
        return batch.fraction
    return min(1.0, checker.rows_read / source.size) if source.size else 0.0


def _begin(rows: Rows, checker: Checker, folder: Path, settings: PrepareSettings, n_parts: int) -> ReadLog:
    """The tables and files that the first batch's columns call for."""
    extras: dict[str, IdTable | None] = {}
    if rows.session is not None:
        extras["session"] = IdTable(integer=checker.is_integer(SESSION_ID))
    if rows.action is not None:
        extras["action"] = IdTable(integer=checker.is_integer(ACTION))
    extras.update({name: None for name in ("position", "dwell") if getattr(rows, name) is not None})
    return ReadLog(
        settings=settings,
        checker=checker,
        users=IdTable(integer=checker.is_integer(USER_ID)),
        items=IdTable(integer=checker.is_integer(ITEM_ID)),
        parts=UserParts(n_parts),
        spill=Spill(folder, n_parts, 3 + len(extras)),
        extras=extras,
        first=2**63 - 1,
        last=-1,
    )


def _spill(read: ReadLog, rows: Rows, pool: ThreadPoolExecutor) -> None:
    if not len(rows):
        return
    item = pool.submit(read.items.encode, rows.item)
    part, user = _placed_users(read, rows.user)
    extras = [_extra_codes(name, table, getattr(rows, name)) for name, table in read.extras.items()]
    read.spill.add(part, rows.time, [user, item.result(), rows.clicked, *extras])
    read.first = min(read.first, int(rows.time.min()))
    read.last = max(read.last, int(rows.time.max()))


def _placed_users(read: ReadLog, users: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    codes = read.users.encode(users)
    read.parts.add(read.users.newest())
    return read.parts.of(codes)


def _extra_codes(name: str, table: IdTable | None, values: Any) -> np.ndarray:
    """An optional column as int32 ``[n]``: codes of names, or the bytes of numbers."""
    if table is None:
        return values.view(np.int32)
    codes = np.full(len(values), NO_SESSION, np.int32)
    known = values.is_valid().to_numpy(zero_copy_only=False)
    codes[known] = table.encode(values.drop_null())
    if name == "action":
        if len(table) > MAX_ACTIONS:
            raise LogError(
                f"column '{ACTION}' has more than {MAX_ACTIONS:,} distinct values; it is to name kinds of action"
            )
        codes += 1  # 0 is none
    return codes
