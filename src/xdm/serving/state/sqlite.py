"""The state in one SQLite file: acknowledged means on disk. Threads and processes of one machine share it."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xdm.schema import InternalError
from xdm.serving.errors import ConflictError, StateUnavailableError
from xdm.serving.state import pruning
from xdm.serving.state.sqlite_file import SqliteFile
from xdm.serving.state.types import (
    NEWEST_EVENTS,
    ActiveModel,
    Appended,
    Durability,
    LiveEvent,
    Pruned,
    SeenEvent,
    UserEvents,
    any_item,
    conflict,
    item_from_json,
    item_to_json,
    same_content,
)

if TYPE_CHECKING:
    from xdm.behaviours.rules import BehaviourRules
    from xdm.retrieval.changes import ItemChange

EVENTS_A_TRANSACTION = 5_000  # of a user who is forgotten

INSERT = "INSERT INTO events (event, user, item_id, timestamp, clicked, session_id) VALUES (?, ?, ?, ?, ?, ?)"
SELECT_ONE = "SELECT event, user, item_id, timestamp, clicked, session_id FROM events WHERE event = ?"
NEWEST = "FROM events WHERE user = ? AND timestamp < ? ORDER BY timestamp DESC, seq DESC LIMIT ?"
SELECT_NEWEST = f"SELECT item_id, timestamp, clicked, session_id {NEWEST}"
SELECT_NEWEST_NUMBERS = f"SELECT seq {NEWEST}"
SELECT_OLDER = "SELECT seq FROM events WHERE user = ? AND (timestamp, seq) < (?, ?) ORDER BY timestamp, seq LIMIT ?"
SELECT_NEXT_USER = "SELECT user FROM events WHERE user > ? ORDER BY user LIMIT 1"
SELECT_FORGOTTEN = "SELECT 1 FROM forgotten WHERE user = ?"
# Every insert takes the next number and a batch taken back returns its own, so that no row needs to be counted.
SELECT_COUNT = "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0) - value FROM facts WHERE name = 'deleted'"
DELETE_OF_USER = "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE user = ? AND seq <= ? LIMIT ?)"

Row = tuple[bytes, bytes, str | int, int, int, str | int | None]


class _Batch:
    """A batch that waits to be written, and what became of it."""

    def __init__(self, events: Sequence[LiveEvent], rows: list[Row]) -> None:
        self.events = events
        self.rows = rows
        self.outcome: Appended | Exception | None = None


class SqliteState:
    """A `State` in one file; see there.

    ``durability`` "full" flushes every commit to disk before it is acknowledged; "normal" leaves the flush to the
    operating system, so that a power cut (not a crash of the process) may lose the last moments.
    """

    def __init__(self, path: Path | str, *, durability: Durability = "full") -> None:
        """Open the state file at ``path``, or make it.

        Raises:
            StateError: the file cannot be opened, or holds something else.
        """
        self.path = Path(path)
        self.describe = str(path)
        self._file = SqliteFile(self.path, {"full": "FULL", "normal": "NORMAL"}[durability])
        self._hashes = self._file.hashes
        self._waiting: list[_Batch] = []
        self._waiting_lock = threading.Lock()
        self._commit_lock = threading.Lock()

    # --- events -----------------------------------------------------------------------------------------------------
    def append(self, events: Sequence[LiveEvent]) -> Appended:
        """Store a batch: all of it or nothing. When this returns, the batch is on disk.

        Batches that arrive while another is being flushed share the next flush: the first thread to get the lock
        commits for all that wait.

        Raises:
            ConflictError: an event_id is stored already with other content; nothing of the batch is stored.
            StateUnavailableError: the file could not be written; the batch may be sent again.
        """
        batch = _Batch(events, [self._as_row(event) for event in events])
        with self._waiting_lock:
            self._waiting.append(batch)
        with self._commit_lock:
            if batch.outcome is None:
                with self._waiting_lock:
                    batches, self._waiting = self._waiting, []
                self._commit(batches)
        if isinstance(batch.outcome, Appended):
            return batch.outcome
        raise batch.outcome or InternalError("a batch of events was neither written nor refused")

    def _commit(self, batches: list[_Batch]) -> None:
        outcomes: Sequence[Appended | Exception]
        try:
            outcomes = self._file.write(lambda writer: [_insert(writer, batch) for batch in batches])
        except Exception as error:  # whatever it is, every waiting thread must hear of it
            reason = str(error) if isinstance(error, StateUnavailableError) else f"{self.path}: {error!r}"
            outcomes = [StateUnavailableError(reason) for _ in batches]
        for batch, outcome in zip(batches, outcomes, strict=True):
            batch.outcome = outcome

    def _as_row(self, event: LiveEvent) -> Row:
        name = os.urandom(16) if event.event_id is None else self._hashes.event(event.event_id)
        user = self._hashes.user(event.user_id)
        return name, user, event.item_id, event.timestamp, int(event.clicked), event.session_id

    def events_of(self, user_id: str | int, *, before: int, newest: int = NEWEST_EVENTS) -> UserEvents:
        """The user's ``newest`` events before the second ``before``, oldest first; ties by arrival."""
        with self._file.reading() as reader:
            rows = reader.execute(SELECT_NEWEST, (self._hashes.user(user_id), before, newest)).fetchall()
            forgotten = reader.execute(SELECT_FORGOTTEN, (self._hashes.forgotten(user_id),)).fetchone()
        return UserEvents(_as_events(rows), forgotten is not None)

    def count(self) -> int:
        """How many events are held."""
        with self._file.reading() as reader:
            return reader.execute(SELECT_COUNT).fetchone()[0]

    # --- deletion ---------------------------------------------------------------------------------------------------
    def forget(self, user_id: str | int) -> int:
        """Delete a user's events; when this returns, neither they nor the user are in any of the files.

        SQLite overwrites what is deleted, but may have left a copy of a row where it once moved rows from page to page.
        So the file is searched, and written anew where a copy is found; meanwhile other writers wait.

        Raises:
            StateUnavailableError: not all could be done; ask again.
        """
        user = self._hashes.user(user_id)
        last = self._file.write(lambda writer: self._mark_forgotten(writer, user_id))
        deleted = 0
        while some := self._file.write(
            lambda writer: _delete(writer, DELETE_OF_USER, (user, last, EVENTS_A_TRANSACTION))
        ):
            deleted += some
        self._file.empty_log()
        if self._file.contains(user):
            with self._file.writing() as writer:
                writer.execute("VACUUM")
            self._file.empty_log()
        return deleted

    def _mark_forgotten(self, writer: sqlite3.Connection, user_id: str | int) -> int:
        """Say that the user is forgotten; returns the number of the last event so far."""
        writer.execute("INSERT OR IGNORE INTO forgotten VALUES (?)", (self._hashes.forgotten(user_id),))
        return writer.execute("SELECT COALESCE(MAX(seq), 0) FROM events").fetchone()[0]

    def prune(
        self,
        rules: Sequence[BehaviourRules],
        *,
        now: int,
        max_age: int | None = None,
        known: Callable[[str | int], bool] = any_item,
    ) -> Pruned:
        """Delete what no rule can need any more, for the next few users; see `State.prune`.

        Deletes by steps of some milliseconds, so that writers get their turn between two.
        """
        users = self._file.write(lambda writer: _next_users(writer, now))
        deleted, doomed = 0, list[int]()
        for number, user in enumerate(users, start=1):
            doomed += self._not_needed(user, rules, now, max_age, known)
            while len(doomed) >= pruning.EVENTS_A_STEP or (doomed and number == len(users)):
                deleted += self._delete_events(doomed[: pruning.EVENTS_A_STEP])
                doomed = doomed[pruning.EVENTS_A_STEP :]
        return Pruned(len(users), deleted, len(users) < pruning.USERS_A_SLICE)

    def _delete_events(self, numbers: list[int]) -> int:
        statement = f"DELETE FROM events WHERE seq IN ({','.join('?' * len(numbers))})"
        deleted = self._file.write(lambda writer: _delete(writer, statement, numbers))
        self._file.move_log()
        return deleted

    def _not_needed(
        self, user: bytes, rules: Sequence[BehaviourRules], now: int, max_age: int | None,
        known: Callable[[str | int], bool],
    ) -> list[int]:  # fmt: skip
        """The numbers of the user's events that may go, the oldest first."""
        with self._file.reading() as reader:
            reader.execute("BEGIN")  # all three see the same events
            try:
                events = _as_events(reader.execute(SELECT_NEWEST, (user, now, NEWEST_EVENTS)).fetchall())
                place = pruning.needed_place(events, rules, now, max_age, known)
                first = (now, 0)
                if place < len(events):
                    needed = reader.execute(SELECT_NEWEST_NUMBERS, (user, now, len(events) - place)).fetchall()
                    first = (events[place].timestamp, needed[-1][0])
                found = reader.execute(SELECT_OLDER, (user, *first, pruning.EVENTS_A_SLICE)).fetchall()
            finally:
                reader.execute("COMMIT")
        return [seq for (seq,) in found]

    # --- items and models -------------------------------------------------------------------------------------------
    def change_items(self, changes: Sequence[ItemChange]) -> None:
        """Keep changes of items, all or none; the last one of an item replaces those before it."""
        rows = [(str(change.item_id), item_to_json(change)) for change in changes]

        def keep(writer: sqlite3.Connection) -> None:
            for item, change in rows:
                writer.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", (item, _next_version(writer), change))

        self._file.write(keep)

    def item_changes(self, after: int) -> tuple[int, list[ItemChange]]:
        """The state's version, and the changes that came after version ``after``, oldest first, one an item."""
        with self._file.reading() as reader:
            version = _fact(reader, "version")
            rows = reader.execute(
                "SELECT change FROM items WHERE version > ? AND version <= ? ORDER BY version", (after, version)
            ).fetchall()
        return version, [item_from_json(change) for (change,) in rows]

    def activate(self, name: str, fingerprint: str, configured: str, previous: str | None = None) -> None:
        """Say with which model every worker is to answer."""

        def keep(writer: sqlite3.Connection) -> None:
            model = ActiveModel(name, fingerprint, configured, previous, _next_version(writer))
            _set_fact(writer, "model", json.dumps(model._asdict()))

        self._file.write(keep)

    def active_model(self) -> ActiveModel | None:
        """The model activated last; None before the first."""
        with self._file.reading() as reader:
            model = _fact(reader, "model")
        return ActiveModel(**json.loads(model)) if model else None

    def version(self) -> int:
        """A number that grows with every change of an item or of the active model."""
        with self._file.reading() as reader:
            return _fact(reader, "version")

    # --- the file ---------------------------------------------------------------------------------------------------
    def ping(self) -> None:
        """Return if the file can be read."""
        self.version()

    def close(self) -> None:
        """Close the file. No other call may be running."""
        self._file.close()


def _insert(writer: sqlite3.Connection, batch: _Batch) -> Appended | ConflictError:
    """Insert one batch within the running transaction; a conflict takes back this batch alone."""
    writer.execute("SAVEPOINT batch")
    accepted = 0
    for number, row in enumerate(batch.rows):
        stored = writer.execute(SELECT_ONE, row[:1]).fetchone()
        if stored is None:
            writer.execute(INSERT, row)
            accepted += 1
        elif not same_content(stored, row):
            writer.execute("ROLLBACK TO batch")
            writer.execute("RELEASE batch")
            return conflict(number, batch.events[number])
    writer.execute("RELEASE batch")
    return Appended(accepted, len(batch.rows) - accepted)


def _as_events(rows: list[tuple]) -> list[SeenEvent]:
    """Rows of `SELECT_NEWEST`, the newest first, as events, the oldest first."""
    return [SeenEvent(item, second, bool(clicked), session) for item, second, clicked, session in reversed(rows)]


def _delete(writer: sqlite3.Connection, statement: str, values: Sequence[object]) -> int:
    deleted = writer.execute(statement, values).rowcount
    writer.execute("UPDATE facts SET value = value + ? WHERE name = 'deleted'", (deleted,))
    return deleted


def _next_users(writer: sqlite3.Connection, now: int) -> list[bytes]:
    """The users whose turn it is; the state remembers how far the round has come."""
    cursor = _fact(writer, "prune_cursor")
    if not cursor and now - _fact(writer, "prune_ended") < pruning.ROUND_SECONDS:
        return []
    users: list[bytes] = []
    while len(users) < pruning.USERS_A_SLICE:
        found = writer.execute(SELECT_NEXT_USER, (users[-1] if users else cursor,)).fetchone()
        if found is None:
            _set_fact(writer, "prune_ended", now)
            break
        users += found
    _set_fact(writer, "prune_cursor", users[-1] if len(users) == pruning.USERS_A_SLICE else b"")
    return users


def _next_version(writer: sqlite3.Connection) -> int:
    version = _fact(writer, "version") + 1
    _set_fact(writer, "version", version)
    return version


def _fact(connection: sqlite3.Connection, name: str):
    return connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0]


def _set_fact(writer: sqlite3.Connection, name: str, value: object) -> None:
    writer.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))
