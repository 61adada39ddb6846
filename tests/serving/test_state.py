"""The event state against a plain list, with several threads, and across real kills."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdm.serving.errors import ConflictError, StateError, StateUnavailableError
from xdm.serving.state import EventState, LiveEvent

ids = st.one_of(st.integers(0, 3), st.sampled_from(["0", "1", "a", "ü\x00x"]))
events = st.builds(
    LiveEvent,
    event_id=st.one_of(st.none(), st.integers(0, 5), st.sampled_from(["0", "e"])),
    user_id=ids,
    item_id=ids,
    timestamp=st.integers(0, 4),
    clicked=st.booleans(),
    session_id=st.one_of(st.none(), ids),
)


def content(event: LiveEvent) -> tuple:
    session = None if event.session_id is None else str(event.session_id)
    return str(event.user_id), str(event.item_id), event.timestamp, event.clicked, session


class ListState:
    """The oracle: a list of accepted events in order of arrival."""

    def __init__(self) -> None:
        self.events: list[LiveEvent] = []

    def append(self, batch: list[LiveEvent]) -> tuple[int, int] | None:
        """(accepted, duplicates), or None for a conflict."""
        after, duplicates = list(self.events), 0
        for event in batch:
            same_id = [e for e in after if e.event_id is not None and str(e.event_id) == str(event.event_id)]
            if same_id and content(same_id[0]) != content(event):
                return None
            duplicates += bool(same_id)
            if not same_id:
                after.append(event)
        accepted = len(after) - len(self.events)
        self.events = after
        return accepted, duplicates

    def events_of(self, user_id: str | int, before: int, newest: int) -> list[tuple]:
        mine = sorted((e for e in self.events if str(e.user_id) == str(user_id)), key=lambda e: e.timestamp)
        seen = [(e.item_id, e.timestamp, e.clicked, e.session_id) for e in mine if e.timestamp < before]
        return seen[-newest:]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(events, max_size=5), max_size=6), st.integers(0, 5), st.integers(1, 4))
def test_any_sequence_of_batches_reads_back_as_from_a_list(tmp_path_factory, batches, before, newest):
    state = EventState(tmp_path_factory.mktemp("state") / "s.sqlite", durability="normal")
    oracle = ListState()
    for batch in batches:
        expected = oracle.append(batch)
        if expected is None:
            with pytest.raises(ConflictError, match="already with other content"):
                state.append(batch)
        else:
            assert state.append(batch) == expected
    assert state.count() == len(oracle.events)
    for user in (0, "0", 1, "a", "ü\x00x", "nobody"):
        assert state.events_of(user, before=before, newest=newest) == oracle.events_of(user, before, newest)
    state.close()


def test_a_conflict_names_the_event_and_stores_nothing_of_its_batch(tmp_path):
    state = EventState(tmp_path / "s.sqlite")
    state.append([LiveEvent("e1", "u", "i", 5, True)])
    with pytest.raises(ConflictError, match=r"row 1: event_id 'e1'.*nothing"):
        state.append([LiveEvent("e2", "u", "i", 6, True), LiveEvent("e1", "u", "other", 5, True)])
    assert state.count() == 1
    assert state.append([LiveEvent("e2", "u", "i", 6, True), LiveEvent("e1", "u", "i", 5, True)]) == (1, 1)


def test_integers_and_text_come_back_as_they_were_sent(tmp_path):
    EventState(tmp_path / "s.sqlite").append(
        [LiveEvent("a", 7, 2**63 - 1, 1, True, 9), LiveEvent("b", "7", "8", 2, False)]
    )
    reopened = EventState(tmp_path / "s.sqlite")
    assert reopened.events_of("7", before=9) == [(2**63 - 1, 1, True, 9), ("8", 2, False, None)]
    assert reopened.events_of(7, before=9) == reopened.events_of("7", before=9)


def test_threads_share_flushes_and_lose_nothing(tmp_path):
    """Eight threads write; each sees its own event as soon as it is acknowledged, and a conflict hits only its own batch."""
    state = EventState(tmp_path / "s.sqlite")
    state.append([LiveEvent("taken", "u", "i", 0, True)])
    problems: list[str] = []

    def write(thread: int) -> None:
        for number in range(25):
            state.append([LiveEvent(f"{thread}-{number}", f"u{thread}", "i", number, True)])
            if len(state.events_of(f"u{thread}", before=100)) != number + 1:
                problems.append(f"{thread}-{number} is not there")
            try:
                state.append(
                    [LiveEvent(f"x{thread}-{number}", "u", "i", 1, True), LiveEvent("taken", "u", "i", 1, True)]
                )
                problems.append("no conflict")
            except ConflictError:
                pass

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert state.count() == 1 + 8 * 25


def test_a_state_that_cannot_be_written_says_so_and_recovers(tmp_path):
    state = EventState(tmp_path / "s.sqlite")
    state._writer.execute("PRAGMA query_only = 1")  # every write fails, as on a disk turned read-only
    with pytest.raises(StateUnavailableError, match=r"s\.sqlite could not be written"):
        state.append([LiveEvent("e", "u", "i", 1, True)])
    state._writer.execute("PRAGMA query_only = 0")
    assert state.append([LiveEvent("e", "u", "i", 1, True)]) == (1, 0)


def test_full_durability_flushes_every_commit(tmp_path):
    for durability, synchronous in (("full", 2), ("normal", 1)):
        state = EventState(tmp_path / f"{durability}.sqlite", durability=durability)
        assert state._writer.execute("PRAGMA synchronous").fetchone() == (synchronous,)
        assert state._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_is_no_state_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "text").write_text("hello, " * 1000)
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE theirs (x)")
    before = (tmp_path / "other.sqlite").read_bytes()
    EventState(tmp_path / "newer.sqlite")._writer.execute("PRAGMA user_version = 2")
    for name, reason in (
        ("text", "not a database"),
        ("other.sqlite", "of another program"),
        ("newer.sqlite", "format 2 is newer than 1"),
        ("no/folder.sqlite", "unable to open"),
    ):
        with pytest.raises(StateError, match=reason):
            EventState(tmp_path / name)
    assert (tmp_path / "other.sqlite").read_bytes() == before


WRITER = """
import sys, threading
from xdm.serving.state import EventState, LiveEvent
state, life, lock = EventState(sys.argv[1]), sys.argv[2], threading.Lock()
def write(thread):
    number = 0
    while True:
        batch = [LiveEvent(f"{life}.{thread}.{number}.{i}", "u", f"{life}.{thread}.{number}.{i}", number, True) for i in range(3)]
        state.append(batch)
        with lock:
            print(f"{life}.{thread}.{number}", flush=True)
        number += 1
for thread in range(3):
    threading.Thread(target=write, args=(thread,)).start()
"""


def test_kill_9_loses_no_acknowledged_event_and_doubles_none(tmp_path):
    """Five lives on one file, each killed in the midst of writing: whole batches only, and every acknowledged one."""
    file = tmp_path / "s.sqlite"
    acknowledged: list[str] = []
    for life in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file), str(life)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(20 + 7 * life)]
            os.kill(writer.pid, signal.SIGKILL)
            lines += writer.stdout.readlines()
        acknowledged += [line.strip() for line in lines if line.endswith("\n")]
        stored = [event.item_id for event in EventState(file).events_of("u", before=10**9)]
        assert len(stored) == len(set(stored)) == EventState(file).count()
        assert set(stored) >= {f"{batch}.{i}" for batch in acknowledged for i in range(3)}
        assert len(stored) % 3 == 0
    assert len(acknowledged) >= 5 * 20
    assert Path(file).exists()
