"""A million items under load, beside a FastAPI endpoint with a plain NumPy product over the same vectors, in turns on loopback.

wrk keeps a number of connections busy, each sending the next question when it has its answer; users differ from question to
question and have live events. A side's rate is what it answers a second at the number of connections where that is highest; it
counts for the bound only where the 99th percentile of the answer times is below it. Medians of several rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from benchmarks.serving.million import Made, make
from benchmarks.serving.process import Client, Running, serve, wait_for

BOUND_MS = 25.0
TIMES_RIVAL = 5.0
MIN_RECALL = 0.99
SCRIPT = Path(__file__).with_name("wrk.lua")
ROOT = Path(__file__).resolve().parents[2]


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser = subparsers.add_parser("load", help="a million items: the rate that is held, beside plain NumPy")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--users", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=1, help="of xdm serve")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 2, 4, 8, 12, 16, 24, 32])
    parser.add_argument("--seconds", type=int, default=6, help="of one turn of one side")
    parser.add_argument("--rounds", type=int, default=3)
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    if shutil.which("wrk") is None:
        raise SystemExit("the load is made by wrk, which is not there; install the Debian package wrk")
    made = make(args.folder, args.items, args.width, args.users)
    bodies = args.folder / "bodies"
    asked = random.Random(1).sample(made.users, len(made.users))
    bodies.write_text("".join(json.dumps({"user_id": user, "k": args.k}) + "\n" for user in asked))
    state = args.folder / f"load-{time.time_ns()}.sqlite"
    options = ("--state", state, "--history", made.store, "--durability", "normal")
    with (
        serve(made.bundle, args.folder, *options, "--workers", args.workers) as ours,
        rival(args.folder, made) as theirs,
    ):
        post(ours, made.live)
        sides = {"xdm": (ours.port, ours.process.pid), "numpy": (theirs.port, theirs.process.pid)}
        for side in sides.values():
            turn(*side, 2, 2, bodies)  # compiled and in memory before the clock starts
        seen = [
            {"side": name, "connections": connections} | turn(*side, connections, args.seconds, bodies)
            for _ in range(args.rounds) for connections in args.connections for name, side in sides.items()
        ]  # fmt: skip
        fallbacks = not_by_the_model(ours)
        found = recall_live(ours, made, asked[:300], args.k, options)
    return judged(args, made, seen, fallbacks, found)


def judged(
    args: argparse.Namespace, made: Made, seen: Sequence[dict[str, Any]], fallbacks: float, found: float
) -> dict[str, Any]:
    """What was seen, by side and number of connections, and what of it is not as it must be."""
    rows = []
    for side in ("xdm", "numpy"):
        for connections in args.connections:
            turns = [one for one in seen if (one["side"], one["connections"]) == (side, connections)]
            middle = {name: statistics.median(one[name] for one in turns) for name in ("rate", "p50", "p99", "cpu")}
            rows.append({"side": side, "connections": connections, **middle, "errors": sum(one["errors"] for one in turns)})

    def best(side: str, bound: float) -> float:
        return max((row["rate"] for row in rows if row["side"] == side and row["p99"] < bound), default=0.0)

    ours, theirs, theirs_at_all = best("xdm", BOUND_MS), best("numpy", BOUND_MS), best("numpy", float("inf"))
    errors = sum(row["errors"] for row in rows if row["side"] == "xdm")
    failed = {
        f"no rate at which p99 is below {BOUND_MS} ms": ours == 0,
        f"less than {TIMES_RIVAL} x the rival's rate": ours < TIMES_RIVAL * theirs_at_all,
        f"recall below {MIN_RECALL}": min(found, made.index["recall"]) < MIN_RECALL,
        "errors": errors > 0,
        "answers that are not the model's": fallbacks > 0,
    }
    return {
        "items": args.items, "k": args.k, "workers": args.workers, "rows": rows, "index": made.index,
        "rate with p99 below the bound": ours, "the rival's": theirs, "the rival's at any p99": theirs_at_all,
        "times the rival's": ours / theirs if theirs else float("inf"), "times the rival's at any p99": ours / theirs_at_all,
        "recall of the index, measured when built": made.index["recall"], "recall of live answers": found,
        "answers that are not the model's": fallbacks, "failed": [reason for reason, holds in failed.items() if holds],
    }  # fmt: skip


def turn(port: int, process: int, connections: int, seconds: int, bodies: Path) -> dict[str, float]:
    """wrk's figures: answers a second, milliseconds, errors (no 2xx, or no answer); and CPU milliseconds an answer, which other work
    on the machine changes little."""
    url = f"http://127.0.0.1:{port}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT), url, "--", str(bodies)]
    before = cpu_seconds(process)
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(ran.stdout.splitlines()[-1])
    cpu = 1e3 * (cpu_seconds(process) - before) / max(1, figures["requests"])
    return figures | {"rate": figures["requests"] / figures["seconds"], "cpu": cpu}


def cpu_seconds(process: int) -> float:
    """What a process and its workers have used."""
    family = psutil.Process(process)
    return sum(sum(one.cpu_times()[:2]) for one in (family, *family.children(recursive=True)))


def post(ours: Running, live: Sequence[dict[str, Any]], batch: int = 1000) -> None:
    """Send the live events.

    Raises:
        RuntimeError: they are not accepted.
    """
    client = ours.client()
    for first in range(0, len(live), batch):
        some = live[first : first + batch]
        reply = client.post("/v1/events", {"events": some})
        if reply.status != 200 or reply.body["accepted"] != len(some):
            raise RuntimeError(f"POST /v1/events: {reply}")


def not_by_the_model(ours: Running) -> float:
    """How many questions were not answered by the model in its usual way, by the service's own count."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{ours.port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    counts = [line for line in lines if line.startswith("xdm_answers_total{")]
    return sum(float(line.split()[-1]) for line in counts if 'source="model"' not in line or 'fallback=""' not in line)


def recall_live(ours: Running, made: Made, users: Sequence[str], k: int, options: Sequence[object]) -> float:
    """The share of the exact answers' items that the live answers hold: the same questions to the service and to one that scores
    every item, over the same state and at the same second."""
    at = int(time.time())
    with serve(made.bundle, ours.log.parent / "exact", *options, "--set", "index=exact", "--set", "deadline_ms=10000") as exact:
        lists = [[_items(running.client(), user, k, at) for user in users] for running in (ours, exact)]
    return float(np.mean([len(found & wanted) / len(wanted) for found, wanted in zip(*lists, strict=True)]))


def _items(client: Client, user: str, k: int, at: int) -> set[Any]:
    reply = client.post("/v1/recommend", {"user_id": user, "k": k, "timestamp": at})
    if reply.status != 200 or (reply.body["source"], reply.body["fallback"]) != ("model", None):
        raise RuntimeError(f"POST /v1/recommend: {reply}")
    return {item["item_id"] for item in reply.body["items"]}


@contextmanager
def rival(folder: Path, made: Made) -> Iterator[Running]:
    """The rival, running. Its queries are the model's for the users of the store."""
    from xdm.bundle.indexing import sample_queries
    from xdm.bundle.reading import load_recommender
    from xdm.log.store import Store

    recommender = load_recommender(made.bundle, verify=False, threads=1)
    drawn = sample_queries(recommender, Store(made.store), len(made.users))[:, 0]
    np.save(folder / "queries.npy", np.resize(drawn, (len(made.users), drawn.shape[1])))
    (folder / "users.json").write_text(json.dumps(made.users))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    files = [made.bundle / "item_vectors.npy", folder / "queries.npy", folder / "users.json"]
    command = [sys.executable, "-m", "benchmarks.serving.rival", *map(str, files), str(port)]
    # One thread for a product: memory is what it waits for, and threads of several requests at once fight (9 answers a second at 24).
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, text=True, env=one_thread) as process:
        try:
            wait_for(lambda: _listens(port), 60, "the rival")
            yield Running(process, port, folder / "rival.log")
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
