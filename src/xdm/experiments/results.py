"""The figures of all runs in one tidy table, and the comparisons made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from xdm.evaluation.comparing import Comparison, compare_strata, compare_variants
from xdm.evaluation.records import METRICS_FILE
from xdm.experiments.grid import Variant
from xdm.experiments.task import RESULTS, Task, read_record

if TYPE_CHECKING:
    from xdm.experiments.running import Grid

RESAMPLES = 10_000
ENDED = ("epochs", "stopped_by")  # how far a training came, and which setting ended it; not of rolling windows
COSTS = ("cpu_seconds", "train_cpu_seconds", "answer_cpu_ms")  # of a run; the last two where it makes a bundle


@dataclass(frozen=True)
class JudgedTask:
    """A run that is done: what it says of itself, and its metrics.json."""

    task: Task
    record: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def folder(self) -> Path:
        """As `xdm evaluate --out` leaves one."""
        return self.task.out / RESULTS


def judged(grid: Grid) -> list[JudgedTask]:
    """The runs of the file that are done, in the file's order."""
    return [
        JudgedTask(task, read_record(task), json.loads((task.out / RESULTS / METRICS_FILE).read_text()))
        for task in grid.runs() if task.done
    ]  # fmt: skip


def tidy_table(grid: Grid, runs: Sequence[JudgedTask]) -> pa.Table:
    """One row a run and metric; a column, named by its key, for every setting that some variant sets."""
    settings = _settings(grid.variants, runs)
    columns: dict[str, list[Any]] = {}
    searched = {variant.name: variant.searched for variant in grid.variants}
    for run, assigned in zip(runs, settings, strict=True):
        found = grid.found.get((run.task.log, searched[run.task.variant]))
        described = {
            "experiment": grid.file.name, "log": run.task.log, "variant": run.task.variant, "model": run.task.model,
            "seed": run.task.seed,
        }  # fmt: skip
        measured = {
            "questions": run.metrics["questions"], "users": run.metrics.get("users"), "seconds": run.record["seconds"],
            **{name: run.record.get(name) for name in (*COSTS, *ENDED)}, "peak_memory_mb": run.record["peak_memory_mb"],
            "config_hash": run.record["config_hash"],
            "trials": None if found is None else found.trials,
        }  # fmt: skip
        for metric, value in run.metrics.items():
            if "@" in metric:
                row = described | {"metric": metric, "value": value} | measured | assigned
                for name, cell in row.items():
                    columns.setdefault(name, []).append(cell)
    whole = dict.fromkeys(("seed", "users", "trials", "epochs"), pa.int64())
    types = whole | {"value": pa.float64(), "stopped_by": pa.string()} | dict.fromkeys(COSTS, pa.float64())
    return pa.table({name: pa.array(_alike(cells), types.get(name)) for name, cells in columns.items()})


def _settings(variants: Sequence[Variant], runs: Sequence[JudgedTask]) -> list[dict[str, Any]]:
    """For each run the value of every setting that some variant has: its own, or None."""
    keys = list(dict.fromkeys(key for variant in variants for key in (*variant.assignments, *variant.spaces)))
    by_name = {variant.name: variant for variant in variants}
    return [
        {key: (by_name[run.task.variant].assignments | run.record["values"]).get(key) for key in keys} for run in runs
    ]


def _alike(cells: list[Any]) -> list[Any]:
    """Numbers as they are where all are numbers (as fractions where one is), truths where all are; else text."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds <= {int} or kinds <= {bool} or kinds <= {str}:
        return cells
    if kinds <= {int, float}:
        return [None if cell is None else float(cell) for cell in cells]
    return [cell if cell is None or isinstance(cell, str) else json.dumps(cell) for cell in cells]


@dataclass(frozen=True)
class LogComparison:
    """The variants of one log against its control: ``whole`` over all questions, ``strata`` by number of unclicked items."""

    log: str
    whole: list[Comparison]
    strata: list[Comparison]


def compared(grid: Grid, runs: Sequence[JudgedTask]) -> list[LogComparison]:
    """Paired differences to the control, by log; a log without a run of the control, or with nothing beside it, has none.

    The values of a question are averaged over a variant's seeds first. Holm's correction is over the variants × metrics
    of a log, for the strata over variants × metrics × strata.
    """
    found = []
    for log in grid.file.logs:
        folders: dict[str, list[Path]] = {}
        for run in runs:
            if run.task.log == log:
                folders.setdefault(run.task.variant, []).append(run.folder)
        control = folders.pop(grid.file.control, [])
        if control and folders:
            whole = compare_variants(control, folders, grid.file.metrics, RESAMPLES)
            strata = compare_strata(control, folders, grid.file.metrics, RESAMPLES)
            found.append(LogComparison(log, whole, strata))
    return found


def differences_table(found: Sequence[LogComparison]) -> pa.Table:
    """One row a comparison, those of the strata too, as `xdm compare --json` names the columns."""
    rows = [{"log": one.log, **row.to_dict()} for one in found for row in (*one.whole, *one.strata)]
    return pa.Table.from_pylist(rows)
