"""Offline and live agree: a log replayed through `POST /v1/events` gives the answers that `xdm recommend` gives over its store.

The times of the log are moved together so that it ends now: the service deletes what no rule needs *now*. Its events are sent
out of order (the order of one user's one second is kept, as that is the order of the log), and some batches are sent twice.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from benchmarks.serving.process import Client, run_xdm, serve, simulated_log, trained

BATCH = 500  # events
TWICE = 0.1  # share of the batches that are sent again
TOLERANCE = 1e-5  # of a list's largest score

Scored = list[tuple[Any, float]]  # (item_id, score), best first


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser = subparsers.add_parser("agree", help="a log replayed live gives the offline answers")
    parser.add_argument("--log", type=Path, help="Parquet log as `xdm prepare` reads it; default: a simulated one")
    parser.add_argument("--items", type=Path, help="its items table")
    parser.add_argument("--bundle", type=Path, help="a bundle over the log's items; default: one is trained")
    parser.add_argument("--model", default="xdm", help="what is trained")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--users", type=int, default=1000, help="how many are replayed, drawn at random")
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    folder, rng, began = args.folder, random.Random(args.seed), time.monotonic()
    log = args.log or simulated_log(folder, users=args.users)
    items = args.items or (None if args.log else log.with_name("items.parquet"))
    moved = pq.read_table(log)
    at = int(time.time())
    moved = moved.set_column(
        moved.schema.get_field_index("timestamp"), "timestamp",
        pc.add(moved["timestamp"], at - 1 - pc.max(moved["timestamp"]).as_py()),
    )  # fmt: skip
    bundle, offline = answered_offline(moved, items, at, args)
    users = rng.sample(sorted(offline), min(args.users, len(offline)))
    events = replayed(moved, set(users), rng)
    with serve(bundle, folder, "--state", folder / "state.sqlite", "--set", "deadline_ms=30000") as running:
        client = running.client()
        sent_twice = replay(client, events, rng)
        answers = {user: answer(client, user, at, args.k) for user in users}
        running.stop()
    found = [compared(answers[user]["items"], offline[user]) for user in users]
    of_model = sum(answers[user]["source"] == "model" for user in users)
    different = sum(one is None for one in found)
    swaps = [one for one in found if one is not None]
    lists = {tuple(item["item_id"] for item in one["items"]) for one in answers.values()}
    return {
        "users": len(users), "events": len(events), "batches sent twice": sent_twice, "answered by the model": of_model,
        "different lists among users": len(lists),
        "equal to the last place": sum(one == 0 for one in swaps), "equal but for ties": sum(one > 0 for one in swaps),
        "places swapped among ties": sum(swaps), "unequal": different,
        "seconds": round(time.monotonic() - began, 1),
        "failed": [f"{different} users have other answers"] if different else [],
    }  # fmt: skip


def answered_offline(log: pa.Table, items: Path | None, at: int, args: argparse.Namespace) -> tuple[Path, dict[Any, Scored]]:
    """A bundle for ``log``, and the answer to each user by `xdm recommend --all`: ``{user_id: list}``."""
    folder: Path = args.folder
    pq.write_table(log, folder / "moved.parquet")
    with_items = ["--items", items] if items else []
    run_xdm("prepare", folder / "moved.parquet", "--out", folder / "store", "--overwrite", *with_items)
    bundle = args.bundle or trained(folder / "store", folder / "models" / "bundle", args.model, args.epochs)
    top = folder / "top.parquet"
    run_xdm("recommend", bundle, folder / "store", "--all", "--at", at, "--k", args.k, "--out", top, "--overwrite")
    offline: dict[Any, Scored] = {}
    for row in pq.read_table(top).sort_by([("user_id", "ascending"), ("rank", "ascending")]).to_pylist():
        offline.setdefault(row["user_id"], []).append((row["item_id"], row["score"]))
    return bundle, offline


def replayed(log: pa.Table, users: set[Any], rng: random.Random) -> list[dict[str, Any]]:
    """The events of ``users``, seconds in a random order; within a second in the order of the log."""
    names = [name for name in ("user_id", "item_id", "timestamp", "clicked", "session_id") if name in log.column_names]
    rows = [row for row in log.select(names).to_pylist() if row["user_id"] in users]
    place = {(row["user_id"], row["timestamp"]): rng.random() for row in rows}
    rows.sort(key=lambda row: place[row["user_id"], row["timestamp"]])
    return [row | {"event_id": number} for number, row in enumerate(rows)]


def replay(client: Client, events: Sequence[dict[str, Any]], rng: random.Random) -> int:
    """Send all events; the number of batches that were sent twice, which must change nothing."""
    twice = 0
    for batch in _batches(events):
        again = rng.random() < TWICE
        for accepted in [len(batch), 0][: 1 + again]:
            reply = client.post("/v1/events", {"events": batch})
            if reply.status != 200 or (reply.body["accepted"], reply.body["duplicates"]) != (accepted, len(batch) - accepted):
                raise RuntimeError(f"POST /v1/events: {reply}")
        twice += again
    return twice


def _batches(events: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    return (events[first : first + BATCH] for first in range(0, len(events), BATCH))


def answer(client: Client, user: Any, at: int, k: int) -> dict[str, Any]:
    """The live answer to one user."""
    reply = client.post("/v1/recommend", {"user_id": user, "k": k, "timestamp": at})
    if reply.status != 200 or reply.body["fallback"] in ("model", "index", "deadline", "overload"):
        raise RuntimeError(f"POST /v1/recommend: {reply}")
    return reply.body


def compared(live: Sequence[dict[str, Any]], offline: Scored) -> int | None:
    """How many places of two lists hold different items although their scores are the same within `TOLERANCE`; None where the
    lists differ by more: another score at a place or of an item, or an item that is missing and not of the last one's score."""
    near = TOLERANCE * max((abs(score) for _, score in offline), default=0.0)
    if len(live) != len(offline):
        return None
    score_of = dict(offline)
    swapped = 0
    for one, (item, score) in zip(live, offline, strict=True):
        other = score_of.get(one["item_id"], offline[-1][1])
        if abs(one["score"] - score) > near or abs(one["score"] - other) > near:
            return None
        swapped += one["item_id"] != item
    return swapped
