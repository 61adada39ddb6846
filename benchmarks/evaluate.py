"""Evaluation in bounded memory: users a second and peak memory against a plain torch matmul + topk loop.

    python benchmarks/evaluate.py [--users 100000] [--items 1000000] [--d 64] [--k 100] [--torch-users 10000]

Our side is the whole of `xdm.evaluation.running.evaluate`: questions, exact top-K over the catalogue, both baselines,
every metric, per-user records and all lists written to disk. The torch side only finds the top K of chunks of users.
Random vectors stand for a model. Each side runs in a process of its own, which reports its peak resident memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from xdm.evaluation.running import evaluate
from xdm.evaluation.splits import Split
from xdm.log.store import FORMAT, FORMAT_VERSION, Store, write_entities
from xdm.retrieval.exact import ExactRetriever
from xdm.retrieval.types import MODEL, Points, TopK

START, DAY = 1_600_000_000, 86_400
CUT_OFF, UNTIL = START + 7 * DAY, START + 8 * DAY
EVENTS_PER_USER = 20


class VectorRecommender:
    """One vector a user: a model whose user tower costs nothing."""

    def __init__(self, store: Store, users: np.ndarray, items: np.ndarray) -> None:
        self.catalogue, self.users = store.items.vocabulary, store.users.vocabulary
        self.vectors, self.retriever = users, ExactRetriever(items)

    def top_k(self, points: Points, k: int, exclude: list[np.ndarray] | None = None) -> TopK:
        scores, items = self.retriever.top_k(self.vectors[points.user - 1][:, None], k, exclude)
        return TopK(items, scores, np.full(len(points), MODEL, np.uint8))


def write_inputs(folder: Path, n_users: int, n_items: int, d: int) -> None:
    """A store of one part with a heavy-tailed item distribution, 20 % clicks, the last day after the cut-off."""
    rng = np.random.default_rng(7)
    for name, rows in (("user_vectors", n_users), ("item_vectors", n_items)):
        np.save(folder / f"{name}.npy", rng.standard_normal((rows, d), np.float32))
    n = n_users * EVENTS_PER_USER
    part = folder / "store" / "parts" / "00000"
    part.mkdir(parents=True)
    item = np.minimum(rng.zipf(1.2, n), n_items).astype(np.int32)
    clicked = rng.random(n) < 0.2
    when = np.sort(rng.integers(START, UNTIL, (n_users, EVENTS_PER_USER)), axis=1)
    when[:, -1], clicked[EVENTS_PER_USER - 1 :: EVENTS_PER_USER] = UNTIL - 1, True  # every user is asked
    np.save(part / "offsets.npy", np.arange(n_users + 1, dtype=np.int64) * EVENTS_PER_USER)
    for name, column in (("item", item), ("time", when.ravel()), ("clicked", clicked)):
        np.save(part / f"{name}.npy", column)
    write_entities(folder / "store" / "items.arrow", pa.table({"item_id": np.arange(n_items) + 10}))
    write_entities(folder / "store" / "users.arrow", pa.table({"user_id": np.arange(n_users) + 10}))
    manifest = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "parts": 1, "users_per_part": [n_users],
        "has_sessions": False, "first_timestamp": START, "last_timestamp": UNTIL - 1,
    }  # fmt: skip
    (folder / "store" / "manifest.json").write_text(json.dumps(manifest))


def run_ours(folder: Path, k: int, users: int) -> None:
    store = Store(folder / "store")
    vectors = [np.load(folder / f"{name}_vectors.npy", mmap_mode="r") for name in ("user", "item")]
    metrics = evaluate(VectorRecommender(store, *vectors), store, Split("time", CUT_OFF, UNTIL), (20, k), folder / "out")
    assert metrics["questions"] == users


def run_torch(folder: Path, k: int, users: int) -> None:
    import torch

    queries, items = (torch.from_numpy(np.load(folder / f"{name}_vectors.npy")) for name in ("user", "item"))
    for first in range(0, users, 256):
        (queries[first : min(first + 256, users)] @ items.T).topk(k)


def side(name: str, folder: Path, k: int, users: int) -> tuple[float, float]:
    """Users a second and peak MB of one side, in a process of its own."""
    command = [sys.executable, __file__, "--side", name, "--folder", str(folder), "--k", str(k), "--users", str(users)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return users / answer["seconds"], answer["peak_mb"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("users", 100_000), ("items", 1_000_000), ("d", 64), ("k", 100), ("torch-users", 10_000)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--side", choices=("ours", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        start = time.perf_counter()
        {"ours": run_ours, "torch": run_torch}[arguments.side](arguments.folder, arguments.k, arguments.users)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": time.perf_counter() - start, "peak_mb": peak}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, arguments.users, arguments.items, arguments.d)
        rows = [("xdm evaluate, lists and records written", arguments.users, *side("ours", folder, arguments.k, arguments.users))]
        written = sum(file.stat().st_size for file in (folder / "out").rglob("*.parquet")) / 2**20
        some = min(arguments.torch_users, arguments.users)
        rows.append(("torch matmul + topk, chunks of 256, nothing written", some, *side("torch", folder, arguments.k, some)))
    print(f"{arguments.items:,} items, d = {arguments.d}, K = {arguments.k}; {written:,.0f} MB of records written")
    print("| side | users | users/s | peak memory, MB |\n| --- | --- | --- | --- |")
    for title, users, rate, peak in rows:
        print(f"| {title} | {users:,} | {rate:,.0f} | {peak:,.0f} |")


if __name__ == "__main__":
    main()
