"""Rows on their way from the log to the parts of the store: each part's rows wait in a file of their own.

So that memory is bounded by a part and not by the log: of a whole log nothing but the distinct ids is held.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from xdm.log.ids import crc32_of_text


class UserParts:
    """The part of each user, ``crc32(text of user_id) % parts``, and the user's row among those of the part."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self._part = np.zeros(1 << 12, np.int32)
        self._row = np.zeros(1 << 12, np.int32)
        self.users = np.zeros(parts, np.int64)  # users of each part
        self._size = 0

    def add(self, ids: pa.Array) -> None:
        """Place new users, in order of their codes."""
        if not len(ids):
            return
        size = self._size + len(ids)
        while size > len(self._part):
            self._part = np.concatenate([self._part, np.zeros_like(self._part)])
            self._row = np.concatenate([self._row, np.zeros_like(self._row)])
        text = ids if pa.types.is_large_string(ids.type) else ids.cast(pa.string())
        self._part[self._size : size] = crc32_of_text(text) % np.uint32(self.parts)
        _place(self._part[self._size : size], self._row[self._size : size], self.users)
        self._size = size

    def of(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The parts and the rows of user codes: int32 ``[n]`` each."""
        return self._part[codes], self._row[codes]

    def order(self) -> np.ndarray:
        """User codes in the order of the store: part by part, by first appearance within a part."""
        return np.argsort(self._part[: self._size], kind="stable")


@njit(cache=True, nogil=True)
def _place(part, row, users):
    for user in range(len(part)):
        row[user] = users[part[user]]
        users[part[user]] += 1


class Spill:
    """Rows by part, in files under ``folder`` while the log is read: times, and int32 columns side by side."""

    def __init__(self, folder: Path, parts: int, columns: int) -> None:
        self.folder = folder
        self.parts = parts
        self.columns = columns
        folder.mkdir()

    def add(self, part: np.ndarray, time: np.ndarray, fields: list[np.ndarray]) -> None:
        """Append rows to their parts' files, in order."""
        table = np.empty((len(time), self.columns), np.int32)
        for column, values in enumerate(fields):
            table[:, column] = values
        bounds, time, table = _split_by_part(self.parts, part, time, table)
        for place in np.flatnonzero(np.diff(bounds)).tolist():
            rows = slice(bounds[place], bounds[place + 1])
            with self._file(place, "time").open("ab") as file:
                file.write(time[rows].data)
            with self._file(place, "fields").open("ab") as file:
                file.write(table[rows].data)

    def take(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        """The times int64 ``[n]`` and fields int32 ``[n, columns]`` of a part; its files are removed."""
        if not self._file(part, "time").exists():
            return np.zeros(0, np.int64), np.zeros((0, self.columns), np.int32)
        time = np.fromfile(self._file(part, "time"), np.int64)
        fields = np.fromfile(self._file(part, "fields"), np.int32).reshape(-1, self.columns)
        self._file(part, "time").unlink()
        self._file(part, "fields").unlink()
        return time, fields

    def _file(self, part: int, name: str) -> Path:
        return self.folder / f"{part:05d}.{name}"


@njit(cache=True, nogil=True)
def _split_by_part(parts, part, time, fields):
    """Rows grouped by part, stably: ``(bounds [parts + 1], time, fields)``."""
    bounds = np.zeros(parts + 1, np.int64)
    for row in range(len(part)):
        bounds[part[row] + 1] += 1
    for place in range(parts):
        bounds[place + 1] += bounds[place]
    to = bounds[:-1].copy()
    split_time = np.empty_like(time)
    split_fields = np.empty_like(fields)
    for row in range(len(part)):
        place = to[part[row]]
        to[part[row]] += 1
        split_time[place] = time[row]
        for column in range(fields.shape[1]):
            split_fields[place, column] = fields[row, column]
    return bounds, split_time, split_fields
