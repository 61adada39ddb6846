"""The Redis server that holds the live events is killed and started again, under load, while one `xdm serve` runs on.

While it is down: questions are answered (200) and say that the live events are `missing`, events are refused (503). Once it is
back: both work again without a restart of the service, and every event that was acknowledged is there, none twice.
"""

from __future__ import annotations

import argparse
import itertools
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.serving.process import Client, Running, in_threads, known_items, serve, small_bundle, wait_for
from tests.serving.state.redis_server import RedisServer

READERS, WRITERS = 4, 2
EVENTS = 3  # of a batch
USERS = 20  # of each writer
MANY_SECONDS = 30.0
START = int(time.time())  # of the events: those of today are held, whatever the rules need


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser = subparsers.add_parser("redis", help="Redis killed and started again under load")
    parser.add_argument("--bundle", type=Path, help="what is served; default: a small one is trained")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--down", type=float, default=2.0, help="seconds that Redis is away, each time")
    parser.add_argument("--up", type=float, default=2.0, help="seconds that it is there between two kills")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser


class Load:
    """Questions and events that go on until ``stop`` is set; every reply is counted under the ``phase`` it was sent in, where
    that is still the phase when it comes (else under "between")."""

    def __init__(self, running: Running, items: list[str | int], seed: int) -> None:
        self.running, self.items, self.seed = running, items, seed
        self.phase = "up"
        self.stop = threading.Event()
        self.answers: Counter[tuple[str, Any, bool]] = Counter()  # (phase, status, live events missing)
        self.events: Counter[tuple[str, Any]] = Counter()  # (phase, status)
        self.slowest = dict.fromkeys(("up", "between", "down"), 0.0)  # seconds of the slowest answer of a phase
        self.stored: dict[str, list[tuple[Any, int]]] = {}  # user: acknowledged (item, time)
        self.threads = in_threads(READERS, self._read) + in_threads(WRITERS, self._write)

    def _read(self, number: int) -> None:
        client, rng = self.running.client(), random.Random(f"{self.seed} reader {number}")
        while not self.stop.is_set():
            phase, began = self.phase, time.monotonic()
            reply = client.post("/v1/recommend", {"user_id": f"w{rng.randrange(WRITERS)} {rng.randrange(USERS)}", "k": 10})
            phase = phase if phase == self.phase else "between"
            self.slowest[phase] = max(self.slowest[phase], time.monotonic() - began)
            missing = reply.status == 200 and reply.body["missing"] == ["live_events"]
            self.answers[phase, reply.status, missing] += 1
            time.sleep(0.005)

    def _write(self, number: int) -> None:
        client, rng = self.running.client(), random.Random(f"{self.seed} writer {number}")
        for batch in itertools.count():
            if self.stop.is_set():
                return
            user = f"w{number} {rng.randrange(USERS)}"
            shown = [(rng.choice(self.items), START + EVENTS * batch + n) for n in range(EVENTS)]
            self._send(client, f"{number} {batch}", user, shown)

    def _send(self, client: Client, name: str, user: str, shown: list[tuple[Any, int]]) -> None:
        """Send one batch until it is acknowledged."""
        events = [
            {"event_id": f"{name} {n}", "user_id": user, "item_id": item, "timestamp": at, "clicked": n == 0}
            for n, (item, at) in enumerate(shown)
        ]
        while True:
            phase = self.phase
            reply = client.post("/v1/events", {"events": events})
            self.events[phase if phase == self.phase else "between", reply.status] += 1
            if reply.status == 200:
                self.stored.setdefault(user, []).extend(shown)
                return
            time.sleep(0.02)

    def ask(self) -> tuple[int, bool]:
        """Status of one question, and whether its answer is whole."""
        reply = self.running.client().post("/v1/recommend", {"user_id": "w0 0", "k": 10})
        return reply.status, reply.status == 200 and reply.body["missing"] == []


def run(args: argparse.Namespace) -> dict[str, Any]:
    began, rng = time.monotonic(), random.Random(args.seed)
    bundle = args.bundle or small_bundle(args.folder)
    server = RedisServer(args.folder / "redis")
    server.start()
    recovery: list[float] = []
    try:
        with serve(bundle, args.folder, "--state", server.url, "--workers", args.workers) as running:
            load = Load(running, known_items(bundle), args.seed)
            for _ in range(args.kills):
                time.sleep(args.up * rng.uniform(0.5, 1.5))
                recovery.append(killed_once(server, load, args.down))
            time.sleep(args.up)
            load.stop.set()
            for thread in load.threads:
                thread.join(timeout=60)
            found = figures(load, recovery, running)
    finally:
        server.stop()
    return {"kills": args.kills, **found, "seconds": round(time.monotonic() - began, 1)}


def killed_once(server: RedisServer, load: Load, down: float) -> float:
    """Kill the server, let it be away, start it: the seconds from then until a question and an event are whole again."""
    load.phase = "between"
    server.kill()
    time.sleep(0.1)
    load.phase = "down"
    time.sleep(down)
    load.phase = "between"
    before = load.events["between", 200]
    server.start()
    seconds = wait_for(
        lambda: load.ask() == (200, True) and load.events["between", 200] >= before + 2 * WRITERS, MANY_SECONDS, "back"
    )
    load.phase = "up"
    return seconds


def figures(load: Load, recovery: list[float], running: Running) -> dict[str, Any]:
    """What was seen, and what of it should not have been."""
    degraded = load.answers["down", 200, True]
    refused = load.events["down", 503]
    lost, doubled = held(load)
    others = {str(key): count for key, count in load.answers.items() if key[1] != 200}
    others |= {str(key): count for key, count in load.events.items() if key[1] not in (200, 503)}
    wrong = {
        "a question was not answered, or an event got another status": bool(others),
        "an answer said nothing of the events that it missed": load.answers["down", 200, False] > 0,
        "events were acknowledged while Redis was down": load.events["down", 200] > 0,
        "an answer was not whole while Redis was up": load.answers["up", 200, True] > 0,
        "events were refused while Redis was up": load.events["up", 503] > 0,
        "nothing was asked or sent while Redis was down": not degraded or not refused,
        "acknowledged events are lost or doubled": bool(lost or doubled),
        "the service ended": not running.alive,
        "a thread of the load ended": any(thread.is_alive() for thread in load.threads),
    }
    return {
        "answers": sum(load.answers.values()), "of them degraded (200, missing: live_events)": degraded,
        "batches of events": sum(load.events.values()), "of them refused while down (503)": refused,
        "other statuses": others, "slowest answer, up (s)": round(load.slowest["up"], 3),
        "slowest answer, down (s)": round(load.slowest["down"], 3),
        "slowest recovery (s)": round(max(recovery), 3), "acknowledged events": sum(map(len, load.stored.values())),
        "lost": lost, "doubled": doubled, "failed": [what for what, is_so in wrong.items() if is_so],
    }  # fmt: skip


def held(load: Load) -> tuple[int, int]:
    """How many acknowledged events are not held at the end, and how many are held more than once."""
    lost = doubled = 0
    client = load.running.client()
    for user, stored in load.stored.items():
        shown = client.user(user)
        there = Counter((event["item_id"], event["timestamp"]) for event in shown["events"])
        newest = set(sorted(stored, key=lambda one: one[1])[-len(shown["events"]) :])  # it shows the newest thousand
        lost += len(newest - set(there)) + max(0, len(set(stored)) - shown["events_held"])
        doubled += sum(there.values()) - len(there)
    return lost, doubled
