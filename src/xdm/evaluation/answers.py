"""Reading judged runs for comparison: which questions, and each variant's values for them, averaged over its seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xdm.evaluation.metrics import SKIPPED
from xdm.evaluation.records import METRICS_FILE, PER_USER_FILE, TRUTH_ITEMS, UNCLICKED
from xdm.schema import TIMESTAMP, USER_ID, UsageError

DEFAULT_METRICS = ("hr@50", "ndcg@50", "recall@50")
KEY = [USER_ID, TIMESTAMP]
QUESTION = [*KEY, TRUTH_ITEMS]


@dataclass(frozen=True)
class JudgedRun:
    """One folder of ``xdm evaluate``: its name, the split it was judged on, the ``columns`` of its records, and those that
    were read, as ``rows`` sorted by user and time."""

    name: str
    split: dict[str, Any]
    columns: tuple[str, ...]
    rows: pa.Table

    @cached_property
    def users(self) -> tuple[np.ndarray, int]:
        """Which user each row is about, as codes from 0 ``[Q]``, and how many users there are."""
        encoded = self.rows[USER_ID].combine_chunks().dictionary_encode()
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        return encoded.indices.to_numpy(), len(encoded.dictionary)

    def values(self, metrics: Sequence[str]) -> np.ndarray:
        """float64 ``[Q, M]``, NaN where a question has no value of a metric."""
        return np.column_stack([self.rows[metric].to_numpy() for metric in metrics]).astype(np.float64, copy=False)


def read_run(folder: Path | str, columns: Sequence[str] = ()) -> JudgedRun:
    """Read what ``xdm evaluate --out`` left in ``folder``: the questions, and those of ``columns`` that it has.

    Raises:
        UsageError: it holds no results of ours, or they cannot be read.
    """
    folder = Path(folder)
    try:
        split = json.loads((folder / METRICS_FILE).read_text())["split"]
        there = tuple(pq.read_schema(folder / PER_USER_FILE).names)
        wanted = [name for name in dict.fromkeys([*QUESTION, *columns]) if name in there or name in QUESTION]
        rows = pq.read_table(folder / PER_USER_FILE, columns=wanted)
        # The sort keeps the order of equal keys: the n-th of several questions of one second stays the n-th.
        return JudgedRun(str(folder), split, there, rows.sort_by([(name, "ascending") for name in KEY]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} holds no results ({METRICS_FILE} and {PER_USER_FILE}) that can be read: {error}; "
            f"make them with: xdm evaluate BUNDLE STORE --out {folder}"
        ) from None


def columns_of(folders: Sequence[Path]) -> dict[Path, tuple[str, ...]]:
    """The columns of each folder's records.

    Raises:
        UsageError: as `read_run`.
    """
    found = {}
    for folder in folders:
        try:
            found[folder] = tuple(pq.read_schema(folder / PER_USER_FILE).names)
        except (OSError, ValueError):
            found[folder] = read_run(folder).columns  # raises, and says what is wrong
    return found


def chosen_metrics(columns: dict[Path, tuple[str, ...]], metrics: Sequence[str]) -> tuple[str, ...]:
    """``metrics``, or `DEFAULT_METRICS` as far as all folders have them.

    Raises:
        UsageError: a folder lacks a metric that was asked for, or there is nothing to compare.
    """
    for folder, names in columns.items():
        for metric in metrics:
            if metric not in names:
                known = ", ".join(name for name in names if "@" in name)
                older = "" if UNCLICKED in names or not metric.startswith(SKIPPED) else (
                    "; it was written before skips were judged: evaluate it again"
                )  # fmt: skip
                raise UsageError(f"{folder} has no metric {metric!r}; it has {known}{older}")
    chosen = tuple(metrics) or tuple(m for m in DEFAULT_METRICS if all(m in names for names in columns.values()))
    if not chosen:
        raise UsageError(f"the folders have none of {', '.join(DEFAULT_METRICS)} in common; name a metric with --metric")
    return chosen


def check_same_questions(reference: JudgedRun, run: JudgedRun) -> None:
    """Refuse ``run`` where it was asked anything else than ``reference``; ``unclicked`` is compared where both were read
    with it.

    Raises:
        UsageError: different splits, questions, truths or rules of what is unclicked.
    """
    if run.split != reference.split:
        raise UsageError(
            f"{run.name} was judged on the split {run.split}, {reference.name} on {reference.split}; "
            "evaluate both on the same split"
        )
    ours, theirs = reference.rows, run.rows
    if ours.schema.field(USER_ID).type != theirs.schema.field(USER_ID).type:
        types = [table.schema.field(USER_ID).type for table in (ours, theirs)]
        raise UsageError(f"user ids are {types[0]} in {reference.name} and {types[1]} in {run.name}; use one store for both")
    if not ours.select(KEY).equals(theirs.select(KEY)):
        only_ours, only_theirs = _count_missing(ours, theirs), _count_missing(theirs, ours)
        raise UsageError(
            f"the questions differ: {only_ours} of {len(ours)} are only in {reference.name}, {only_theirs} of "
            f"{len(theirs)} only in {run.name}; evaluate both on the same store"
        )
    if different := _count_different(ours, theirs, TRUTH_ITEMS):
        raise UsageError(
            f"{different} of {len(ours)} questions have another number of truth items in {run.name} than in "
            f"{reference.name}; evaluate both on the same store"
        )
    both = UNCLICKED in ours.column_names and UNCLICKED in theirs.column_names
    if both and (different := _count_different(ours, theirs, UNCLICKED)):
        raise UsageError(
            f"{different} of {len(ours)} questions have another number of unclicked items in {run.name} than in "
            f"{reference.name}; evaluate both with the same --unclicked-k"
        )


def _count_different(ours: pa.Table, theirs: pa.Table, column: str) -> int:
    return int(np.count_nonzero(ours[column].to_numpy() != theirs[column].to_numpy()))


def _count_missing(here: pa.Table, there: pa.Table) -> int:
    """Questions of ``here`` beyond those of ``there``; equal keys count as often as they occur."""
    counts = [table.select(KEY).group_by(KEY).aggregate([([], "count_all")]) for table in (here, there)]
    joined = counts[0].join(counts[1], KEY, right_suffix="_there", join_type="left outer")
    surplus = joined["count_all"].to_numpy() - joined["count_all_there"].fill_null(0).to_numpy()
    return int(np.maximum(surplus, 0).sum())
