"""Paired comparison of judged runs: the same questions, answered by two recommenders, question by question."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xdm.evaluation.answers import JudgedRun, check_same_questions, chosen_metrics, columns_of, read_run
from xdm.evaluation.bootstrap import RESAMPLES, bootstrap, holm, per_user_sums
from xdm.evaluation.metrics import SKIPPED
from xdm.evaluation.records import UNCLICKED
from xdm.schema import UsageError

EDGES = (1, 6, 21)  # the least numbers of unclicked items of the second stratum, the third and the last
ALL = "all"
NONE = math.nan


@dataclass(frozen=True)
class Comparison:
    """A run against the reference on one metric: both means, the mean paired ``difference`` (run less reference) with
    its 95 % interval ``[low, high]``, and its two-sided p-value, alone and after Holm's correction.

    ``questions`` and ``users`` are those that have a value of the metric in the ``stratum``; without any, every figure is
    NaN. ``seeds`` runs stand behind ``mean``, ``reference_seeds`` behind ``reference_mean``; ``std`` and ``reference_std``
    are the standard deviations of the seeds' own means (n - 1), None for a single seed.
    """

    run: str
    metric: str
    reference_mean: float
    mean: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    stratum: str = ALL
    questions: int = 0
    users: int = 0
    seeds: int = 1
    reference_seeds: int = 1
    std: float | None = None
    reference_std: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and tables: None where there is no figure."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value for name, value in asdict(self).items()
        }


def compare(
    folders: Sequence[Path],
    metrics: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
    edges: Sequence[int] | None = None,
) -> tuple[list[Comparison], int, int]:
    """Compare every folder with the first; return the comparisons and the numbers of questions and of users.

    The interval and the p-value come from a paired bootstrap: users are drawn with replacement, ``resamples`` times,
    each with all of the user's questions, since the questions of one user are not independent. Holm's correction is
    over all comparisons returned. ``metrics`` are column names such as ``hr@50``; by default `DEFAULT_METRICS`, as far
    as all folders have them. A metric that some questions have no value of (``skipped@50``) is compared over the
    others. With ``edges`` every comparison is made apart for each stratum, as `compare_strata` does. The same ``seed``
    gives the same figures.

    Raises:
        UsageError: a folder without results, different splits or questions, or a metric that a folder lacks.
    """
    if len(folders) < 2:
        raise UsageError("a comparison needs two folders or more; the first is the reference")
    pairs = [(str(folder), [Path(folder)]) for folder in folders]
    return _compare(pairs[0][1], pairs[1:], metrics, edges, resamples, seed)


def compare_variants(
    control: Sequence[Path],
    variants: Mapping[str, Sequence[Path]],
    metrics: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Comparison]:
    """Compare variants with ``control``, each a list of folders, one a seed of training.

    The values of a question are averaged over a variant's seeds first; then everything is as in `compare`, one
    comparison a variant and metric, in this order, with Holm's correction over all of them. The interval is about other
    users, not about other seeds: how far seeds lie apart is what ``std`` tells.

    Raises:
        UsageError: as `compare`, or a variant without a folder.
    """
    return _compare(control, list(variants.items()), metrics, None, resamples, seed)[0]


def compare_strata(
    control: Sequence[Path],
    variants: Mapping[str, Sequence[Path]],
    metrics: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
    edges: Sequence[int] = EDGES,
) -> list[Comparison]:
    """As `compare_variants`, apart for questions with 0, 1-5, 6-20 and more than 20 unclicked items (``edges``, rising).

    One comparison a variant, metric and stratum, in this order; in each stratum its own users are drawn. Holm's
    correction is over all of them that have a question. Folders without the column ``unclicked`` (`without_unclicked`)
    take it from the others, to whose questions theirs are equal.

    Raises:
        UsageError: as `compare_variants`, or no folder has the column ``unclicked``.
    """
    return _compare(control, list(variants.items()), metrics, edges, resamples, seed)[0]


def without_unclicked(folders: Sequence[Path]) -> list[Path]:
    """Those of ``folders`` whose records were written before ``unclicked`` was one of their columns."""
    return [folder for folder, columns in columns_of(list(folders)).items() if UNCLICKED not in columns]


def stratum_names(edges: Sequence[int]) -> list[str]:
    """``["0", "1-5", "6-20", ">20"]`` of ``(1, 6, 21)``."""
    bounds = [0, *edges]
    names = [str(low) if low == high - 1 else f"{low}-{high - 1}" for low, high in zip(bounds, edges, strict=False)]
    return [*names, f">{bounds[-1] - 1}"]


def _compare(
    control: Sequence[Path],
    variants: Sequence[tuple[str, Sequence[Path]]],
    metrics: Sequence[str],
    edges: Sequence[int] | None,
    resamples: int,
    seed: int,
) -> tuple[list[Comparison], int, int]:
    _check_some(control, variants)
    columns = columns_of([Path(folder) for folders in (control, *(folders for _, folders in variants)) for folder in folders])
    metrics = chosen_metrics(columns, metrics)
    # Other rules of what is unclicked are another question only where it is looked at.
    by_skips = edges is not None or any(metric.startswith(SKIPPED) for metric in metrics)
    read = (*metrics, UNCLICKED) if by_skips else metrics
    having = [folder for folder, there in columns.items() if by_skips and UNCLICKED in there]
    asked = read_run(having[0] if having else control[0], read)
    names, strata = _strata(asked, edges)
    users, n_users = asked.users
    answers = _mean_answers(control, asked, metrics, read, strata, len(names))
    found: dict[tuple[int, int, int], Comparison] = {}
    differences = []
    for place, (name, folders) in enumerate(variants):
        own = _mean_answers(folders, asked, metrics, read, strata, len(names))
        differences.append(own.values - answers.values)
        for metric, stratum, comparison in _means(name, names, metrics, strata, users, answers, own):
            found[place, metric, stratum] = comparison
    for stratum in range(len(names)):
        inside = np.flatnonzero(strata == stratum)
        sums, counts = _joined([per_user_sums(one[inside], users[inside], n_users) for one in differences])
        low, high, p = (column.tolist() for column in bootstrap(sums, counts, resamples, seed))
        for column in range(len(low)):
            key = (*divmod(column, len(metrics)), stratum)
            found[key] = replace(found[key], low=low[column], high=high[column], p=p[column])
    rows = [found[key] for key in sorted(found)]
    corrected = holm(np.array([row.p for row in rows])).tolist()
    return [replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)], len(users), n_users


def _check_some(control: Sequence[Path], variants: Sequence[tuple[str, Sequence[Path]]]) -> None:
    if not variants:
        raise UsageError("a comparison needs a variant beside the control")
    for name, folders in (("the control", control), *variants):
        if not folders:
            raise UsageError(f"{name} has no folder of results to compare")


@dataclass(frozen=True)
class _Answers:
    """What one variant's runs say, averaged over them: ``values`` ``[Q, M]``, and each run's own means of each stratum,
    ``seed_means`` ``[seeds, strata, M]``."""

    values: np.ndarray
    seed_means: np.ndarray


def _mean_answers(
    folders: Sequence[Path],
    asked: JudgedRun,
    metrics: Sequence[str],
    read: Sequence[str],
    strata: np.ndarray,
    n_strata: int,
) -> _Answers:
    """Read a variant's runs one at a time, so that no more than one is held beside the mean."""
    total = np.zeros((len(asked.rows), len(metrics)))
    seed_means = []
    for folder in folders:
        run = asked if str(folder) == asked.name else read_run(folder, read)
        check_same_questions(asked, run)
        values = run.values(metrics)
        total += values
        sums, counts = per_user_sums(values, strata, n_strata)
        seed_means.append(_divided(sums, counts))
    return _Answers(total / len(folders), np.stack(seed_means))


def _strata(asked: JudgedRun, edges: Sequence[int] | None) -> tuple[list[str], np.ndarray]:
    """The names of the strata, and which one each question is in, int64 ``[Q]``; without ``edges`` one for all."""
    if edges is None:
        return [ALL], np.zeros(len(asked.rows), np.int64)
    if not edges or edges[0] < 1 or list(edges) != sorted(set(edges)):
        raise UsageError(f"the edges of strata must rise from 1 or more, not {list(edges)}")
    if UNCLICKED not in asked.columns:
        raise UsageError(
            f"none of the folders has the column {UNCLICKED!r}, which strata are made of; evaluate one of them again with "
            "this version: xdm evaluate BUNDLE STORE --out DIR"
        )
    return stratum_names(edges), np.searchsorted(np.array(edges), asked.rows[UNCLICKED].to_numpy(), side="right")


def _means(
    name: str,
    strata_names: Sequence[str],
    metrics: Sequence[str],
    strata: np.ndarray,
    users: np.ndarray,
    control: _Answers,
    own: _Answers,
) -> Iterator[tuple[int, int, Comparison]]:
    """``(metric, stratum, comparison)`` for one variant, without interval and p-value."""
    std, control_std = _spread(own.seed_means), _spread(control.seed_means)
    for m, metric in enumerate(metrics):
        first, second = control.values[:, m], own.values[:, m]
        for s, stratum in enumerate(strata_names):
            both = np.flatnonzero((strata == s) & ~np.isnan(first) & ~np.isnan(second))
            one, other, gain = [float(of[both].mean()) if len(both) else NONE for of in (first, second, second - first)]
            yield m, s, Comparison(
                name, metric, one, other, gain, low=NONE, high=NONE, p=NONE, p_holm=NONE, stratum=stratum,
                questions=len(both), users=len(np.unique(users[both])),
                seeds=len(own.seed_means), reference_seeds=len(control.seed_means),
                std=None if std is None else float(std[s, m]),
                reference_std=None if control_std is None else float(control_std[s, m]),
            )  # fmt: skip


def _spread(seed_means: np.ndarray) -> np.ndarray | None:
    """Standard deviation over seeds, ``[strata, M]``; None for one seed, which tells nothing of others."""
    return np.asarray(seed_means.std(axis=0, ddof=1)) if len(seed_means) > 1 else None


def _divided(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(sums, counts, out=np.full(sums.shape, NONE), where=counts > 0)


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    sums, counts = zip(*parts, strict=True)
    return np.hstack(sums), np.hstack(counts)
