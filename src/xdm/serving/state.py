"""The live events of all users, in one SQLite file: acknowledged means on disk, a batch is stored whole or not."""

from __future__ import annotations

import queue
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from xdm.schema import InternalError
from xdm.serving.errors import ConflictError, StateError, StateUnavailableError

APPLICATION_ID = 0x78646D31  # "xdm1" in the file's header: tells our files from other people's SQLite files
FORMAT_VERSION = 1
NEWEST_EVENTS = 20_000  # what one read of a user returns at most
BUSY_SECONDS = 10.0

Durability = Literal["full", "normal"]

# user_id, item_id and session_id have no declared type: SQLite then keeps integers as integers and text as text.
# Users are looked up by their id's text, because 7 and "7" name the same user everywhere in this package.
SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    user_id NOT NULL,
    item_id NOT NULL,
    timestamp INTEGER NOT NULL,
    clicked INTEGER NOT NULL,
    session_id
);
CREATE INDEX events_of_user ON events (CAST(user_id AS TEXT), timestamp, seq);
"""
INSERT = "INSERT INTO events (event_id, user_id, item_id, timestamp, clicked, session_id) VALUES (?, ?, ?, ?, ?, ?)"
SELECT_ONE = "SELECT event_id, user_id, item_id, timestamp, clicked, session_id FROM events WHERE event_id = ?"
SELECT_NEWEST = (
    "SELECT item_id, timestamp, clicked, session_id FROM events "
    "WHERE CAST(user_id AS TEXT) = ? AND timestamp < ? ORDER BY timestamp DESC, seq DESC LIMIT ?"
)


class LiveEvent(NamedTuple):
    """One exposure as it is stored; ``timestamp`` in seconds. Without an ``event_id`` the state makes one."""

    event_id: str | int | None
    user_id: str | int
    item_id: str | int
    timestamp: int
    clicked: bool
    session_id: str | int | None = None


class SeenEvent(NamedTuple):
    """One exposure of a user that is known already; ``timestamp`` in seconds."""

    item_id: str | int
    timestamp: int
    clicked: bool
    session_id: str | int | None = None


class Appended(NamedTuple):
    """How many events of a batch are new, and how many were stored already with the same content."""

    accepted: int
    duplicates: int


class _Batch:
    """A batch that waits to be written, and what became of it."""

    def __init__(self, events: Sequence[LiveEvent]) -> None:
        self.events = events
        self.outcome: Appended | Exception | None = None


class EventState:
    """Events of all users, appended and read by several threads at once.

    ``durability`` "full" flushes every commit to disk before it is acknowledged; "normal" leaves the flush to the
    operating system, so that a power cut (not a crash of the process) may lose the last moments.
    """

    def __init__(self, path: Path | str, *, durability: Durability = "full") -> None:
        """Open the state file at ``path``, or make it.

        Raises:
            StateError: the file cannot be opened, or holds something else.
        """
        self.path = Path(path)
        self._synchronous = {"full": "FULL", "normal": "NORMAL"}[durability]
        self._waiting: list[_Batch] = []
        self._waiting_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        try:
            self._check_ours()
            self._writer = self._connect()
            self._create_tables()
        except sqlite3.Error as error:
            raise StateError(
                f"{self.path} cannot be opened as a state file ({error}); give the path of a file that `xdm serve` "
                "wrote, or of a new file in a folder that exists and may be written"
            ) from None

    # --- writing ----------------------------------------------------------------------------------------------------
    def append(self, events: Sequence[LiveEvent]) -> Appended:
        """Store a batch: all of it or nothing. When this returns, the batch is on disk.

        Batches that arrive while another is being flushed share the next flush: the first thread to get the lock
        commits for all that wait.

        Raises:
            ConflictError: an event_id is stored already with other content; nothing of the batch is stored.
            StateUnavailableError: the file could not be written; the batch may be sent again.
        """
        batch = _Batch(events)
        with self._waiting_lock:
            self._waiting.append(batch)
        with self._write_lock:
            if batch.outcome is None:
                with self._waiting_lock:
                    batches, self._waiting = self._waiting, []
                self._commit(batches)
        if isinstance(batch.outcome, Appended):
            return batch.outcome
        raise batch.outcome or InternalError("a batch of events was neither written nor refused")

    def _commit(self, batches: list[_Batch]) -> None:
        outcomes: list[Appended | Exception] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for batch in batches:
                outcomes.append(self._insert(batch.events))
            self._writer.execute("COMMIT")
        except Exception as error:
            if self._writer.in_transaction:
                with suppress(sqlite3.Error):  # tried again by the next commit
                    self._writer.execute("ROLLBACK")
            reason = f"{self.path} could not be written ({error})"
            outcomes = [StateUnavailableError(f"{reason}; see to the disk and send it again")] * len(batches)
        for batch, outcome in zip(batches, outcomes, strict=True):
            batch.outcome = outcome

    def _insert(self, events: Sequence[LiveEvent]) -> Appended | ConflictError:
        """Insert one batch within the running transaction; a conflict takes back this batch alone."""
        self._writer.execute("SAVEPOINT batch")
        accepted = 0
        for number, event in enumerate(events):
            row = _as_row(event)
            stored = self._writer.execute(SELECT_ONE, row[:1]).fetchone()
            if stored is None:
                self._writer.execute(INSERT, row)
                accepted += 1
            elif not _same_content(stored, row):
                self._writer.execute("ROLLBACK TO batch")
                self._writer.execute("RELEASE batch")
                return ConflictError(
                    f"events, row {number}: event_id {event.event_id!r} is stored already with other content; nothing "
                    "of this batch is stored; give the event an id of its own, or send it as it was sent before"
                )
        self._writer.execute("RELEASE batch")
        return Appended(accepted, len(events) - accepted)

    # --- reading ----------------------------------------------------------------------------------------------------
    def events_of(self, user_id: str | int, *, before: int, newest: int = NEWEST_EVENTS) -> list[SeenEvent]:
        """The user's ``newest`` events before the second ``before``, oldest first; ties by arrival."""
        with self._reader() as connection:
            rows = connection.execute(SELECT_NEWEST, (str(user_id), before, newest)).fetchall()
        return [SeenEvent(item, second, bool(clicked), session) for item, second, clicked, session in reversed(rows)]

    def count(self) -> int:
        """How many events are stored."""
        # Nothing is ever deleted, an insert never fails on its event_id and a batch taken back returns its numbers: the
        # greatest number is the count. Counting the rows would read a whole index.
        with self._reader() as connection:
            return connection.execute("SELECT COALESCE(MAX(seq), 0) FROM events").fetchone()[0]

    def close(self) -> None:
        """Close the file. No other call may be running."""
        for connection in [*self._idle_readers(), self._writer]:
            connection.close()

    # --- connections ------------------------------------------------------------------------------------------------
    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=16
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        return connection

    def _check_ours(self) -> None:
        """Refuse another program's file before anything in it is changed (setting the journal's mode would)."""
        with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as connection:
            tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        if tables and application != APPLICATION_ID:
            raise sqlite3.DatabaseError("it is the SQLite file of another program")
        if version > FORMAT_VERSION:
            raise sqlite3.DatabaseError(f"its format {version} is newer than {FORMAT_VERSION}, the newest known here")

    def _create_tables(self) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        if not self._writer.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            for statement in filter(str.strip, SCHEMA.split(";")):
                self._writer.execute(statement)
            self._writer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._writer.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        self._writer.execute("COMMIT")

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread's own for the length of one read; idle ones are used again."""
        try:
            connection = next(self._idle_readers(), None) or self._connect()
            try:
                yield connection
            finally:
                self._readers.put(connection)
        except sqlite3.Error as error:
            reason = f"{self.path} could not be read ({error})"
            raise StateUnavailableError(f"{reason}; see to the disk and ask again") from None

    def _idle_readers(self) -> Iterator[sqlite3.Connection]:
        while True:
            try:
                yield self._readers.get_nowait()
            except queue.Empty:
                return


def _as_row(event: LiveEvent) -> tuple[str, str | int, str | int, int, int, str | int | None]:
    event_id = uuid.uuid4().hex if event.event_id is None else str(event.event_id)
    return event_id, event.user_id, event.item_id, event.timestamp, int(event.clicked), event.session_id


def _same_content(stored: Iterable[object], row: Iterable[object]) -> bool:
    """Whether two rows say the same; ids compare by their text, as everywhere."""
    return [_text(value) for value in stored] == [_text(value) for value in row]


def _text(value: object) -> str | None:
    return None if value is None else str(value)
