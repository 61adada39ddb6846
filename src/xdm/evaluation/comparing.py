"""Paired comparison of judged runs: the same questions, answered by two recommenders, question by question."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xdm.evaluation.records import METRICS_FILE, PER_USER_FILE, TRUTH_ITEMS
from xdm.schema import TIMESTAMP, USER_ID, UsageError

DEFAULT_METRICS = ("hr@50", "ndcg@50", "recall@50")
RESAMPLES = 10_000
KEY = [USER_ID, TIMESTAMP]


@dataclass(frozen=True)
class Comparison:
    """A run against the reference on one metric: both means, the mean paired ``difference`` (run less reference) with
    its 95 % interval ``[low, high]``, and its two-sided p-value, alone and after Holm's correction."""

    run: str
    metric: str
    reference_mean: float
    mean: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class JudgedRun:
    """One folder of ``xdm evaluate``: its name, the split it was judged on, and its rows sorted by user and time."""

    name: str
    split: dict[str, Any]
    rows: pa.Table


def compare(
    folders: list[Path], metrics: tuple[str, ...] = (), resamples: int = RESAMPLES, seed: int = 0
) -> tuple[list[Comparison], int, int]:
    """Compare every folder with the first; return the comparisons and the numbers of questions and of users.

    The interval and the p-value come from a paired bootstrap: users are drawn with replacement, ``resamples`` times,
    each with all of the user's questions, since the questions of one user are not independent. Holm's correction is
    over all comparisons returned. ``metrics`` are column names such as ``hr@50``; by default `DEFAULT_METRICS`, as far
    as all folders have them. The same ``seed`` gives the same figures.

    Raises:
        UsageError: a folder without results, different splits or questions, or a metric that a folder lacks.
    """
    if len(folders) < 2:
        raise UsageError("a comparison needs two folders or more; the first is the reference")
    runs = [read_run(Path(folder)) for folder in folders]
    reference = runs[0]
    for run in runs[1:]:
        _check_same_questions(reference, run)
    metrics = _chosen_metrics(runs, metrics)
    user, n_users = _user_codes(reference.rows)
    differences = np.column_stack(
        [_column(run, metric) - _column(reference, metric) for run in runs[1:] for metric in metrics]
    )
    per_user = np.zeros((n_users, differences.shape[1]))
    np.add.at(per_user, user, differences)
    resampled = _resampled_means(per_user, np.bincount(user, minlength=n_users), resamples, seed)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    p = _p_values(resampled)
    found, p_holm = [], holm(p)
    for place, (run, metric) in enumerate((run, metric) for run in runs[1:] for metric in metrics):
        means = float(_column(reference, metric).mean()), float(_column(run, metric).mean())
        difference = float(differences[:, place].mean())
        interval = float(low[place]), float(high[place])
        found.append(Comparison(run.name, metric, *means, difference, *interval, float(p[place]), float(p_holm[place])))
    return found, len(user), n_users


def read_run(folder: Path) -> JudgedRun:
    """Read what ``xdm evaluate --out`` left in ``folder``.

    Raises:
        UsageError: it holds no results of ours, or they cannot be read.
    """
    try:
        split = json.loads((folder / METRICS_FILE).read_text())["split"]
        rows = pq.read_table(folder / PER_USER_FILE)
        # The sort keeps the order of equal keys: the n-th of several questions of one second stays the n-th.
        return JudgedRun(str(folder), split, rows.sort_by([(name, "ascending") for name in KEY]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} holds no results ({METRICS_FILE} and {PER_USER_FILE}) that can be read: {error}; "
            f"make them with: xdm evaluate BUNDLE STORE --out {folder}"
        ) from None


def _check_same_questions(reference: JudgedRun, run: JudgedRun) -> None:
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
    if not ours[TRUTH_ITEMS].equals(theirs[TRUTH_ITEMS]):
        different = int(np.count_nonzero(ours[TRUTH_ITEMS].to_numpy() != theirs[TRUTH_ITEMS].to_numpy()))
        raise UsageError(
            f"{different} of {len(ours)} questions have another number of truth items in {run.name} than in "
            f"{reference.name}; evaluate both on the same store"
        )


def _count_missing(here: pa.Table, there: pa.Table) -> int:
    """Questions of ``here`` beyond those of ``there``; equal keys count as often as they occur."""
    counts = [table.select(KEY).group_by(KEY).aggregate([([], "count_all")]) for table in (here, there)]
    joined = counts[0].join(counts[1], KEY, right_suffix="_there", join_type="left outer")
    surplus = joined["count_all"].to_numpy() - joined["count_all_there"].fill_null(0).to_numpy()
    return int(np.maximum(surplus, 0).sum())


def _chosen_metrics(runs: list[JudgedRun], metrics: tuple[str, ...]) -> tuple[str, ...]:
    for run in runs:
        for metric in metrics:
            if metric not in run.rows.column_names:
                known = ", ".join(name for name in run.rows.column_names if "@" in name)
                raise UsageError(f"{run.name} has no metric {metric!r}; it has {known}")
    chosen = metrics or tuple(m for m in DEFAULT_METRICS if all(m in run.rows.column_names for run in runs))
    if not chosen:
        raise UsageError(f"the folders have none of {', '.join(DEFAULT_METRICS)} in common; name a metric with --metric")
    return chosen


def _column(run: JudgedRun, metric: str) -> np.ndarray:
    return run.rows[metric].to_numpy()


def _user_codes(rows: pa.Table) -> tuple[np.ndarray, int]:
    """Which user each row is about, as codes from 0, and how many users there are."""
    encoded = rows[USER_ID].combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return encoded.indices.to_numpy(), len(encoded.dictionary)


def _resampled_means(per_user: np.ndarray, questions: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means over users drawn with replacement, ``[resamples, M]``, from each user's sums ``[users, M]`` and numbers of
    questions ``[users]``. One draw serves all columns, so that they are compared on the same resamples."""
    rng = np.random.default_rng(seed)
    n_users, sums = len(per_user), np.column_stack([per_user, questions])
    totals = np.empty((resamples, sums.shape[1]))
    for resample in range(resamples):
        times_drawn = np.bincount(rng.integers(0, n_users, n_users), minlength=n_users)
        totals[resample] = times_drawn @ sums
    return totals[:, :-1] / totals[:, -1:]


def _p_values(resampled: np.ndarray) -> np.ndarray:
    """Two-sided p-value of each column ``[B, M]``: twice the share of resamples on the smaller side of 0, where the
    observed sample counts as one more, so that no p-value is 0."""
    above = (1 + np.count_nonzero(resampled >= 0, axis=0)) / (1 + len(resampled))
    below = (1 + np.count_nonzero(resampled <= 0, axis=0)) / (1 + len(resampled))
    return np.minimum(1.0, 2 * np.minimum(above, below))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p-values ``[M]``: the i-th smallest times M - i, never falling, at most 1."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
