"""Searches: the same trials however often they are interrupted, and the best is the winner."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from xdm.experiments.file import SearchEntry
from xdm.experiments.grid import Choices, Range, Variant
from xdm.experiments.search import Search

SPACES = {"x": Range(low=0.01, high=10.0, log=True), "n": Range(low=1, high=6), "c": Choices(choices=("a", "b"))}
VARIANT = Variant("v", "sdm", {}, SPACES)


def value_of(values):
    return -abs(values["x"] - 1) - abs(values["n"] - 3) + (values["c"] == "a")


class Trials:
    """Trials as folders with a record, done here and now; some fail."""

    def __init__(self, folder: Path, fails: tuple[int, ...] = ()):
        self.folder, self.fails = folder, fails
        self.carried_out: list[int] = []

    def task(self, number, values):
        out = self.folder / f"trial-{number}"
        return SimpleNamespace(out=out, kind="trial", trial=number, values=values, done=out.exists())

    def open(self, trials=7, at_once=2):
        return Search(self.folder, VARIANT, SearchEntry(trials=trials, at_once=at_once, seed=5), self.task)

    def do(self, task):
        self.carried_out.append(task.trial)
        if task.trial not in self.fails:
            task.out.mkdir()
            (task.out / "trial.json").write_text(json.dumps({"value": value_of(task.values)}))
            task.done = True

    def finish(self, search, stop_after=None, order=None):
        """Carry out trials, in rounds; stop where ``stop_after`` of them were, as if killed. Whether all were."""
        waiting = search.next_tasks()
        while waiting:
            if order is not None:
                order.shuffle(waiting)
            task = waiting.pop(0)
            if stop_after is not None and len(self.carried_out) >= stop_after:
                return False
            self.do(task)
            waiting += search.ended(task, failed=not task.done)
        return True


def told(search):
    return [(trial.number, trial.params, trial.value, trial.state.name) for trial in search.study.trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    trials = Trials(tmp_path_factory.mktemp("whole"))
    search = trials.open()
    assert trials.finish(search)
    return told(search), search.found(), trials.carried_out


def test_all_trials_are_within_their_spaces_and_the_best_wins(whole):
    trials, found, carried_out = whole
    assert sorted(carried_out) == list(range(7))
    for _, params, value, state in trials:
        assert 0.01 <= params["x"] <= 10
        assert params["n"] in range(1, 7)
        assert params["c"] in ("a", "b")
        assert (value, state) == (value_of(params), "COMPLETE")
    best = max(trials, key=lambda trial: trial[2])
    assert (found.values, found.value, found.trials, found.failed) == (best[1], best[2], 7, 0)
    assert len({trial[1]["x"] for trial in trials}) == 7


@pytest.mark.parametrize("stops", [(1,), (3, 4), (0, 6)])
def test_interrupted_searches_go_on_as_if_nothing_had_been(whole, tmp_path, stops):
    trials = Trials(tmp_path)
    for stop in stops:
        assert not trials.finish(trials.open(), stop, random.Random(stop))
    search = trials.open()
    assert trials.finish(search, order=random.Random(1))
    assert told(search) == whole[0]
    assert search.found() == whole[1]
    assert sorted(trials.carried_out) == list(range(7))  # none twice
    assert search.over
    assert search.n_done == 7


def test_a_kill_in_the_midst_of_asking_changes_nothing(whole, tmp_path):
    trials = Trials(tmp_path)
    search = trials.open()
    search._ask(0, 1)  # the process died before it asked for the second of the round
    trials.do(trials.task(0, dict(search.study.trials[0].params)))
    again = trials.open()
    assert trials.finish(again)
    assert told(again) == whole[0]


def test_failed_trials_are_counted_and_none_may_win(tmp_path):
    trials = Trials(tmp_path / "some", fails=(0, 3))
    search = trials.open(trials=4)
    assert trials.finish(search)
    found = search.found()
    assert (found.trials, found.failed) == (4, 2)
    assert found.value == max(value for _, _, value, state in told(search) if state == "COMPLETE")
    none = Trials(tmp_path / "none", fails=(0, 1))
    search = none.open(trials=2)
    assert none.finish(search)
    assert (search.found().values, search.found().failed) == (None, 2)
    assert none.open(trials=2).next_tasks() == []
