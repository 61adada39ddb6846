"""The search of one variant's ranges on one log: Optuna proposes, the validation part judges, the study lies in a file.

Trials are asked for in rounds, each with a seed of its own number, and told in the order of their numbers. So a search
proposes the same values whatever the number of workers, and after a kill it goes on as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xdm.experiments.file import SearchEntry
from xdm.experiments.grid import Choices, Space, Variant
from xdm.experiments.task import Task, read_record
from xdm.schema import UsageError

STUDY = "study.db"


@dataclass(frozen=True)
class Found:
    """What a search came to: the winner's ``values`` and its ``value`` on the validation part (None where no trial
    succeeded), the numbers of ``trials`` and of those that ``failed``."""

    values: dict[str, Any] | None
    value: float | None
    trials: int
    failed: int


class Search:
    """One search. ``task_of(number, values)`` makes the task of a trial."""

    def __init__(
        self, folder: Path, variant: Variant, entry: SearchEntry, task_of: Callable[[int, dict[str, Any]], Task]
    ) -> None:
        """Open the study in ``folder``, or begin it.

        Raises:
            UsageError: Optuna is not installed.
        """
        optuna = _optuna()
        folder.mkdir(parents=True, exist_ok=True)
        self.entry, self.task_of = entry, task_of
        self.distributions = {key: _distribution(optuna, space) for key, space in variant.spaces.items()}
        self.first = {key: space.first for key, space in variant.spaces.items()}
        self.study = optuna.create_study(
            storage=f"sqlite:///{(folder / STUDY).resolve()}", study_name=variant.name, direction="maximize", load_if_exists=True
        )
        self._running = optuna.trial.TrialState.RUNNING
        self._failed_state = optuna.trial.TrialState.FAIL
        self._sampler = optuna.samplers.TPESampler
        self.waiting: set[int] = set()  # numbers of the trials of this round that have not ended
        self.failed: set[int] = set()  # of those that ended without a value

    def next_tasks(self) -> list[Task]:
        """The trials of the round that are still to run; none when the search is over."""
        while True:
            trials = self.study.get_trials(deepcopy=False)
            open_trials = [trial for trial in trials if trial.state == self._running]
            asked, total = len(trials), self.entry.trials
            if not open_trials and asked >= total:
                return []
            # A round to begin, or one whose asking was cut short by a kill: it is asked to its end before any is told.
            if not open_trials or (asked % self.entry.at_once and asked < total):
                self._ask(asked, min((asked // self.entry.at_once + 1) * self.entry.at_once, total))
                continue
            tasks = {trial.number: self.task_of(trial.number, dict(trial.params)) for trial in open_trials}
            todo = {number: task for number, task in tasks.items() if not task.done and number not in self.failed}
            if todo:
                self.waiting = set(todo)
                return list(todo.values())
            for number, task in sorted(tasks.items()):
                self._tell(number, task)

    def ended(self, task: Task, failed: bool) -> list[Task]:
        """Take note that the trial of ``task`` ended; the next trials, once the round is over."""
        assert task.trial is not None
        self.waiting.discard(task.trial)
        if failed:
            self.failed.add(task.trial)
        return [] if self.waiting else self.next_tasks()

    @property
    def over(self) -> bool:
        trials = self.study.get_trials(deepcopy=False)
        return len(trials) >= self.entry.trials and all(trial.state.is_finished() for trial in trials)

    @property
    def n_done(self) -> int:
        """How many trials have ended, told or not yet told."""
        trials = self.study.get_trials(deepcopy=False)
        return sum(t.state.is_finished() or self.task_of(t.number, dict(t.params)).done for t in trials)

    def found(self) -> Found:
        """The best trial; of equal ones the first."""
        trials = self.study.get_trials(deepcopy=False)
        failed = sum(trial.state == self._failed_state for trial in trials)
        valued = [trial for trial in trials if trial.value is not None]
        if not valued:
            return Found(None, None, len(trials), failed)
        best = max(valued, key=lambda trial: (trial.value, -trial.number))
        return Found(dict(best.params), best.value, len(trials), failed)

    def _ask(self, first: int, until: int) -> None:
        for number in range(first, until):
            if number == 0 and all(value is not None for value in self.first.values()):
                self.study.enqueue_trial(self.first)
            seed = int(np.random.SeedSequence([self.entry.seed, number]).generate_state(1)[0])
            self.study.sampler = self._sampler(seed=seed)
            self.study.ask(fixed_distributions=self.distributions)

    def _tell(self, number: int, task: Task) -> None:
        if task.done:
            self.study.tell(number, float(read_record(task)["value"]))
        else:
            self.study.tell(number, state=self._failed_state)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UsageError(
            "a range in the file is searched by Optuna, which is not installed: pip install '.[search]' in a checkout of xdm"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(optuna: Any, space: Space) -> Any:
    if isinstance(space, Choices):
        return optuna.distributions.CategoricalDistribution(space.choices)
    whole = isinstance(space.low, int) and isinstance(space.high, int)
    kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
    return kind(space.low, space.high, log=space.log)
