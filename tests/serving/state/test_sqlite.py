"""What is SQLite's own: files, flushes, processes, older formats, and that what is deleted is gone from the disk."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from xdm.serving.errors import StateError, StateUnavailableError
from xdm.serving.state import LiveEvent, SqliteState


def raw(path: Path) -> bytes:
    """All bytes of a state: the file, its write-ahead log and its index."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(path.name + "*")))


def test_a_file_of_format_1_is_taken_over_and_holds_no_user_any_more(tmp_path):
    """`format-1.sqlite` was written by the first release's code."""
    file = tmp_path / "s.sqlite"
    shutil.copy(Path(__file__).with_name("format-1.sqlite"), file)
    state = SqliteState(file)
    assert state.count() == 5
    assert state.events_of("ann", before=2**40).events == [
        ("shoe", 1_700_000_000, True, "visit 1"), (7, 1_700_000_000, False, "visit 1"),
    ]  # fmt: skip
    assert state.events_of(42, before=2**40).events == [
        (2**63 - 1, 1_700_000_040, True, None), ("hat", 1_700_000_050, True, 9),
    ]  # fmt: skip
    again = [LiveEvent("3", 42, "hat", 1_700_000_050, True, 9), LiveEvent("e5", "ann", 7, 1_700_000_000, True)]
    assert state.append(again) == (1, 1)
    assert [event.item_id for event in state.events_of("ann", before=2**40).events] == ["shoe", 7, 7]
    assert state.count() == 6
    assert b"ann" not in raw(file)
    state.close()
    assert SqliteState(file).count() == 6


def test_a_forgotten_user_is_in_none_of_the_files(tmp_path):
    """Users come and go, so that SQLite moves rows from page to page; of who is forgotten no byte may stay behind."""
    rng, file = random.Random(5), tmp_path / "s.sqlite"
    state = SqliteState(file, durability="normal")
    users = [f"user-{rng.randrange(10**12)}" for _ in range(20)]
    for _ in range(12):
        rng.shuffle(users)
        state.append([
            LiveEvent(f"event-of-{user}-{rng.random()}", user, f"item-of-{user}", rng.randrange(10**9), True, f"visit-of-{user}")
            for user in rng.choices(users, k=900)
        ])  # fmt: skip
        user = users.pop()
        hashed = state._hashes.user(user)
        assert hashed in raw(file)
        assert f"item-of-{user}".encode() in raw(file)
        assert state.forget(user) > 0
        found = raw(file)
        assert user.encode() not in found
        assert hashed not in found


def test_a_copy_that_sqlite_left_is_found_and_the_file_written_anew(tmp_path):
    file = tmp_path / "s.sqlite"
    state = SqliteState(file)
    state.append([LiveEvent(None, "ann", "i", 1, True)])
    with sqlite3.connect(file) as other:  # stands for a copy that no table knows of
        other.execute("CREATE TABLE leftover (x)")
        other.execute("INSERT INTO leftover VALUES (?)", (state._hashes.user("ann"),))
        other.execute("PRAGMA secure_delete = OFF")
        other.execute("DELETE FROM leftover")
    assert state.forget("ann") == 1
    assert state._hashes.user("ann") not in raw(file)


def test_no_user_and_no_event_id_is_ever_in_the_file(tmp_path):
    file = tmp_path / "s.sqlite"
    state = SqliteState(file)
    state.append([LiveEvent("event of ann", "ann", "shoe", 1, True)])
    assert b"shoe" in raw(file)
    assert b"ann" not in raw(file)


def test_a_state_that_cannot_be_written_says_so_and_recovers(tmp_path):
    state = SqliteState(tmp_path / "s.sqlite")
    state._file.writer.execute("PRAGMA query_only = 1")  # every write fails, as on a disk turned read-only
    for call in (lambda: state.append([LiveEvent("e", "u", "i", 1, True)]), lambda: state.forget("u")):
        with pytest.raises(StateUnavailableError, match=r"s\.sqlite could not be written"):
            call()
    state._file.writer.execute("PRAGMA query_only = 0")
    assert state.append([LiveEvent("e", "u", "i", 1, True)]) == (1, 0)
    assert not state.events_of("u", before=9).forgotten


def test_a_batch_that_no_file_can_hold_hurts_no_other(tmp_path):
    state = SqliteState(tmp_path / "s.sqlite")
    with pytest.raises(StateUnavailableError, match="OverflowError"):
        state.append([LiveEvent("e1", "u", 2**63, 1, True)])
    assert state.append([LiveEvent("e1", "u", 2**63 - 1, 1, True)]) == (1, 0)


def test_full_durability_flushes_every_commit(tmp_path):
    for durability, synchronous in (("full", 2), ("normal", 1)):
        writer = SqliteState(tmp_path / f"{durability}.sqlite", durability=durability)._file.writer
        assert writer.execute("PRAGMA synchronous").fetchone() == (synchronous,)
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert writer.execute("PRAGMA secure_delete").fetchone() == (1,)


def test_what_is_no_state_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "text").write_text("hello, " * 1000)
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE theirs (x)")
    before = (tmp_path / "other.sqlite").read_bytes()
    SqliteState(tmp_path / "newer.sqlite")._file.writer.execute("PRAGMA user_version = 3")
    for name, reason in (
        ("text", "not a database"),
        ("other.sqlite", "of another program"),
        ("newer.sqlite", "format 3 is newer than 2"),
        ("no/folder.sqlite", "unable to open"),
    ):
        with pytest.raises(StateError, match=reason):
            SqliteState(tmp_path / name)
    assert (tmp_path / "other.sqlite").read_bytes() == before


PROCESS = """
import sys
from xdm.serving.state import LiveEvent, SqliteState
file, name = sys.argv[1:]
print("ready", flush=True); sys.stdin.readline()
state = SqliteState(file)
for number in range(20):
    state.append([LiveEvent(f"{name}-{number}", name, number, number, True), LiveEvent(f"all-{number}", "u", number, number, True)])
    assert len(state.events_of(name, before=100).events) == number + 1
"""


@pytest.mark.parametrize("format_1", [False, True])
def test_processes_open_and_write_one_file_at_once(tmp_path, format_1):
    file = tmp_path / "s.sqlite"
    if format_1:
        shutil.copy(Path(__file__).with_name("format-1.sqlite"), file)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(file), f"p{n}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for n in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.communicate(b"\n")
    assert [process.returncode for process in processes] == [0] * 4
    state = SqliteState(file)
    assert state.count() == 4 * 20 + 20 + 5 * format_1
    assert [event.item_id for event in state.events_of("u", before=100).events] == list(range(20))
