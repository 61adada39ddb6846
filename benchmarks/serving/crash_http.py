"""`kill -9` of `xdm serve` at random moments while clients post events: what was acknowledged is there after the restart, once.

Batches whose answer did not come are sent again after the restart, as a client would: they must be wholly new or wholly known.
`benchmarks/crash.py` does the same to the state alone, without HTTP. A kill is no power cut: what the operating system holds
survives it.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from benchmarks.serving.process import Client, Reply, Running, in_threads, serve, small_bundle, wait_for

WRITERS, EVENTS = 6, 3
LONGEST = 0.3  # seconds of writing after the first acknowledgement
MANY_SECONDS = 60.0
START = int(time.time())  # of the events: those of today are held, whatever the rules need


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser = subparsers.add_parser("crash", help="kill -9 at random moments under write load")
    parser.add_argument("--bundle", type=Path, help="what is served; default: a small one is trained")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def send(client: Client, user: str, number: int) -> Reply:
    """Post the batch ``number`` of a user: the item ids name the batch and the place in it."""
    events = [
        {"event_id": f"{user} {number} {n}", "user_id": user, "item_id": f"{number}.{n}", "timestamp": START + number,
         "clicked": True}
        for n in range(EVENTS)
    ]  # fmt: skip
    return client.post("/v1/events", {"events": events})


class Round:
    """One life of the service: each writer posts batches of a user of its own until the service is gone."""

    def __init__(self, number: int) -> None:
        self.users = [f"{number} {writer}" for writer in range(WRITERS)]
        self.acknowledged = [0] * WRITERS  # batches of each writer; the next one may have been in flight
        self.statuses: Counter[int] = Counter()

    def write(self, running: Running, rng: random.Random) -> None:
        """Let them write, and kill the service at a random moment."""
        gone = threading.Event()

        def work(writer: int) -> None:
            client = running.client()
            while not gone.is_set():
                try:
                    status = send(client, self.users[writer], self.acknowledged[writer]).status
                except (OSError, HTTPException):
                    return
                self.statuses[status] += 1
                self.acknowledged[writer] += status == 200

        threads = in_threads(WRITERS, work)
        wait_for(lambda: sum(self.acknowledged) > 0, MANY_SECONDS, "a first acknowledgement")
        time.sleep(rng.uniform(0, LONGEST))
        running.kill()
        gone.set()
        for thread in threads:
            thread.join()

    def look(self, client: Client, found: Counter[str]) -> int:
        """Count what went wrong; returns how many events are held of the round."""
        total = 0
        for user, acknowledged in zip(self.users, self.acknowledged, strict=True):
            shown = client.user(user)
            held = Counter(str(event["item_id"]) for event in shown["events"])
            total += shown["events_held"]
            found["lost"] += sum(f"{number}.{n}" not in held for number in range(acknowledged) for n in range(EVENTS))
            found["doubled"] += sum(held.values()) - len(held)
            found["torn"] += sum(n != EVENTS for n in Counter(item.partition(".")[0] for item in held).values())
        return total

    def send_again(self, client: Client, found: Counter[str]) -> None:
        """Each writer's batch that was in flight."""
        for user, acknowledged in zip(self.users, self.acknowledged, strict=True):
            reply = send(client, user, acknowledged)
            answered = (reply.body["accepted"], reply.body["duplicates"]) if reply.status == 200 else None
            found["torn"] += answered not in ((EVENTS, 0), (0, EVENTS))
            found["in flight and stored"] += answered == (0, EVENTS)


def run(args: argparse.Namespace) -> dict[str, Any]:
    bundle = args.bundle or small_bundle(args.folder)
    began, rng = time.monotonic(), random.Random(args.seed)
    found: Counter[str] = Counter(dict.fromkeys(("lost", "doubled", "torn", "miscounted", "lost later", "in flight and stored"), 0))
    rounds: list[Round] = []
    starts: list[float] = []
    expected = 0

    @contextmanager
    def started() -> Iterator[tuple[Running, Client]]:
        since = time.monotonic()
        options = ("--state", args.folder / "state.sqlite", "--workers", args.workers)
        with serve(bundle, args.folder, *options) as running:
            starts.append(time.monotonic() - since)
            yield running, running.client()

    for number in range(args.kills):
        with started() as (running, client):
            expected = checked(rounds[-1:], client, found, expected)
            rounds.append(Round(number))
            rounds[-1].write(running, rng)
    with started() as (_, client):
        expected = checked(rounds[-1:], client, found, expected)
        again: Counter[str] = Counter()
        held = sum(one.look(client, again) for one in rounds)  # no later kill took anything
        found["lost later"] += again["lost"] + again["doubled"] + again["torn"] + abs(held - expected)
    statuses = sum((one.statuses for one in rounds), Counter())
    wrong = [what for what in ("lost", "doubled", "torn", "miscounted", "lost later") if found[what]]
    return {
        "kills": args.kills, "acknowledged events": EVENTS * sum(sum(one.acknowledged) for one in rounds), **found,
        "statuses": {str(status): count for status, count in statuses.items()},
        "slowest start (s)": round(max(starts), 2), "seconds": round(time.monotonic() - began, 1),
        "failed": wrong + [f"status {status}" for status in statuses if status != 200],
    }  # fmt: skip


def checked(last: list[Round], client: Client, found: Counter[str], expected: int) -> int:
    """Look at the last round after the restart, send again what was in flight; the events that are held then."""
    for one in last:
        expected += one.look(client, found)
        found["miscounted"] += client.send("GET", "/health/ready").body["events_held"] != expected
        stored = found["in flight and stored"]
        one.send_again(client, found)
        expected += EVENTS * (WRITERS - (found["in flight and stored"] - stored))
    return expected
