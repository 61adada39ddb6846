"""The SQLite file: what is in it, how it is made or recognised, and how older ones are brought up to date."""

from __future__ import annotations

import hashlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

APPLICATION_ID = 0x78646D31  # "xdm1" in the file's header: tells our files from other people's SQLite files
FORMAT_VERSION = 2
BUSY_SECONDS = 10.0  # how long one process waits for another's transaction

# Users and events go by keyed hashes of their ids: no id of a person is in the file, and whether a user's rows are really
# gone from it can be seen by looking for sixteen bytes. item_id and session_id have no declared type: SQLite then keeps
# integers as integers and text as text.
SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event BLOB NOT NULL UNIQUE,
    user BLOB NOT NULL,
    item_id NOT NULL,
    timestamp INTEGER NOT NULL,
    clicked INTEGER NOT NULL,
    session_id
);
CREATE INDEX events_of_user ON events (user, timestamp, seq);
CREATE TABLE forgotten (user BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE items (item TEXT PRIMARY KEY, version INTEGER NOT NULL UNIQUE, change TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO facts VALUES ('version', 0), ('deleted', 0), ('prune_cursor', x''), ('prune_ended', 0), ('model', NULL);
"""
FROM_FORMAT_1 = """
INSERT INTO events SELECT seq, hash_event(event_id), hash_user(user_id), item_id, timestamp, clicked, session_id
FROM events_of_format_1 ORDER BY seq
"""

logger = logging.getLogger(__name__)


class Hashes(NamedTuple):
    """The keyed hashes of one file, 16 bytes each: of the text of an event's id, of a user's, and of a forgotten user's."""

    event: Callable[[str | int], bytes]
    user: Callable[[str | int], bytes]
    forgotten: Callable[[str | int], bytes]

    @classmethod
    def of_secret(cls, secret: bytes) -> Hashes:
        return cls(*(_keyed(secret, purpose) for purpose in (b"event", b"user", b"forgotten")))


def _keyed(secret: bytes, purpose: bytes) -> Callable[[str | int], bytes]:
    prepared = hashlib.blake2b(key=secret, person=purpose, digest_size=16)

    def hashed(name: str | int) -> bytes:
        hasher = prepared.copy()
        hasher.update(str(name).encode())
        return hasher.digest()

    return hashed


def connect(path: Path, synchronous: str) -> sqlite3.Connection:
    """A connection that commits by itself, for one thread at a time."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    # Several processes may open a new file at once, and SQLite does not wait its turn to change the journal's mode.
    _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten with zeros
    return connection


def open_file(path: Path, synchronous: str) -> tuple[sqlite3.Connection, Hashes]:
    """Open a state file, or make it; an older format is brought up to date.

    Raises:
        sqlite3.Error: it cannot be opened, or is another program's.
    """
    _patiently(lambda: _check_ours(path))
    connection = connect(path, synchronous)
    connection.execute("BEGIN IMMEDIATE")
    found = connection.execute("PRAGMA user_version").fetchone()[0]  # read again: another process may have been quicker
    if found != FORMAT_VERSION:
        if found == 1:
            connection.execute("ALTER TABLE events RENAME TO events_of_format_1")
            connection.execute("DROP INDEX events_of_user")
        _make_tables(connection)
        if found == 1:
            _take_over_format_1(connection, path)
    secret = connection.execute("SELECT value FROM facts WHERE name = 'secret'").fetchone()[0]
    connection.execute("COMMIT")
    if found == 1:  # the old rows held ids in clear
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return connection, Hashes.of_secret(secret)


def _check_ours(path: Path) -> None:
    """Refuse another program's file before anything in it is changed (setting the journal's mode would)."""
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise sqlite3.DatabaseError("it is the SQLite file of another program")
    if version > FORMAT_VERSION:
        raise sqlite3.DatabaseError(f"its format {version} is newer than {FORMAT_VERSION}, the newest known here")


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in filter(str.strip, SCHEMA.split(";")):
        connection.execute(statement)
    connection.execute("INSERT INTO facts VALUES ('secret', ?)", (secrets.token_bytes(32),))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def _take_over_format_1(connection: sqlite3.Connection, path: Path) -> None:
    logger.info("%s is brought from format 1 to %d", path, FORMAT_VERSION)
    hashes = Hashes.of_secret(connection.execute("SELECT value FROM facts WHERE name = 'secret'").fetchone()[0])
    connection.create_function("hash_event", 1, hashes.event)
    connection.create_function("hash_user", 1, hashes.user)
    connection.execute(FROM_FORMAT_1)
    connection.execute("DROP TABLE events_of_format_1")


def _patiently(work: Callable[[], object]) -> None:
    """Do ``work``, again and again while another process holds the file."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            work()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)
