"""The whole grid: what is missing is run, what failed is told, and the report is made of what there is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xdm.console import Bar, Progress
from xdm.experiments.file import ExperimentFile, RollingProtocol
from xdm.experiments.folder import (
    IDENTITY,
    checked_identity,
    identity_of,
    locked,
    run_folder,
    search_folder,
    simulate_logs,
    store_paths,
)
from xdm.experiments.grid import Choices, Variant, untrained_settings, variants_of
from xdm.experiments.pool import Ended, Pool
from xdm.experiments.search import Found, Search
from xdm.experiments.task import Task, read_record
from xdm.folders import write_json
from xdm.log.store import Store
from xdm.schema import ConfigError, UsageError


@dataclass
class Grid:
    """All runs of a file, and what came of them."""

    file: ExperimentFile
    out: Path
    variants: list[Variant]
    stores: dict[str, Path]
    found: dict[tuple[str, str], Found] = field(default_factory=dict)  # by log and variant, of searches that are over
    failures: list[Ended] = field(default_factory=list)

    @cached_property
    def on(self) -> dict[str, list[Variant]]:
        """By log the variants that are run on it, with its settings in theirs."""
        return {log: variants_of(self.file, log) for log in self.file.logs}

    def runs(self) -> Iterator[Task]:
        """Every run of the file, done or not: by log, then seed, so that all variants have their first seed early."""
        for log in self.file.logs:
            for seed in (None, *self.file.seeds):
                for variant in self.on[log]:
                    if variant.trained == (seed is not None):
                        yield self.run(log, variant, seed)

    def runs_of(self, log: str, variant: str) -> list[Task]:
        """The runs whose values the search of ``variant`` on ``log`` decides: its own, and those of variants like it."""
        names = {one.name for one in self.on[log] if one.searched == variant}
        return [task for task in self.runs() if task.log == log and task.variant in names]

    def run(self, log: str, variant: Variant, seed: int | None) -> Task:
        """One run; of a searched variant with the winner's values, as far as they are known."""
        found = self.found.get((log, variant.searched))
        values = {} if found is None or found.values is None else found.values
        return self._task("run", run_folder(self.out, log, variant.name, seed), log, variant, seed, None, values)

    def trial(self, log: str, variant: Variant, number: int, values: dict[str, Any]) -> Task:
        """One trial; with the first seed, as a search looks for settings, not for seeds."""
        out = search_folder(self.out, log, variant.name) / f"trial-{number:04d}"
        return self._task("trial", out, log, variant, self.file.seeds[0], number, values)

    def _task(
        self, kind: Any, out: Path, log: str, variant: Variant, seed: int | None, trial: int | None, values: dict[str, Any]
    ) -> Task:  # fmt: skip
        file = self.file
        return Task(
            kind=kind, out=out, log=log, variant=variant.name, model=variant.model, trained=variant.trained, seed=seed,
            words=tuple(variant.words(values)), store=self.stores[log], world=file.logs[log].world, protocol=file.protocol_of(log),
            ks=file.ks, exclude_seen=file.exclude_seen_of(log), unclicked_k=file.unclicked_k_of(log), keep=file.keep, trial=trial,
            values=values,
        )  # fmt: skip

    @property
    def exit_code(self) -> int:
        """0 where all is done; else 1 where a failure is a fault of ours, 2 where all are wrong use or bad input."""
        return min((ended.exit_code for ended in self.failures), default=0)


def run_experiment(file: ExperimentFile, out: Path, progress: Progress | None = None) -> Grid:
    """Run what is missing of ``file`` in ``out``, then write results.parquet and the report there.

    A run that fails does not stop the others: it is in ``failures`` of what is returned, and in the report.

    Raises:
        ConfigError: a variant whose settings are wrong, or a protocol that does not fit a log.
        UsageError: ``out`` is held by another process, belongs to others, or its runs were made otherwise.
        XdmError: as simulating, preparing and comparing raise it.
    """
    from xdm.experiments.report import write_report

    progress = progress or Progress(quiet=True)
    variants = variants_of(file)
    configs = {variant.name: checked_config(variant) for variant in variants}
    on = {log: variants_of(file, log) for log in file.logs}
    for variant in itertools.chain.from_iterable(on.values()):
        checked_config(variant)
    out = out.resolve()
    with locked(out):
        stores = store_paths(file, out)
        identity = checked_identity(out, identity_of(file, variants, configs, stores))
        simulate_logs(file, out, progress)
        _check_windows(file, on, stores)
        write_json(out / IDENTITY, identity)
        grid = Grid(file, out, variants, stores)
        _run_missing(grid, progress)
        progress.say("report ...")
        write_report(grid)
    return grid


def checked_config(variant: Variant) -> dict[str, Any] | None:
    """The whole configuration of a variant but for its seed, as plain values; of what is not trained its own settings, or
    None where it has none.

    Raises:
        ConfigError: a key that does not exist or a wrong value, be it only at an end of a range.
    """
    from xdm.training.config import load_config

    try:
        if not variant.trained:
            return untrained_settings(variant.model, variant.words())
        ends = [
            [(key, value) for value in (space.choices if isinstance(space, Choices) else (space.low, space.high))]
            for key, space in variant.spaces.items()
        ]
        for pairs in itertools.zip_longest(*ends):
            load_config(variant.model, None, variant.words(dict(pair for pair in pairs if pair)))
        config = load_config(variant.model, None, variant.words()).to_dict()
    except ConfigError as error:
        raise ConfigError(f"variants.{variant.name}: {error}") from None
    for key in ("seed", "threads"):
        config["training"].pop(key)
    return config


def _check_windows(file: ExperimentFile, on: dict[str, list[Variant]], stores: dict[str, Path]) -> None:
    from xdm.experiments.judging import validation_windows

    for log, variants in on.items():
        protocol = file.protocol_of(log)
        if isinstance(protocol, RollingProtocol) and any(variant.spaces for variant in variants):
            validation_windows(protocol, Store(stores[log]))


def _run_missing(grid: Grid, progress: Progress) -> None:
    searches = {
        (log, variant.name): _search(grid, log, variant)
        for log, variants in grid.on.items() for variant in variants if variant.spaces
    }  # fmt: skip
    waiting: list[Task] = []
    for search in searches.values():
        waiting += search.next_tasks()
    for key, search in searches.items():
        if search.over:
            grid.found[key] = search.found()
            _fail_without_winner(grid, key, "")
    runs = list(grid.runs())
    held_back = {key for key in searches if key not in grid.found or grid.found[key].values is None}
    searched = {(log, variant.name): (log, variant.searched) for log, variants in grid.on.items() for variant in variants}
    waiting += [task for task in runs if not task.done and searched[task.log, task.variant] not in held_back]
    done = sum(task.done for task in runs) + sum(search.n_done for search in searches.values())
    total = len(runs) + sum(search.entry.trials for search in searches.values())
    by_log = {log: number for number, log in enumerate(grid.file.logs)}
    with (
        Pool(grid.file.n_workers, grid.file.memory_mb, grid.out / "output", progress.say) as pool,
        progress.bar(f"experiment {grid.file.name}", total, done=done, unit="runs") as bar,
    ):
        for task in runs:
            if task.done:
                pool.measured(task, float(read_record(task)["peak_memory_mb"]))
        while waiting or pool.busy:
            waiting.sort(key=lambda task: by_log[task.log])  # a log's comparison is whole before the next one is begun
            while (ready := next((task for task in waiting if pool.fits(task)), None)) is not None:
                waiting.remove(ready)
                pool.start(ready)
            for ended in pool.wait():
                _tell(ended, bar)
                # First in line: a search's rounds follow one another, and its winner's runs come after them all.
                waiting = _after(grid, searches, ended, bar) + waiting


def _search(grid: Grid, log: str, variant: Variant) -> Search:
    def task_of(number: int, values: dict[str, Any]) -> Task:
        return grid.trial(log, variant, number, values)

    return Search(search_folder(grid.out, log, variant.name), variant, grid.file.search, task_of)


def _after(grid: Grid, searches: dict[tuple[str, str], Search], ended: Ended, bar: Bar) -> list[Task]:
    """What may be started now that ``ended`` has: the search's next trials, or the runs of its winner."""
    task = ended.task
    if task.kind == "run":
        if ended.error is not None:
            grid.failures.append(ended)
        return []
    search = searches[task.log, task.variant]
    trials = search.ended(task, failed=ended.error is not None)
    if trials or not search.over:
        return trials
    key = (task.log, task.variant)
    found = grid.found[key] = search.found()
    runs = grid.runs_of(*key)
    if found.values is None:
        _fail_without_winner(grid, key, f"; the last one: {ended.error}", ended.exit_code)
        bar.advance(by=len(runs))
        return []
    bar.say(f"{task.log}, {task.variant}: chosen {found.values} of {found.trials} trials, validation {found.value:.4f}")
    return [run for run in runs if not run.done]


def _fail_without_winner(grid: Grid, key: tuple[str, str], why: str, exit_code: int = UsageError.exit_code) -> None:
    found = grid.found[key]
    if found.values is None:
        again = f"to search again remove {search_folder(grid.out, *key)}"
        error = f"none of the {found.trials} trials of its search succeeded ({again}){why}"
        grid.failures += [Ended(run, error, exit_code) for run in grid.runs_of(*key)]


def _tell(ended: Ended, bar: Bar) -> None:
    task = ended.task
    if ended.error is not None:
        bar.say(f"{task.title}: FAILED: {ended.error}")
    else:
        record = read_record(task)
        value = record.get("value", record.get("validation"))
        shown = "" if value is None else f"validation {record['monitor']} {value:.4f}, "
        bar.say(f"{task.title}: {shown}{record['seconds']:.0f} s, {record['peak_memory_mb']:,.0f} MB")
    bar.advance(task.title)
