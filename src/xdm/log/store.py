"""The event store: the prepared log, user-sorted, columnar, memory-mapped and read-only.

Layout of a store folder::

    manifest.json                 format version, counts, input fingerprint, settings, what was dropped and why
    items.arrow                   item_id, clicks, exposures and one dictionary column per feature; row i is index i + 1
    users.arrow                   user_id and one dictionary column per profile field; row u is user index u + 1
    parts/00000/offsets.npy       [users of the part + 1] int64: where each user's events start
    parts/00000/item.npy          [events] int32 item index
    parts/00000/time.npy          [events] int64 seconds; rising within a user, ties in the log's order
    parts/00000/clicked.npy       [events] bool
    parts/00000/session.npy       [events] int32 code of session_id, -1 for none; only where the log has sessions
    parts/00000/action.npy        [events] int16 code (names in the manifest), position.npy int32, dwell.npy float32

Users of part 0 come first in ``users.arrow``, then those of part 1, and so on. A user's part is
``crc32(text of user_id) % parts``, so that any part can be built, read or rebuilt alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xdm.folders import MANIFEST
from xdm.schema import (
    CLICKED_DTYPE,
    ITEM_DTYPE,
    ITEM_ID,
    NO_SESSION,
    PADDING,
    SESSION_DTYPE,
    TIME_DTYPE,
    USER_ID,
    StoreError,
)
from xdm.vocabulary import Vocabulary

FORMAT = "xdm-event-store"
FORMAT_VERSION = 1
NEEDED = ("format_version", "parts", "users_per_part", "first_timestamp", "last_timestamp", "has_sessions")  # of a manifest


@dataclass(frozen=True)
class Events:
    """Events of one user or of many, sorted by user and time: the kernel's input.

    ``item`` int32 ``[n]``, ``time`` int64 ``[n]`` seconds, ``clicked`` bool ``[n]``, ``session`` int32 ``[n]``
    (`NO_SESSION` where the log names none), ``offsets`` int64 ``[users + 1]``.
    """

    item: np.ndarray
    time: np.ndarray
    clicked: np.ndarray
    session: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of_one_user(
        cls, item: Any, time: Any, clicked: Any, session: Any | None = None, *, sort: bool = False
    ) -> Events:
        """Events of a single user; ``sort`` puts them in order of time, ties as given."""
        item, time = np.asarray(item, ITEM_DTYPE), np.asarray(time, TIME_DTYPE)
        clicked = np.asarray(clicked, CLICKED_DTYPE)
        session = np.full(len(item), NO_SESSION, SESSION_DTYPE) if session is None else np.asarray(session, SESSION_DTYPE)
        if sort:
            order = np.argsort(time, kind="stable")
            item, time, clicked, session = item[order], time[order], clicked[order], session[order]
        return cls(item, time, clicked, session, np.array([0, len(item)], np.int64))

    @classmethod
    def joined(cls, events: Sequence[Events]) -> Events:
        """The users of several collections, one after the other."""
        if len(events) == 1:
            return events[0]
        columns = {name: np.concatenate([getattr(one, name) for one in events]) for name in ("item", "time", "clicked", "session")}
        lengths = np.concatenate([np.diff(one.offsets) for one in events])
        return cls(**columns, offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    def __len__(self) -> int:
        return int(self.offsets[-1] - self.offsets[0])

    def of_user(self, row: int) -> Events:
        """The events of the ``row``-th user (from 0), as views."""
        span = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return Events(
            self.item[span], self.time[span], self.clicked[span], self.session[span],
            np.array([0, span.stop - span.start], np.int64),
        )  # fmt: skip

    def in_catalogue(self, mapping: np.ndarray) -> Events:
        """These events with ``item`` replaced by ``mapping[item]``; events whose item maps to 0 (unknown) are left out.

        The one rule for items that a model does not know, in training, evaluation and live service alike.
        """
        item = mapping[self.item]
        known = item != PADDING
        if known.all():
            return replace(self, item=item)
        before = np.concatenate([[0], np.cumsum(known)]).astype(np.int64)
        return Events(item[known], self.time[known], self.clicked[known], self.session[known], before[self.offsets])


@dataclass(frozen=True)
class Feature:
    """One categorical column of items or users: ``codes[index]`` is 0 for none, else 1 + the row in ``values``."""

    name: str
    codes: np.ndarray  # [rows + 1] int32
    values: pa.Array

    def external(self, codes: np.ndarray) -> list[Any]:
        """The values of ``codes`` (all >= 1) as Python values."""
        return self.values.take(pa.array(np.asarray(codes, np.int64) - 1)).to_pylist()

    @property
    def size(self) -> int:
        """The number of distinct values, without the 0 for none."""
        return len(self.values)


class EntityTable:
    """Items or users: their ids and categorical features, from an Arrow IPC file (memory-mapped)."""

    def __init__(self, table: pa.Table, id_column: str) -> None:
        self.table = table
        self.vocabulary = Vocabulary(table[id_column])

    @classmethod
    def read(cls, path: Path, id_column: str) -> EntityTable:
        """The table in the file ``path``.

        Raises:
            StoreError: the file is missing, damaged or without the column ``id_column``.
        """
        try:
            with pa.memory_map(str(path)) as source:
                return cls(pa.ipc.open_file(source).read_all(), id_column)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise _unreadable(path, error) from None

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def features(self) -> dict[str, Feature]:
        found = {}
        for name in self.table.column_names:
            column = self.table[name]
            if pa.types.is_dictionary(column.type):
                array = column.combine_chunks()
                array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
                codes = np.zeros(len(array) + 1, np.int32)
                codes[1:] = array.indices.fill_null(-1).to_numpy(zero_copy_only=False) + 1
                found[name] = Feature(name, codes, array.dictionary)
        return found

    def counts(self, name: str) -> np.ndarray:
        """A count column (``clicks``, ``exposures``) by index: ``[rows + 1]`` int64, 0 at index 0."""
        return np.concatenate([[0], self.table[name].to_numpy()]).astype(np.int64)


def write_entities(path: Path, table: pa.Table) -> None:
    """Write an items or users table as an Arrow IPC file; dictionary columns become one chunk each."""
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table.combine_chunks())


class Store:
    """A prepared log, opened for reading. Columns are memory-mapped: opening costs nothing, reading what is touched."""

    def __init__(self, path: Path | str) -> None:
        """Open the store at ``path``.

        Raises:
            StoreError: ``path`` holds no store, or one of a format that this version does not read.
        """
        self.path = Path(path)
        self.manifest = read_manifest(self.path)

    @cached_property
    def items(self) -> EntityTable:
        return EntityTable.read(self.path / "items.arrow", ITEM_ID)

    @cached_property
    def users(self) -> EntityTable:
        return EntityTable.read(self.path / "users.arrow", USER_ID)

    @property
    def n_parts(self) -> int:
        return int(self.manifest["parts"])

    @property
    def time_range(self) -> tuple[int, int]:
        """The first and the last second of the log."""
        return int(self.manifest["first_timestamp"]), int(self.manifest["last_timestamp"])

    @cached_property
    def first_users(self) -> np.ndarray:
        """``[parts + 1]`` int64: the user row (from 0) at which each part starts."""
        return np.concatenate([[0], np.cumsum(self.manifest["users_per_part"])]).astype(np.int64)

    def column(self, part: int, name: str) -> np.ndarray:
        """A memory-mapped column of one part.

        Raises:
            StoreError: its file is missing or damaged.
        """
        path = self.part_folder(part) / f"{name}.npy"
        try:
            return np.lib.format.open_memmap(path, mode="r")
        except Exception as error:  # of a damaged header numpy's parser raises a TokenError, a SyntaxError, a TypeError …
            raise _unreadable(path, error) from None

    def part_folder(self, part: int) -> Path:
        return self.path / "parts" / f"{part:05d}"

    def part(self, part: int) -> Events:
        """The events of all users of one part, as memory-mapped columns."""
        item = self.column(part, "item")
        if self.manifest["has_sessions"]:
            session = self.column(part, "session")
        else:
            session = np.broadcast_to(np.array(NO_SESSION, SESSION_DTYPE), item.shape)
        return Events(item, self.column(part, "time"), self.column(part, "clicked"), session, self.column(part, "offsets"))

    def parts(self) -> Iterator[tuple[int, Events]]:
        """``(first user row of the part, its events)`` for each part."""
        for part in range(self.n_parts):
            yield int(self.first_users[part]), self.part(part)

    def user_events(self, user: int) -> Events:
        """The events of one user by index (from 1)."""
        row = user - 1
        part = int(np.searchsorted(self.first_users, row, side="right")) - 1
        return self.part(part).of_user(row - int(self.first_users[part]))


def _unreadable(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path} cannot be read ({error}); copy the whole folder again, or make it anew")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the store at ``path``, checked for kind and format version."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except FileNotFoundError:
        raise StoreError(f"{path} holds no {MANIFEST}: it is no event store; make one with: xdm prepare LOG --out {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise StoreError(f"{path / MANIFEST} cannot be read ({error}); prepare the store again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise StoreError(f"{path} is no event store (its manifest names the format {found!r})")
    lacking = [key for key in NEEDED if key not in manifest]
    if lacking:
        raise StoreError(f"{path / MANIFEST} lacks {', '.join(lacking)}; prepare the store again, or copy the whole of it again")
    if manifest["format_version"] > FORMAT_VERSION:
        raise StoreError(
            f"{path} has store format {manifest['format_version']}, newer than {FORMAT_VERSION}, the newest that this "
            "version of xdm reads; upgrade xdm, or prepare the log again with this version"
        )
    return manifest
