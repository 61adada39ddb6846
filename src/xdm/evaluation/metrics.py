"""Metrics of ranked lists over the full catalogue. Definitions with a worked example each: docs/metrics.md."""

from __future__ import annotations

import numpy as np

METRICS = ("hr", "mrr", "precision", "recall", "f1", "ndcg", "map")
SKIPPED, SKIPPED_CATEGORY = "skipped", "skipped_category"


def column_name(metric: str, k: int) -> str:
    """``hr@50``: how a metric at K is called in every file and table."""
    return f"{metric}@{k}"


def ranked_hits(items: np.ndarray, truth_offsets: np.ndarray, truth_items: np.ndarray) -> np.ndarray:
    """Bool ``[Q, K]``: whether the item at each rank is in the question's truth.

    ``items`` int ``[Q, K]``, best first, 0 where no item is; the truth of question q is
    ``truth_items[truth_offsets[q] : truth_offsets[q + 1]]``, distinct indices from 1, rising. Any lists may stand in the
    truth's place: those of unclicked items, say.
    """
    n_questions = len(items)
    if not items.size or not len(truth_items):
        return np.zeros(items.shape, bool)
    width = int(max(items.max(), truth_items.max())) + 1
    question = np.arange(n_questions, dtype=np.int64)
    truth = np.repeat(question, np.diff(truth_offsets)) * width + truth_items
    wanted = question[:, None] * width + items
    place = np.searchsorted(truth, wanted.ravel()).reshape(items.shape)
    return truth[np.minimum(place, len(truth) - 1)] == wanted


def per_question(hits: np.ndarray, truth_sizes: np.ndarray, ks: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Every metric of `METRICS` at every K of ``ks``: ``{"hr@50": float64 [Q], …}``.

    ``hits`` bool ``[Q, at least max(ks)]``, best first; ``truth_sizes`` ``[Q]``, each at least 1. A list that ends
    early counts as misses to its end.
    """
    rank = np.arange(1, hits.shape[1] + 1)
    hits_up_to = np.cumsum(hits, axis=1)
    discount = 1 / np.log2(rank + 1)
    dcg_up_to = np.cumsum(hits * discount, axis=1)
    ideal_up_to = np.cumsum(discount)
    precision_sum_up_to = np.cumsum(hits * hits_up_to / rank, axis=1)
    first_hit = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, np.inf)
    found: dict[str, np.ndarray] = {}
    for k in ks:
        n_hits, reachable = hits_up_to[:, k - 1], np.minimum(k, truth_sizes)
        precision, recall = n_hits / k, n_hits / truth_sizes
        values = {
            "hr": (n_hits > 0).astype(np.float64),
            "mrr": np.where(first_hit <= k, 1 / first_hit, 0.0),
            "precision": precision,
            "recall": recall,
            "f1": 2 * n_hits / (k + truth_sizes),  # 2PR / (P + R) with P = hits / K and R = hits / |G|; 0 without hits
            "ndcg": dcg_up_to[:, k - 1] / ideal_up_to[reachable - 1],
            "map": precision_sum_up_to[:, k - 1] / reachable,
        }
        found |= {column_name(metric, k): values[metric] for metric in METRICS}
    return found


def shares(hits: np.ndarray, metric: str, ks: tuple[int, ...]) -> dict[str, np.ndarray]:
    """``{"skipped@50": float64 [Q], …}`` for the name ``metric``: the share of the first K places that are hits, of
    ``hits`` bool ``[Q, at least max(ks)]``. A list that ends early counts as misses to its end."""
    return {column_name(metric, k): hits[:, :k].sum(axis=1) / k for k in ks}


def popularity_percentiles(clicks: np.ndarray) -> np.ndarray:
    """The popularity percentile of every item, float64 ``[N + 1]`` from its clicks ``[N + 1]`` (index 0 is ignored):
    the share of the N items with fewer clicks, items with as many counting half. The mean over all items is 0.5."""
    ordered = np.sort(clicks[1:])
    fewer, up_to = np.searchsorted(ordered, clicks, side="left"), np.searchsorted(ordered, clicks, side="right")
    return (fewer + up_to) / (2 * max(len(ordered), 1))


class CatalogueUse:
    """Coverage and popularity bias at each K, summed up batch by batch over the recommended lists."""

    def __init__(self, candidate: np.ndarray, percentiles: np.ndarray, ks: tuple[int, ...]) -> None:
        """By the recommender's own index, ``[items + 1]`` both: ``candidate`` bool, whether an item can be recommended;
        ``percentiles`` float64 (`popularity_percentiles`)."""
        self.n_candidates, self.percentiles, self.ks = int(np.count_nonzero(candidate)), percentiles, ks
        self.recommended = {k: np.zeros(len(candidate), bool) for k in ks}
        self.percentile_sum = dict.fromkeys(ks, 0.0)
        self.places = dict.fromkeys(ks, 0)

    def add(self, items: np.ndarray) -> None:
        """Count the lists ``items`` int ``[Q, K]`` (0 where no item is)."""
        for k in self.ks:
            given = items[:, :k][items[:, :k] > 0]
            self.recommended[k][given] = True
            self.percentile_sum[k] += float(self.percentiles[given].sum())
            self.places[k] += len(given)

    def summary(self) -> dict[str, float]:
        """``coverage@K``, the share of the candidates that is recommended at all, and ``popularity_percentile@K``, the
        mean percentile over all recommended places (0.0 where nothing was recommended)."""
        found = {}
        for k in self.ks:
            found[column_name("coverage", k)] = float(self.recommended[k].sum()) / max(self.n_candidates, 1)
            found[column_name("popularity_percentile", k)] = self.percentile_sum[k] / max(self.places[k], 1)
        return found
