"""What people see while they wait: progress with rate and estimate on standard error, plain lines where it is no terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

QUIET_SECONDS = 10  # between lines of progress where standard error is no terminal


class Bar:
    """One task's progress. Made by `Progress.bar`."""

    def __init__(self, progress: Progress, name: str, total: int, done: int, unit: str) -> None:
        self._progress, self._name, self._total, self._unit = progress, name, total, unit
        self._done = self._first = done
        self._began = self._printed = time.monotonic()
        self._live: Any = None
        self._task: Any = None

    def advance(self, note: str = "", by: int = 1) -> None:
        """``by`` more are done; ``note`` is shown beside the bar."""
        self.reach(self._done + by, self._total, note)

    def reach(self, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` are done: for work that learns on its way how much it is."""
        self._done, self._total = done, total
        if self._live is not None:
            self._live.update(self._task, completed=done, total=total, note=note)
        elif not self._progress.quiet and time.monotonic() - self._printed >= QUIET_SECONDS:
            self._printed = time.monotonic()
            rate = (self._done - self._first) / (self._printed - self._began)
            left = (self._total - self._done) / rate if rate else float("inf")
            self._progress.say(
                f"{self._name}: {self._done:,} of {self._total:,} {self._unit}, {rate:,.1f} {self._unit}/s, about {left:,.0f} s left"
                + (f"; {note}" if note else "")
            )

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._live is not None:
            self._live.console.print(line, highlight=False)
        else:
            self._progress.say(line)


class Progress:
    """Where progress goes. ``quiet`` shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, line: str) -> None:
        """One line for people, on standard error."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def bar(self, name: str, total: int, *, done: int = 0, unit: str = "rows") -> Iterator[Bar]:
        """A bar over ``total`` units, ``done`` of them behind us, with rate and estimated time left."""
        bar = Bar(self, name, total, done, unit)
        if self.quiet or not sys.stderr.isatty():
            yield bar
            return
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(), _rate_column(unit),
            progress.TimeRemainingColumn(), progress.TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with progress.Progress(*columns, console=Console(stderr=True), transient=True) as live:
            bar._live, bar._task = live, live.add_task(name, total=total, completed=done, note="")
            yield bar


def _rate_column(unit: str):
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.1f} {unit}/s" if task.speed else "", style="progress.data.speed")

    return Rate()
