"""Which items a label is compared with: drawn from the catalogue, from the batch's own labels, or from both.

A sampler also says how often each item is to be expected among its columns; a sampled softmax with the log of that taken off
every score, the label's too, stands for the softmax over all items (logQ correction; Yi et al., "Sampling-Bias-Corrected Neural
Modeling for Large Corpus Item Recommendations", RecSys 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from xdm.schema import ConfigError, InternalError

SamplerName = Literal["log_uniform", "uniform", "popularity", "in_batch", "mixed"]


@dataclass(frozen=True)
class Negatives:
    """The items that labels are compared with.

    ``items`` int64, 1-based: ``[S]`` shared by all points, or ``[P, S]``, each point's own. ``log_expected`` gives, for items of
    any shape, the log of how often each is expected in ``items`` (in a row of it). ``point`` int64 ``[S]``: which point's label
    a column is, -1 for a drawn one; None where all are drawn. ``log_support`` ``[S]``, where labels are among the columns: what
    GRU4Rec's authors take off each score instead.
    """

    items: np.ndarray
    log_expected: Callable[[np.ndarray], np.ndarray]
    point: np.ndarray | None = None
    log_support: np.ndarray | None = None


class Sampler(Protocol):
    """Draws what the points of a batch, whose labels are ``labels`` int64 ``[P]``, are compared with."""

    def shared(self, rng: np.random.Generator, labels: np.ndarray) -> Negatives:
        """One set for all points."""
        ...

    def own(self, rng: np.random.Generator, labels: np.ndarray) -> Negatives:
        """A set for each point."""
        ...


def everything(n: int) -> Negatives:
    """All ``n`` items, each once: nothing is sampled."""
    return Negatives(np.arange(1, n + 1), lambda items: np.zeros(np.shape(items)))


# --- by rank: indices are sorted by falling frequency ------------------------------------------------------------------


def log_uniform_probability(items: np.ndarray, n: int) -> np.ndarray:
    """``P(i) = (log(i + 1) - log(i)) / log(n + 1)`` for 1-based indices that are sorted by falling frequency."""
    items = np.asarray(items, np.float64)
    return (np.log(items + 1) - np.log(items)) / np.log(n + 1)


def _log_uniform_draws(rng: np.random.Generator, n: int, size: int | tuple[int, int]) -> np.ndarray:
    return np.clip(np.exp(rng.random(size) * np.log(n + 1)).astype(np.int64), 1, n)


def log_uniform(rng: np.random.Generator, n: int, size: int) -> tuple[np.ndarray, int]:
    """``size`` distinct of ``n`` items, drawn log-uniformly until there are so many, sorted; and the number of draws it took.

    The semantics of TensorFlow's ``log_uniform_candidate_sampler(unique=True)``, which SDM's authors use.

    Raises:
        ValueError: ``size`` exceeds ``n``.
    """
    if size > n:
        raise ValueError(f"cannot draw {size} distinct items out of {n}")
    drawn = np.zeros(0, np.int64)
    while True:
        drawn = np.concatenate([drawn, _log_uniform_draws(rng, n, 2 * size + 64)])
        items, first = np.unique(drawn, return_index=True)
        if len(items) >= size:
            break
    order = np.argsort(first)[:size]
    return items[order], int(first[order[-1]]) + 1


def log_expected_count(items: np.ndarray, n: int, draws: int) -> np.ndarray:
    """Log of the chance that an item is among the distinct ones of ``draws`` draws: ``log(-expm1(draws log1p(-P)))``."""
    return np.log(-np.expm1(draws * np.log1p(-log_uniform_probability(items, n))))


@dataclass(frozen=True)
class LogUniform:
    """``size`` of ``n`` items. Shared: distinct, drawn log-uniformly. Own: independent draws."""

    n: int
    size: int

    def shared(self, rng: np.random.Generator, labels: np.ndarray) -> Negatives:
        items, draws = log_uniform(rng, self.n, self.size)
        return Negatives(items, lambda which: log_expected_count(which, self.n, draws))

    def own(self, rng: np.random.Generator, labels: np.ndarray) -> Negatives:
        items = _log_uniform_draws(rng, self.n, (len(labels), self.size))
        return Negatives(items, lambda which: np.log(self.size * log_uniform_probability(which, self.n)))


# --- all alike ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Uniform:
    """``size`` of ``n`` items, each as likely as any other. Shared: distinct. Own: independent draws."""

    n: int
    size: int

    def shared(self, rng: np.random.Generator, labels: np.ndarray) -> Negatives:
        return Negatives(rng.choice(self.n, self.size, replace=False, shuffle=False) + 1, self._log_expected)

    def own(self, rng: np.random.Generator, labels: np.ndarray) -> Negatives:
        return Negatives(rng.integers(1, self.n + 1, (len(labels), self.size)), self._log_expected)

    def _log_expected(self, items: np.ndarray) -> np.ndarray:
        return np.full(np.shape(items), np.log(self.size / self.n))


# --- by their clicks ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Popularity:
    """``size`` independent draws with ``p(i)`` proportional to ``clicks(i) ** alpha``, as GRU4Rec's authors draw: an item may
    come twice.

    ``clicks`` ``[n]`` of the items 1 to n; fewer than one count as one. ``alpha`` 0 is uniform, 1 follows the clicks.
    """

    clicks: np.ndarray
    alpha: float
    size: int

    @cached_property
    def log_support(self) -> np.ndarray:
        """``[n]``: alpha log clicks, the log of what p is proportional to."""
        return self.alpha * np.log(np.maximum(self.clicks, 1.0))

    @cached_property
    def log_p(self) -> np.ndarray:
        """``[n]``."""
        return self.log_support - np.log(np.exp(self.log_support).sum())

    @cached_property
    def _cumulative(self) -> np.ndarray:
        cumulative = np.exp(self.log_p).cumsum()
        return cumulative / cumulative[-1]

    def _draw(self, rng: np.random.Generator, shape: int | tuple[int, int]) -> Negatives:
        items = np.searchsorted(self._cumulative, rng.random(shape), side="right") + 1
        return Negatives(items, self.log_expected)

    def shared(self, rng: np.random.Generator, labels: np.ndarray) -> Negatives:
        return self._draw(rng, self.size)

    def own(self, rng: np.random.Generator, labels: np.ndarray) -> Negatives:
        return self._draw(rng, (len(labels), self.size))

    def log_expected(self, items: np.ndarray) -> np.ndarray:
        return self.log_p[items - 1] + np.log(self.size)


# --- the batch's own labels -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InBatch:
    """The labels of the batch, at most ``columns`` of them, and the items of ``more`` beside them (mixed negatives).

    An item that is the label of several points has several columns. A label is expected to be item i with the item's share of all
    ``clicks`` ``[n]``. With both kinds an item is expected as often as both together bring it (Yang et al., "Mixed Negative
    Sampling for Learning Two-tower Neural Networks in Recommendations", WWW 2020 Companion), and items that are nobody's
    label are negatives, too.
    """

    clicks: np.ndarray
    columns: int
    more: Popularity | None = None

    @cached_property
    def _share(self) -> Popularity:
        return Popularity(self.clicks, 1.0, 1)

    def log_clicks(self, items: np.ndarray) -> np.ndarray:
        """``log_support`` of ``items`` as labels."""
        return self._share.log_support[items - 1]

    def shared(self, rng: np.random.Generator, labels: np.ndarray) -> Negatives:
        point = np.arange(len(labels))
        if len(labels) > self.columns:
            point = np.sort(rng.choice(len(labels), self.columns, replace=False, shuffle=False))
        items, more = labels[point], self.more
        log_support = self.log_clicks(items)
        if more is not None:
            drawn = more.shared(rng, labels)
            items = np.concatenate([items, drawn.items])
            log_support = np.concatenate([log_support, more.log_support[drawn.items - 1]])

        def log_expected(which: np.ndarray) -> np.ndarray:
            of_labels = self._share.log_p[which - 1] + np.log(len(point))
            return of_labels if more is None else np.logaddexp(of_labels, more.log_expected(which))

        own = np.concatenate([point, np.full(len(items) - len(point), -1)])
        return Negatives(items, log_expected, own, log_support)

    def own(self, rng: np.random.Generator, labels: np.ndarray) -> Negatives:
        """Raises:
        ConfigError: always: the batch has one set of labels.
        """
        raise ConfigError("objective.negatives_for: the labels of a batch are shared by it; a set for each label must be drawn")


def sampler_of(
    name: SamplerName, n: int, size: int, columns: int, alpha: float, clicks: np.ndarray | None = None
) -> Sampler:
    """The sampler of ``size`` out of ``n`` items; see the classes for ``columns``, ``alpha`` and ``clicks``.

    Raises:
        InternalError: the sampler goes by clicks, and there are none.
    """
    if name == "log_uniform":
        return LogUniform(n, size)
    if name == "uniform":
        return Uniform(n, size)
    if clicks is None or len(clicks) != n:
        raise InternalError(f"sampler {name} goes by the clicks of each of {n} items; got {None if clicks is None else len(clicks)}")
    if name == "popularity":
        return Popularity(clicks, alpha, size)
    return InBatch(clicks, columns, Popularity(clicks, alpha, size) if name == "mixed" and size else None)
