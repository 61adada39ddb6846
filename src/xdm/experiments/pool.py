"""Tasks in processes of their own, so many at once as workers and memory allow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from xdm.experiments.task import Task, peak_memory_mb, read_record

POLL_SECONDS = 0.05
SECONDS_TO_END = 5  # for removing what a task had begun to write
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Ended:
    """A task that ended: ``error`` is None where it is done, else one line; ``exit_code`` as `xdm` would give it."""

    task: Task
    error: str | None = None
    exit_code: int = 0


@dataclass
class _Running:
    task: Task
    process: subprocess.Popen[bytes]
    output: Path
    peak_mb: float = 0.0


class Pool:
    """Runs tasks. A task is started beside others only if the peaks measured so far say that it fits into the budget.

    What a task will need is the largest peak so far of the tasks of its log that train; of those that do not, where it does
    not train either and one was measured. Before there is a peak, the task runs alone and is the measurement. A task that
    needs more than the whole budget runs alone too.
    """

    def __init__(self, workers: int, memory_mb: float, outputs: Path, say: Callable[[str], None]) -> None:
        """``outputs``: the folder for what the processes print; ``say`` takes lines for people."""
        self.workers, self.memory_mb, self.outputs, self.say = workers, memory_mb, outputs, say
        self.peaks: dict[tuple[str, bool], float] = {}
        self._running: list[_Running] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End what still runs: its folders were not there yet, so the next call does those tasks again."""
        for running in self._running:
            if kind is not KeyboardInterrupt:  # Ctrl-C has reached it already
                running.process.send_signal(signal.SIGINT)
        for running in self._running:
            try:
                running.process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait()

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def measured(self, task: Task, peak_mb: float) -> None:
        """Learn from the peak of a task that is done."""
        key = (task.log, task.trained)
        self.peaks[key] = max(peak_mb, self.peaks.get(key, 0.0))

    def needed(self, task: Task) -> float | None:
        """MB that ``task`` will need by measure; None before there is one."""
        trained = self.peaks.get((task.log, True))
        return self.peaks.get((task.log, task.trained), trained)

    def fits(self, task: Task) -> bool:
        """Whether ``task`` may be started now."""
        if not self._running:
            return True
        needed, taken = self.needed(task), [self.needed(running.task) for running in self._running]
        if len(self._running) >= self.workers or needed is None or None in taken:
            return False
        in_use = sum(max(known or 0.0, running.peak_mb) for known, running in zip(taken, self._running, strict=True))
        return in_use + needed <= self.memory_mb

    def start(self, task: Task) -> None:
        """Start the process of ``task``."""
        needed = self.needed(task)
        if needed is not None and needed > self.memory_mb:
            self.say(f"{task.title}: needs {needed:,.0f} MB by measure, more than the budget of {self.memory_mb:,.0f}; runs alone")
        output = self.outputs / task.log / task.variant / (task.out.name + ".txt")
        output.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "xdm.experiments.process", task.title]  # the title is for people who list processes
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT,
                env=os.environ | dict.fromkeys(ONE_THREAD, "1"),
            )  # fmt: skip
        self._running.append(_Running(task, process, output))
        # The pipe stays open; its end tells the process that this one is gone.
        _send(process.stdin, task.model_dump_json().encode() + b"\n")

    def wait(self) -> list[Ended]:
        """Wait until a task ends; those that ended."""
        while True:
            ended = [running for running in self._running if running.process.poll() is not None]
            if ended:
                break
            for running in self._running:
                status = Path(f"/proc/{running.process.pid}/status")
                running.peak_mb = max(running.peak_mb, peak_memory_mb(status) if status.exists() else 0.0)
            time.sleep(POLL_SECONDS)
        self._running = [running for running in self._running if running not in ended]
        return [self._ended(running) for running in ended]

    def _ended(self, running: _Running) -> Ended:
        task, code = running.task, running.process.returncode
        if running.process.stdin is not None:
            running.process.stdin.close()
        if code == 0 and task.done:
            running.output.unlink()
            self.measured(task, float(read_record(task)["peak_memory_mb"]))
            return Ended(task)
        if code < 0:  # for want of memory, perhaps; one that failed otherwise may not have come to its peak
            self.measured(task, running.peak_mb)
        lines = [line for line in running.output.read_text(errors="replace").splitlines() if line.strip()]
        said = lines[-1].strip() if lines else f"no word, exit code {code}"
        if code < 0:
            said = f"ended by {signal.Signals(-code).name} at {running.peak_mb:,.0f} MB" + (f"; {said}" if lines else "")
        return Ended(task, f"{said} (all that it printed: {running.output})", code if code in (1, 2) else 1)


def _send(pipe: IO[bytes] | None, line: bytes) -> None:
    if pipe is None:
        return
    try:
        pipe.write(line)
        pipe.flush()
    except BrokenPipeError:  # it ended at once; why, its output tells
        return
