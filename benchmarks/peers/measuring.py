"""What every side of `benchmarks/peers.py` shares: the data as sequences, the conversation with the parent, the clock.

A side runs under its own interpreter, so this file and those beside it need nothing but NumPy and the library that is
measured. Protocol: the parent writes one JSON object a line, the child answers each with one line.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

AfterStep = Callable[[int], None]  # called after each training step with its number of target positions
WARM_STEPS = 5  # before the clock of the first slice starts: allocations, lazy imports, compiled kernels
TOP = 10
JUDGED_AT_ONCE = 256


@dataclass(frozen=True)
class Task:
    """What is asked of a side. ``folder`` holds ``log.parquet`` (``user_id``, ``item_id``, ``timestamp``, ``clicked``) and
    ``sequences.npz``; ``library`` is a checkout, for what is no package; ``loss`` is one of the side's own ``LOSSES``."""

    folder: Path
    library: str
    loss: str
    length: int
    batch: int
    width: int
    blocks: int
    heads: int
    dropout: float
    learning_rate: float
    seed: int

    @property
    def log(self) -> Path:
        return self.folder / "log.parquet"


class Sequences:
    """Each user's items in order of time, numbered 1 to ``n_items``: the last is for the test, the one before for validation."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "sequences.npz") as held:
            self.offsets, self.items = held["offsets"], held["items"]  # int64 [U + 1], int64 [clicks]
        self.n_users, self.n_items = len(self.offsets) - 1, int(self.items.max())

    def of(self, user: int) -> np.ndarray:
        """All items of ``user`` (from 0)."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def train(self, user: int) -> np.ndarray:
        return self.of(user)[:-2]

    @property
    def truth(self) -> np.ndarray:
        """The test items ``[U]``."""
        return self.items[self.offsets[1:] - 1]

    def padded(self, length: int, users: range, *, padding: int = 0) -> np.ndarray:
        """The last ``length`` items before each user's test item, padded on the left: int64 ``[len(users), length]``."""
        out = np.full((len(users), length), padding, np.int64)
        for row, user in enumerate(users):
            known = self.of(user)[:-1][-length:]
            out[row, length - len(known) :] = known
        return out


def top_unseen(scores: np.ndarray, sequences: Sequences, users: range) -> np.ndarray:
    """The best `TOP` items of ``scores`` ``[len(users), n_items]`` (column i is item i + 1) that were not seen: int64."""
    scores = scores.copy()
    for row, user in enumerate(users):
        scores[row, sequences.of(user)[:-1] - 1] = -np.inf
    best = np.argpartition(scores, -TOP, axis=1)[:, -TOP:]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1) + 1


def chunks(n_users: int) -> list[range]:
    return [range(first, min(first + JUDGED_AT_ONCE, n_users)) for first in range(0, n_users, JUDGED_AT_ONCE)]


def quality(lists: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """HR@10 and NDCG@10 of ``lists`` ``[U, 10]`` with one true item ``[U]`` each."""
    hit = lists == truth[:, None]
    gain = hit / np.log2(np.arange(TOP) + 2)
    return {"hr@10": float(hit.any(1).mean()), "ndcg@10": float(gain.sum(1).mean())}


class Side:
    """One library. A subclass fills what it can do; what it leaves is reported as not offered."""

    LOSSES: tuple[str, ...] = ()

    def __init__(self, task: Task) -> None:
        self.task = task

    def prepare(self) -> None:
        """Read the data and build the model: no part of `train` or `evaluate` that is measured."""
        raise NotImplementedError

    def train(self, after_step: AfterStep) -> None:
        """Train for ever, saying after each step how many target positions it had."""
        raise NotImplementedError

    def lists(self) -> np.ndarray:
        """For every user the best 10 items after all but the test item, without what was seen: int64 ``[U, 10]``."""
        raise NotImplementedError

    def evaluate(self) -> int:
        """Evaluate every user over the whole catalogue by the library's own means; the number of users."""
        raise NotImplementedError

    def first_batch(self) -> None:
        """From ``task.log`` to the first batch that a training step could take, imports done."""
        raise NotImplementedError

    def answerer(self) -> Callable[[int], None]:
        """A function that answers for a user who was not in training, with that user's events, from 0."""
        raise NotImplementedError


class _Child:
    """The conversation of one child with its parent; whatever the library prints goes to standard error."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        settings = json.loads(sys.argv[1])
        self.task = Task(**{**settings, "folder": Path(settings["folder"])})

    def ask(self) -> dict[str, Any]:
        """The next command; the end of commands ends the process, in the midst of a library's own loop if need be."""
        line = sys.stdin.readline()
        if not line:
            sys.stderr.flush()
            atexit._run_exitfuncs()
            os._exit(0)
        return json.loads(line)

    def tell(self, **answer: Any) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self._answers.write(json.dumps({**answer, "peak_mb": peak}) + "\n")

    def timed(self, function: Callable[[], Any]) -> Any:
        """Call ``function`` and tell its result, its CPU seconds (all threads of the process) and its seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        self.tell(result=result, cpu=time.process_time() - cpu, seconds=time.perf_counter() - wall)

    def train(self, side: Side, seconds: float) -> None:
        """Slices of ``seconds`` of CPU time for as long as the parent asks; between them the clock stands."""
        warm = positions = steps = 0
        spent, began = 0.0, time.process_time()

        def after_step(n: int) -> None:
            nonlocal warm, positions, steps, spent, began, seconds
            now = time.process_time()
            if warm < WARM_STEPS:  # their time counts as training, but not in the rate
                warm, spent, began = warm + 1, spent + now - began, now
                return
            positions, steps = positions + n, steps + 1
            if now - began < seconds:
                return
            spent += now - began
            self.tell(positions=positions, steps=steps, cpu=now - began, trained=spent)
            while (command := self.ask())["measure"] == "judge":
                self.tell(**quality(side.lists(), Sequences(self.task.folder).truth))
            positions, steps, seconds, began = 0, 0, command["seconds"], time.process_time()

        side.train(after_step)


def run(side_class: type[Side]) -> None:
    """The child's main: ``argv[1]`` is the task as JSON, then commands come by standard input."""
    child = _Child()
    if child.task.loss not in side_class.LOSSES:
        raise SystemExit(f"no loss {child.task.loss!r} here; there are {', '.join(side_class.LOSSES)}")
    side = side_class(child.task)
    child.tell(ready=True)
    command = child.ask()
    if command["measure"] == "first-batch":
        child.timed(side.first_batch)
        return
    side.prepare()
    if command["measure"] == "train":
        child.train(side, command["seconds"])
    work = {"evaluate": side.evaluate, "answer": None}
    if command["measure"] == "answer":
        answer, user = side.answerer(), iter(range(10**9))
        answer(next(user))  # compiled kernels, connections
        work["answer"] = lambda: answer(next(user))
    while True:
        child.timed(work[command["measure"]])
        command = child.ask()
