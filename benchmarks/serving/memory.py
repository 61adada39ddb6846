"""No leak: the memory of one `xdm serve` over many requests of every kind, good and bad."""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from benchmarks.serving.process import Running, in_threads, known_items, serve, small_bundle, wait_for

THREADS = 6
USERS = 5000
GROWTH = 0.05  # of the memory after the first requests, that it may have grown by at the end
Request = tuple[str, str, bytes | None]  # method, path, body


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser = subparsers.add_parser("memory", help="resident memory over many requests of all kinds")
    parser.add_argument("--bundle", type=Path, help="what is served; default: a small one is trained")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--first", type=int, default=20_000, help="requests after which the memory is compared")
    parser.add_argument("--seed", type=int, default=0)
    return parser


class Kinds:
    """Requests at random, of every kind that a client may send."""

    def __init__(self, items: list[str | int], rng: random.Random) -> None:
        self.items, self.rng = items, rng
        self._numbers = itertools.count()
        shares: list[tuple[Callable[[], Request], int]] = [
            (self.recommend, 40), (self.new_user, 10), (self.batch, 2), (self.events, 20), (self.similar, 6), (self.show, 5),
            (self.delete, 1), (self.bad_body, 10), (self.bad_field, 4), (self.nowhere, 1), (self.looks, 1),
        ]  # fmt: skip
        self._makers, self._weights = [maker for maker, _ in shares], [share for _, share in shares]

    def one(self) -> tuple[str, Request]:
        maker = self.rng.choices(self._makers, self._weights)[0]
        return maker.__name__, maker()

    def _user(self) -> str:
        return f"user {self.rng.randrange(USERS)}"

    def _events(self, count: int, **more: Any) -> list[dict[str, Any]]:
        now = int(time.time())
        return [
            {"item_id": self.rng.choice(self.items), "timestamp": now - self.rng.randrange(10**5), "clicked": n % 3 == 0, **more}
            for n in range(count)
        ]

    def recommend(self) -> Request:
        asked = {"user_id": self._user(), "k": self.rng.randint(1, 60), "exclude_clicked": self.rng.random() < 0.3}
        return _post("/v1/recommend", asked)

    def new_user(self) -> Request:
        asked = {"user_id": f"{self.rng.random()}", "events": self._events(5), "only": self.rng.sample(self.items, 9)}
        return _post("/v1/recommend", asked)

    def batch(self) -> Request:
        return _post("/v1/recommend/batch", {"questions": [{"user_id": self._user(), "k": 5} for _ in range(8)]})

    def events(self) -> Request:
        return _post("/v1/events", {"events": self._events(self.rng.randint(1, 4), user_id=self._user())})

    def similar(self) -> Request:
        return _post("/v1/similar", {"item_id": self.rng.choice(self.items), "k": 10})

    def show(self) -> Request:
        return "GET", f"/v1/users/user%20{self.rng.randrange(USERS)}", None

    def delete(self) -> Request:
        return "DELETE", f"/v1/users/user%20{self.rng.randrange(USERS)}", None

    def bad_body(self) -> Request:
        body = json.dumps({"user_id": self._user(), "events": self._events(20)}).encode()
        broken = [body[: self.rng.randrange(len(body))], self.rng.randbytes(300), b"[" * 1000, b'{"user_id": "\xff"}', b""]
        return "POST", self.rng.choice(["/v1/recommend", "/v1/events", "/v1/items"]), self.rng.choice(broken)

    def bad_field(self) -> Request:
        return _post("/v1/recommend", {"user_id": self._user(), "k": -1, f"field {next(self._numbers)}": 1})

    def nowhere(self) -> Request:
        return "GET", f"/v1/{self.rng.random()}", None

    def looks(self) -> Request:
        return "GET", self.rng.choice(["/health/ready", "/health/live", "/metrics", "/v1/models", "/openapi.json"]), None


def _post(path: str, message: Any) -> Request:
    return "POST", path, json.dumps(message).encode()


def run(args: argparse.Namespace) -> dict[str, Any]:
    bundle = args.bundle or small_bundle(args.folder)
    items = known_items(bundle)
    with serve(bundle, args.folder, "--state", args.folder / "state.sqlite") as running:
        return measured(running, items, args)


def measured(running: Running, items: list[str | int], args: argparse.Namespace) -> dict[str, Any]:
    """Send the requests from several threads, and look at the memory a hundred times on the way."""
    began, numbers, lock = time.monotonic(), itertools.count(), threading.Lock()
    statuses: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    sent = 0

    def work(thread: int) -> None:
        nonlocal sent
        client, requests = running.client(), Kinds(items, random.Random(f"{args.seed} {thread}"))
        while next(numbers) < args.requests:
            kind, request = requests.one()
            try:
                status = str(client.send(*request).status)
            except (OSError, HTTPException) as error:
                status = type(error).__name__
            with lock:
                kinds[kind] += 1
                statuses[status] += 1
                sent += 1

    threads = in_threads(THREADS, work)
    samples: list[int] = []
    step = max(1, (args.requests - args.first) // 100)
    for reached in range(args.first, args.requests + 1, step):
        wait_for(lambda reached=reached: sent >= reached, 3600, f"{reached} requests")  # type: ignore[misc]
        samples.append(running.resident())
    for thread in threads:
        thread.join()
    return {
        "requests": sent, "kinds": dict(kinds), "statuses": dict(sorted(statuses.items())),
        **judged(samples, statuses, running), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def judged(samples: list[int], statuses: Counter[str], running: Running) -> dict[str, Any]:
    """From the memory along the way (bytes): how much it grew, over all and from the third quarter to the last."""
    quarter = max(1, len(samples) // 4)
    growth = statistics.median(samples[-3:]) / samples[0] - 1
    late = statistics.median(samples[-quarter:]) / statistics.median(samples[-2 * quarter : -quarter]) - 1
    wrong = {
        f"the memory grew by {growth:.1%}": growth > GROWTH,
        f"it still grows: {late:.1%} from the third quarter to the last": late > GROWTH / 5,
        "a status of 500 and more, or no answer": any(not "200" <= status < "500" for status in statuses),
        "the service ended": not running.alive,
    }
    return {
        "MiB after the first": round(samples[0] / 2**20, 1), "MiB at the end": round(samples[-1] / 2**20, 1),
        "MiB at most": round(max(samples) / 2**20, 1), "growth": round(growth, 4), "growth, last quarter": round(late, 4),
        "failed": [what for what, is_so in wrong.items() if is_so],
    }  # fmt: skip
