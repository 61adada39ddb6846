"""One recommender under judgement: asks it in batches, finds its hits in the store's item space, sums its metrics up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xdm.evaluation.metrics import METRICS, CatalogueUse, column_name, per_question, ranked_hits
from xdm.evaluation.records import RecordWriter, per_user_table, recommendations_table
from xdm.evaluation.splits import Questions
from xdm.log.store import Events, Store
from xdm.retrieval.types import SOURCES, Points, Recommender, TopK
from xdm.schema import ITEM_DTYPE, PADDING, InternalError


class Judge:
    """Puts questions about a store to one recommender and keeps the sums.

    The truth is counted in the store's item space: an item that the recommender's catalogue lacks can be no hit but
    stays in the truth.
    """

    def __init__(
        self,
        recommender: Recommender,
        store: Store,
        ks: tuple[int, ...],
        percentiles: np.ndarray,
        per_user: RecordWriter | None = None,
        recommendations: RecordWriter | None = None,
    ) -> None:
        """``percentiles`` ``[store items + 1]`` (`popularity_percentiles`); the writers may be absent."""
        self.recommender, self.store, self.ks = recommender, store, ks
        self.per_user, self.recommendations = per_user, recommendations
        catalogue, store_items = recommender.catalogue, store.items.vocabulary
        self.own_space = catalogue is not store_items
        self.of_store = _after_padding(catalogue.indices(store_items.ids))  # [store items + 1], own index or 0
        self.to_store = _after_padding(store_items.indices(catalogue.ids))  # [own items + 1], store index or 0
        self.user_of_store = recommender.users.indices(store.users.vocabulary.ids)  # [store users], by row from 0
        self.use = CatalogueUse(len(catalogue), percentiles[self.to_store], ks)
        self.sums = {column_name(metric, k): 0.0 for metric in METRICS for k in ks}
        self.answered_by = dict.fromkeys(SOURCES, 0)
        self.questions = self.truth_items = self.truth_items_known = 0

    def ask(
        self,
        first_user: int,
        events: Events,
        asked: Questions,
        exclude_seen: bool,
        batch: int,
        report: Callable[[int], None] | None = None,
    ) -> None:
        """Put the questions about one part of the store, whose first user has the row ``first_user``.

        ``report`` is called after each batch with the number of questions answered so far, over all parts.
        """
        own_events = events.in_catalogue(self.of_store) if self.own_space else events
        points = Points(own_events, asked.row, self.user_of_store[first_user + asked.row], asked.time)
        for first in range(0, len(points), batch):
            some = points.take(slice(first, first + batch))
            exclude = _clicked_before(some) if exclude_seen else None
            answer = self._checked(self.recommender.top_k(some, self.ks[-1], exclude), len(some))
            offsets = asked.truth_offsets[first : first + len(some) + 1]
            truth = asked.truth_items[offsets[0] : offsets[-1]]
            self._record(first_user, some, answer, offsets - offsets[0], truth)
            if report is not None:
                report(self.questions)

    def _record(
        self, first_user: int, points: Points, answer: TopK, truth_offsets: np.ndarray, truth_items: np.ndarray
    ) -> None:
        truth_sizes = np.diff(truth_offsets)
        hits = ranked_hits(self.to_store[answer.items], truth_offsets, truth_items)
        values = per_question(hits, truth_sizes, self.ks)
        for name, column in values.items():
            self.sums[name] += float(column.sum())
        for code, source in enumerate(SOURCES):
            self.answered_by[source] += int(np.count_nonzero(answer.source == code))
        self.questions += len(points)
        self.truth_items += len(truth_items)
        self.truth_items_known += int(np.count_nonzero(self.of_store[truth_items]))
        self.use.add(answer.items)
        if self.per_user is None and self.recommendations is None:
            return
        user_ids = self.store.users.vocabulary.external(first_user + points.row + 1)
        if self.per_user is not None:
            self.per_user.add(per_user_table(user_ids, points.time, answer, truth_sizes, values))
        if self.recommendations is not None:
            catalogue = self.recommender.catalogue
            self.recommendations.add(recommendations_table(user_ids, points.time, answer, catalogue))

    def _checked(self, answer: TopK, n_questions: int) -> TopK:
        """A list that names an item twice or scores it NaN would make its metrics wrong without a sign of it."""
        shape = (n_questions, self.ks[-1])
        if answer.items.shape != shape or answer.scores.shape != shape or answer.source.shape != (n_questions,):
            raise InternalError(f"the recommender answered {list(answer.items.shape)} items where {list(shape)} were asked")
        if answer.items.min(initial=0) < 0 or answer.items.max(initial=0) > len(self.recommender.catalogue):
            raise InternalError("the recommender answered an item index outside its catalogue")
        ordered = np.sort(answer.items, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PADDING)).any():
            raise InternalError("the recommender put an item into one list twice")
        if np.isnan(answer.scores).any():
            raise InternalError("the recommender answered a score that is NaN")
        return answer

    def summary(self) -> dict[str, Any]:
        """Averages over the questions, coverage and popularity bias, the share of truth items known, who answered."""
        return {
            **{name: total / self.questions for name, total in self.sums.items()},
            **self.use.summary(),
            "truth_items_known": self.truth_items_known / self.truth_items,
            "answered_by": self.answered_by,
        }


def _after_padding(indices: np.ndarray) -> np.ndarray:
    return np.concatenate([[PADDING], indices]).astype(ITEM_DTYPE)


def _clicked_before(points: Points) -> list[np.ndarray]:
    """For each question the distinct items that its user clicked strictly before its time."""
    events, lists = points.events, []
    for row, time in zip(points.row.tolist(), points.time.tolist(), strict=True):
        begin, end = int(events.offsets[row]), int(events.offsets[row + 1])
        end = begin + int(np.searchsorted(events.time[begin:end], time))
        lists.append(np.unique(events.item[begin:end][events.clicked[begin:end]]))
    return lists
