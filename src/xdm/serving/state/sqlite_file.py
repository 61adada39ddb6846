"""One SQLite file that threads and processes read at once and write in turn."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from xdm.serving.errors import StateError, StateUnavailableError
from xdm.serving.state.sqlite_schema import BUSY_SECONDS, connect, open_file

CHUNK = 1 << 20  # bytes of the file that are looked at in one piece

Result = TypeVar("Result")


class SqliteFile:
    """One connection that writes, guarded by a lock, and as many that read as there are readers at once."""

    def __init__(self, path: Path, synchronous: str) -> None:
        """Open the state file at ``path``, or make it.

        Raises:
            StateError: the file cannot be opened, or holds something else.
        """
        self.path = path
        self._synchronous = synchronous
        self._lock = threading.Lock()
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        try:
            self.writer, self.hashes = open_file(path, synchronous)
        except sqlite3.Error as error:
            raise StateError(
                f"{path} cannot be opened as a state file ({error}); give the path of a file that `xdm serve` "
                "wrote, or of a new file in a folder that exists and may be written"
            ) from None

    def write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """What ``work`` returns, once all that it wrote is committed; nothing of it is if it raises.

        Raises:
            StateUnavailableError: the file could not be written.
        """
        with self.writing() as writer:
            try:
                writer.execute("BEGIN IMMEDIATE")
                result = work(writer)
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    with suppress(sqlite3.Error):  # tried again by the next one
                        writer.execute("ROLLBACK")
                raise
        return result

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection that writes, for this thread alone."""
        with self._lock, self._unavailable("written"):
            yield self.writer

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread's own for the length of one read; idle ones are used again."""
        with self._unavailable("read"):
            connection = next(self._idle_readers(), None) or connect(self.path, self._synchronous)
            try:
                yield connection
            finally:
                self._readers.put(connection)

    def move_log(self) -> None:
        """Move what is in the write-ahead log into the file while others write on; else one of them does it in its commit."""
        with self.reading() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def empty_log(self) -> None:
        """Move all of the write-ahead log into the file and cut the log to nothing: it holds pages as they were.

        Raises:
            StateUnavailableError: another process reads the log all the time.
        """
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            with self.writing() as writer:
                busy = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if not busy:
                return
            if time.monotonic() > deadline:
                raise StateUnavailableError(
                    f"{self.path}: what was deleted is still in the write-ahead log, which another process reads; try again"
                )

    def contains(self, wanted: bytes) -> bool:
        """Whether these bytes are anywhere in the file."""
        end_of_last = b""
        with open(self.path, "rb") as file:
            while chunk := file.read(CHUNK):
                if wanted in end_of_last + chunk:
                    return True
                end_of_last = chunk[-len(wanted) :]
        return False

    def close(self) -> None:
        """Close all connections. No other call may be running."""
        for connection in [*self._idle_readers(), self.writer]:
            connection.close()

    @contextmanager
    def _unavailable(self, done: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            reason = f"{self.path} could not be {done} ({error})"
            raise StateUnavailableError(f"{reason}; see to the disk and try again") from None

    def _idle_readers(self) -> Iterator[sqlite3.Connection]:
        while True:
            try:
                yield self._readers.get_nowait()
            except queue.Empty:
                return
