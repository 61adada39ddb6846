"""This package beside other libraries: the same log, shape, loss and one pinned thread, in turns within one run.

    python benchmarks/peers.py --data interactions.parquet --measure train --length 50 \
        --peer pmixer=PYTHON --library pmixer=CHECKOUT --peer replay=PYTHON --peer rectools=PYTHON

PYTHON is the interpreter of an environment in which that library is installed; each side is a child process of its own
(`benchmarks/peers/`), which stays alive and works when its turn comes. Without ``--peer`` it measures this package alone.

- ``train``: target positions trained a CPU second; ``evaluate``: users a CPU second over the whole catalogue;
- ``first-batch``: seconds from the raw file to the first batch, imports done; ``answer``: milliseconds for a new user;
- ``quality``: NDCG@10 of the last click over all unseen items, against CPU seconds of training.

Every table has the peak memory of the child. CPU seconds are of all threads of the child.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BEGIN = 1_600_000_000
LOSSES = {
    "xdm": ("sampled", "softmax", "bce"),
    "pmixer": ("bce",),
    "replay": ("softmax", "sampled"),
    "rectools": ("softmax", "sampled"),
    "recbole": ("softmax",),
    "gsasrec": ("bce", "gbce"),
}
NOT_OFFERED = {(name, "answer") for name in ("pmixer", "gsasrec", "recbole", "replay")} | {
    ("pmixer", "evaluate"), ("replay", "evaluate"), ("pmixer", "first-batch"), ("gsasrec", "first-batch"), ("recbole", "first-batch"),
}  # fmt: skip
ANSWERS = 20
SIDES = Path(__file__).parent / "peers"
ONE_THREAD = dict.fromkeys((
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS",
    "ARROW_NUM_THREADS", "ARROW_IO_THREADS",
), "1")  # fmt: skip
SHAPE = ("length", "batch", "width", "blocks", "heads", "dropout", "learning_rate", "seed")


def generated(users: int, items: int, events: int, seed: int = 1) -> pa.Table:
    """A log of ``events`` clicks, heavy-tailed in users and items, in which every item is clicked."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(0, 1, users)
    user = rng.choice(users, events, p=activity / activity.sum())
    item = np.minimum(items * rng.random(events) ** 3, items - 1).astype(np.int64)
    item[rng.permutation(events)[:items]] = np.arange(items)
    return pa.table({"user_id": user, "item_id": item, "timestamp": np.arange(events)})


def write_data(table: pa.Table, folder: Path) -> str:
    """``log.parquet`` and ``sequences.npz`` (`peers/measuring.py`) from a table with ``user_id``, ``item_id``, ``timestamp``.

    Ids become numbers, and times are moved so that each user's last click falls on the log's last second, the one before
    on the second before that, and so on: leave-one-out is then a split by time, which every library has.
    """
    columns = {name: table[name].combine_chunks().dictionary_encode() for name in ("user_id", "item_id")}
    user, item = (column.indices.to_numpy() + 1 for column in columns.values())
    order = np.lexsort((np.arange(len(user)), table["timestamp"].to_numpy(), user))
    enough = np.bincount(user)[user[order]] >= 4
    order = order[enough]
    user, item = np.unique(user[order], return_inverse=True)[1] + 1, np.unique(item[order], return_inverse=True)[1] + 1
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user)[1:])]).astype(np.int64)
    time = BEGIN + np.diff(offsets).max() - (offsets[user] - np.arange(len(user)))
    np.savez(folder / "sequences.npz", offsets=offsets, items=item.astype(np.int64))
    in_time = np.argsort(time, kind="stable")  # as logs come
    pq.write_table(pa.table({
        "user_id": pa.array(user[in_time]).cast(pa.string()), "item_id": pa.array(item[in_time]).cast(pa.string()),
        "timestamp": time[in_time], "clicked": np.ones(len(user), bool),
    }), folder / "log.parquet")  # fmt: skip
    return f"{len(offsets) - 1:,} users, {item.max():,} items, {len(user):,} clicks"


class Job(NamedTuple):
    """A side and one of its losses."""

    name: str
    loss: str


class Child:
    """One side with one loss, as a process."""

    def __init__(self, job: Job, python: str, library: str, folder: Path, options: argparse.Namespace) -> None:
        self.name, self.loss = name, loss = job
        self.errors = folder / f"{name}-{loss}.log"
        task = {key: getattr(options, key) for key in SHAPE} | {"folder": str(folder), "library": library, "loss": loss}
        command = [python, "-P", str(SIDES / f"{name}_side.py"), json.dumps(task)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors.open("w"), text=True, cwd=folder,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(SIDES), "PYTHONWARNINGS": "ignore"},
            preexec_fn=lambda: os.sched_setaffinity(0, {options.core}),
        )  # fmt: skip
        self.hear()

    def hear(self) -> dict[str, Any]:
        """The next answer; where the process ended instead, the end of what it said."""
        line = self.process.stdout.readline()
        if not line:
            said = self.errors.read_text().strip().splitlines()
            raise SystemExit(f"{self.name} ({self.loss}) ended without an answer:\n" + "\n".join(said[-15:]))
        return json.loads(line)

    def ask(self, **command: Any) -> dict[str, Any]:
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.hear()

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def rates(children: list[Child], options: argparse.Namespace) -> None:
    """``train`` and ``evaluate``: median over the rounds of what was done a CPU second."""
    found = defaultdict(list)
    for _ in range(options.rounds):
        for child in children:
            answer = child.ask(measure=options.measure, seconds=options.seconds)
            done = answer["positions"] if options.measure == "train" else answer["result"]
            found[child].append((done / answer["cpu"], answer["peak_mb"]))
    unit = "target positions" if options.measure == "train" else "users"
    table(found, f"{unit} a CPU second", "{:,.0f}")


def seconds(children: list[Child], options: argparse.Namespace) -> None:
    """``answer``: milliseconds of single answers, of which each round asks for some."""
    found = defaultdict(list)
    for _ in range(options.rounds):
        for child in children:
            for _ in range(ANSWERS):
                answer = child.ask(measure="answer")
                found[child].append((answer["seconds"] * 1e3, answer["peak_mb"]))
    table(found, "ms for a new user's answer", "{:,.2f}")


def first_batches(jobs: list[Job], start: Callable[[Job], Child], rounds: int) -> None:
    """``first-batch``: a process for each side and round, since nothing may be left from the round before."""
    wall, cpu = defaultdict(list), defaultdict(list)
    for _ in range(rounds):
        for job in jobs:
            child = start(job)
            answer = child.ask(measure="first-batch")
            wall[job].append((answer["seconds"], answer["peak_mb"]))
            cpu[job].append((answer["cpu"], answer["peak_mb"]))
            child.end()
    table(wall, "seconds from file to first batch", "{:,.2f}")
    table(cpu, "CPU seconds from file to first batch", "{:,.2f}")


def qualities(children: list[Child], options: argparse.Namespace) -> None:
    """``quality``: a row for each side and round of training; the clock stands while the lists are judged."""
    print("| side | loss | CPU seconds | positions trained | HR@10 | NDCG@10 | peak MB |\n| --- | --- | --- | --- | --- | --- | --- |")
    trained = dict.fromkeys(children, 0)
    for _ in range(options.rounds):
        for child in children:
            answer = child.ask(measure="train", seconds=options.seconds)
            trained[child] += answer["positions"]
            judged = child.ask(measure="judge")
            print(
                f"| {child.name} | {child.loss} | {answer['trained']:,.0f} | {trained[child]:,} | {judged['hr@10']:.4f} | "
                f"{judged['ndcg@10']:.4f} | {judged['peak_mb']:,.0f} |", flush=True,
            )  # fmt: skip


def table(found: dict[Any, list[tuple[float, float]]], unit: str, form: str) -> None:
    """One row a side: median and spread over the rounds, its ratio to our first row, the largest peak memory."""
    ours = statistics.median(value for value, _ in next(iter(found.values())))
    print(f"| side | loss | {unit} | smallest to largest | to ours | peak MB |\n| --- | --- | --- | --- | --- | --- |")
    for side, values in found.items():
        rates = [value for value, _ in values]
        middle, low, high = statistics.median(rates), min(rates), max(rates)
        peak = max(peak for _, peak in values)
        print(
            f"| {side.name} | {side.loss} | {form.format(middle)} | {form.format(low)} to {form.format(high)} | "
            f"{middle / ours:.3f} | {peak:,.0f} |"
        )


def named(values: list[str]) -> dict[str, str]:
    return dict(value.split("=", 1) for value in values)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=("train", "evaluate", "first-batch", "answer", "quality"), default="train")
    parser.add_argument("--data", help="Parquet with user_id, item_id and timestamp; left out: a generated log")
    parser.add_argument("--generate", type=int, nargs=3, default=(50_000, 200_000, 5_000_000), metavar=("USERS", "ITEMS", "CLICKS"))
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON", help=f"of {', '.join(list(LOSSES)[1:])}")
    parser.add_argument("--library", action="append", default=[], metavar="NAME=CHECKOUT", help="for pmixer and gsasrec")
    parser.add_argument("--loss", action="append", default=[], metavar="[NAME:]LOSS", help="only these; left out: all that a side has")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--seconds", type=float, default=10, help="CPU seconds of training in a turn")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="which all sides are pinned to")
    for option, default in (("length", 50), ("batch", 128), ("width", 64), ("blocks", 2), ("heads", 2), ("seed", 1)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    sides = {"xdm": sys.executable, **named(options.peer)}
    libraries = named(options.library)
    if unknown := (sides.keys() | libraries.keys()) - LOSSES.keys():
        raise SystemExit(f"there is no side {', '.join(sorted(unknown))}; there are {', '.join(LOSSES)}")
    asked = set(options.loss)
    jobs = [
        Job(name, loss) for name in sides for loss in LOSSES[name] if not asked or asked & {loss, f"{name}:{loss}"}
    ]  # fmt: skip
    if options.measure not in ("train", "quality"):  # the loss changes nothing there
        jobs = [Job(name, LOSSES[name][0]) for name in sides if (name, options.measure) not in NOT_OFFERED]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = pq.read_table(options.data) if options.data else generated(*options.generate)
        print(write_data(log, folder), f"; d = {options.width}, length {options.length}, batch {options.batch}, core {options.core}")

        def start(job: Job) -> Child:
            return Child(job, sides[job.name], libraries.get(job.name, ""), folder, options)

        if options.measure == "first-batch":
            first_batches(jobs, start, options.rounds)
            return
        children = [start(job) for job in jobs]
        {"train": rates, "evaluate": rates, "answer": seconds, "quality": qualities}[options.measure](children, options)
        for child in children:
            child.end()


if __name__ == "__main__":
    main()
