"""Kill the process that writes the state (SQLite) or the server that keeps it (Redis) at random moments, again and again:
is every acknowledged event there afterwards, none twice and no batch in part?

    python benchmarks/crash.py [--kills 200] [--state sqlite|redis] [--folder DIR] [--seed 0]

SQLite: in each round two processes of three threads write batches of three events into one file, and are killed (SIGKILL).
Redis: six threads write, the server is killed and started again, and they go on with what was not acknowledged. After each
round all of its batches that were in flight are sent once more, as a client would: they must be wholly new or wholly known.
It prints one line of JSON and exits with 1 if anything was lost, doubled or torn. A kill is no power cut: what the operating
system holds survives it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.serving.state.redis_server import RedisServer

from xdm.serving.errors import StateUnavailableError
from xdm.serving.state import LiveEvent, State, open_state

PROCESSES, THREADS, EVENTS = 2, 3, 3
LONGEST = 0.25  # seconds of a round after the first acknowledgement of each writer


def batch_of(name: str) -> list[LiveEvent]:
    """The batch ``ROUND.WRITER.NUMBER``: all events of a round are of one user."""
    round_number, _, number = name.split(".")
    return [LiveEvent(f"{name}.{i}", round_number, f"{name}.{i}", int(number), True) for i in range(EVENTS)]


def write(url: str, round_number: int, writers: range) -> None:
    """What a writing process does until it is killed: say on standard output which batches are acknowledged."""
    state, lock = open_state(url), threading.Lock()

    def go_on(writer: int) -> None:
        for number in range(10**9):
            name = f"{round_number}.{writer}.{number}"
            state.append(batch_of(name))
            with lock:
                print(name, flush=True)

    for writer in writers:
        threading.Thread(target=go_on, args=(writer,)).start()


def kill_writers(url: str, round_number: int, rng: random.Random) -> list[str]:
    """One round of SQLite: the acknowledged batches."""
    arguments = [sys.executable, __file__, "--write", url, "--round", str(round_number)]
    writers = [
        subprocess.Popen([*arguments, "--first", str(n * THREADS)], stdout=subprocess.PIPE, text=True)
        for n in range(PROCESSES)
    ]
    lines = [writer.stdout.readline() for writer in writers if writer.stdout]
    time.sleep(rng.uniform(0, LONGEST))
    for writer in rng.sample(writers, PROCESSES):
        os.kill(writer.pid, signal.SIGKILL)
        time.sleep(rng.choice([0, 0, rng.uniform(0, 0.05)]))
    for writer in writers:
        lines += writer.communicate()[0].splitlines(keepends=True)
    return [line.strip() for line in lines if line.endswith("\n")]


def kill_server(server: RedisServer, state: State, round_number: int, rng: random.Random) -> list[str]:
    """One round of Redis: the server is killed while threads write, and they go on after it: the acknowledged batches."""
    acknowledged: list[str] = []
    stop = threading.Event()

    def go_on(writer: int) -> None:
        number = 0
        while not stop.is_set():
            name = f"{round_number}.{writer}.{number}"
            try:
                state.append(batch_of(name))
            except StateUnavailableError:
                time.sleep(0.01)
                continue
            acknowledged.append(name)
            number += 1

    threads = [threading.Thread(target=go_on, args=(writer,)) for writer in range(PROCESSES * THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(rng.uniform(0.01, LONGEST))
    server.kill()
    server.start()
    before = len(acknowledged)
    while len(acknowledged) < before + 10:
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    return acknowledged


def look(state: State, round_number: int, acknowledged: list[str], found: Counter) -> int:
    """Count what went wrong in a round; returns how many events it stored."""
    stored = [event.item_id for event in state.events_of(str(round_number), before=2**40).events]
    found["doubled"] += len(stored) - len(set(stored))
    found["lost"] += len({f"{name}.{i}" for name in acknowledged for i in range(EVENTS)} - set(stored))
    found["torn"] += sum(n != EVENTS for n in Counter(str(item).rpartition(".")[0] for item in stored).values())
    for writer in range(PROCESSES * THREADS):  # the one in flight: sent again, as its client would
        name = f"{round_number}.{writer}.{sum(one.split('.')[1] == str(writer) for one in acknowledged)}"
        found["torn"] += state.append(batch_of(name)) not in ((EVENTS, 0), (0, EVENTS))
        stored += [] if f"{name}.0" in stored else [event.item_id for event in batch_of(name)]
    found["acknowledged"] += EVENTS * len(acknowledged)
    return len(stored)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--state", choices=["sqlite", "redis"], default="sqlite")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--seed", type=int, default=0)
    for name in ("--write", "--round", "--first"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write:
        write(asked.write, int(asked.round), range(int(asked.first), int(asked.first) + THREADS))
        return 0
    folder, rng, began = Path(tempfile.mkdtemp(dir=asked.folder)), random.Random(asked.seed), time.monotonic()
    found, expected = Counter(lost=0, doubled=0, torn=0, acknowledged=0), 0
    server = RedisServer(folder / "redis") if asked.state == "redis" else None
    url = server.url if server else f"sqlite:{folder / 'state.sqlite'}"
    if server:
        server.start()
    state = open_state(url)
    rounds: list[list[str]] = []
    for number in range(asked.kills):
        rounds.append(kill_server(server, state, number, rng) if server else kill_writers(url, number, rng))
        expected += look(state, number, rounds[-1], found)
        found["miscounted"] += state.count() != expected
    for number, acknowledged in enumerate(rounds):  # and once more at the end: no later kill took anything
        stored = {event.item_id for event in state.events_of(str(number), before=2**40).events}
        found["lost later"] += len({f"{name}.{i}" for name in acknowledged for i in range(EVENTS)} - stored)
    state.close()
    if server:
        server.kill()
    shutil.rmtree(folder)
    print(
        json.dumps({"state": asked.state, "kills": asked.kills, **found, "seconds": round(time.monotonic() - began, 1)})
    )
    return int(any(found[wrong] for wrong in ("lost", "doubled", "torn", "miscounted", "lost later")))


if __name__ == "__main__":
    sys.exit(main())
