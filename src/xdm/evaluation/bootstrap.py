"""Paired bootstrap over users, and Holm's correction for several comparisons."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
CELLS_AT_ONCE = 2**21  # of the matrix resamples × users; 16 MB as float64, unless there are more users than that


class Interval(NamedTuple):
    """For each of M columns, float64 ``[M]``: the 95 % interval ``[low, high]`` of its mean, and the two-sided ``p`` of its
    being 0. NaN where a column has no value at all."""

    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def per_user_sums(values: np.ndarray, user: np.ndarray, n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums and counts of ``values`` ``[Q, M]`` over each user's questions, ``[users, M]`` both; ``user`` ``[Q]`` codes from
    0. NaN is no value: it is left out of sums and counts alike."""
    has = ~np.isnan(values)
    sums = [np.bincount(user, column, n_users) for column in np.where(has, values, 0.0).T]
    counts = [np.bincount(user, column, n_users) for column in has.T]
    return np.column_stack(sums), np.column_stack(counts)


def bootstrap(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int) -> Interval:
    """Draw users with replacement, ``resamples`` times, each with all of the own questions; ``sums`` and ``counts``
    ``[users, M]`` as `per_user_sums` makes them.

    Columns with the same counts are compared on the same resamples. Users without a value of a column are not drawn
    for it: they say nothing about it.
    """
    found = Interval(*np.full((3, sums.shape[1]), np.nan))
    for columns in _same_counts(counts):
        drawn = counts[:, columns[0]] > 0
        if drawn.any():
            means = resampled_means(sums[drawn][:, columns], counts[drawn, columns[0]], resamples, seed)
            found.low[columns], found.high[columns] = np.quantile(means, [0.025, 0.975], axis=0)
            found.p[columns] = p_values(means)
    return found


def _same_counts(counts: np.ndarray) -> list[list[int]]:
    groups: dict[bytes, list[int]] = {}
    for place, column in enumerate(counts.T):
        groups.setdefault(column.tobytes(), []).append(place)
    return list(groups.values())


def resampled_means(sums: np.ndarray, questions: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means over users drawn with replacement, ``[resamples, M]``, from each user's sums ``[users, M]`` and numbers of
    questions ``[users]``. One draw serves all columns, so that they are compared on the same resamples."""
    rng = np.random.default_rng(seed)
    n_users, table = len(sums), np.column_stack([sums, questions])
    totals = np.empty((resamples, table.shape[1]))
    times_drawn = np.empty((max(CELLS_AT_ONCE // n_users, 1), n_users))
    for first in range(0, resamples, len(times_drawn)):
        some = times_drawn[: resamples - first]
        for row in some:
            row[:] = np.bincount(rng.integers(0, n_users, n_users), minlength=n_users)
        totals[first : first + len(some)] = some @ table
    return totals[:, :-1] / totals[:, -1:]


def p_values(resampled: np.ndarray) -> np.ndarray:
    """Two-sided p-value of each column ``[B, M]``: twice the share of resamples on the smaller side of 0, where the
    observed sample counts as one more, so that no p-value is 0."""
    above = (1 + np.count_nonzero(resampled >= 0, axis=0)) / (1 + len(resampled))
    below = (1 + np.count_nonzero(resampled <= 0, axis=0)) / (1 + len(resampled))
    return np.minimum(1.0, 2 * np.minimum(above, below))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p-values ``[M]``: the i-th smallest times M - i, never falling, at most 1. A NaN is
    no comparison: it stays NaN and does not count among the M."""
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected
