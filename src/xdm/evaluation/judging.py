"""One recommender under judgement: asks it in batches, finds its hits in the store's item space, sums its metrics up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xdm.evaluation.metrics import (
    METRICS,
    SKIPPED,
    SKIPPED_CATEGORY,
    CatalogueUse,
    column_name,
    per_question,
    ranked_hits,
    shares,
)
from xdm.evaluation.records import RecordWriter, per_user_table, recommendations_table
from xdm.evaluation.skips import Skips
from xdm.evaluation.splits import Questions
from xdm.log.store import Events, Feature, Store
from xdm.retrieval.types import SOURCES, Points, Recommender, TopK
from xdm.schema import ITEM_DTYPE, PADDING, InternalError


class Judge:
    """Puts questions about a store to one recommender and keeps the sums.

    The truth is counted in the store's item space: an item that the recommender cannot recommend can be no hit but
    stays in the truth.
    """

    def __init__(
        self,
        recommender: Recommender,
        store: Store,
        ks: tuple[int, ...],
        percentiles: np.ndarray,
        category: Feature | None,
        per_user: RecordWriter | None = None,
        recommendations: RecordWriter | None = None,
    ) -> None:
        """``percentiles`` ``[store items + 1]`` (`popularity_percentiles`); ``category`` is the store's item feature that
        `skipped_category` looks at; the writers may be absent."""
        self.recommender, self.store, self.ks, self.category = recommender, store, ks, category
        self.per_user, self.recommendations = per_user, recommendations
        catalogue, store_items = recommender.catalogue, store.items.vocabulary
        self.own_space = catalogue is not store_items
        self.of_store = _after_padding(catalogue.indices(store_items.ids))  # [store items + 1], own index or 0
        self.to_store = _after_padding(store_items.indices(catalogue.ids))  # [own items + 1], store index or 0
        self.user_of_store = recommender.users.indices(store.users.vocabulary.ids)  # [store users], by row from 0
        self.candidate = candidates_of(recommender)  # [own items + 1]
        self.use = CatalogueUse(self.candidate, percentiles[self.to_store], ks)
        skip_metrics = (SKIPPED,) if category is None else (SKIPPED, SKIPPED_CATEGORY)
        self.sums = {column_name(metric, k): 0.0 for metric in METRICS for k in ks}
        self.skip_sums = {column_name(metric, k): 0.0 for metric in skip_metrics for k in ks}
        self.answered_by = dict.fromkeys(SOURCES, 0)
        self.questions = self.with_unclicked = self.truth_items = self.truth_items_known = 0

    def points(self, first_user: int, events: Events, asked: Questions) -> Points:
        """The questions about one part of the store, whose first user has the row ``first_user``, as the recommender
        sees them. With a catalogue of its own this holds a copy of the part's events: make it once a part."""
        own_events = events.in_catalogue(self.of_store) if self.own_space else events
        return Points(own_events, asked.row, self.user_of_store[first_user + asked.row], asked.time)

    def ask(
        self,
        first_user: int,
        points: Points,
        asked: Questions,
        skips: Skips,
        exclude_seen: bool,
        batch: int,
        report: Callable[[int], None] | None = None,
    ) -> None:
        """Put the questions ``asked`` about one part of the store, seen as ``points`` (`points`), ``batch`` at a time.

        ``report`` is called after each batch with the number of questions answered so far, over all parts.
        """
        for first in range(0, len(points), batch):
            some = points.take(slice(first, first + batch))
            until = first + len(some)
            exclude = some.clicked_before() if exclude_seen else None
            answer = self._checked(self.recommender.top_k(some, self.ks[-1], exclude), len(some))
            self._record(first_user, asked.take(first, until), answer, skips.take(first, until))
            if report is not None:
                report(self.questions)

    def _record(self, first_user: int, asked: Questions, answer: TopK, skips: Skips) -> None:
        truth_sizes, items = np.diff(asked.truth_offsets), self.to_store[answer.items]
        values = per_question(ranked_hits(items, asked.truth_offsets, asked.truth_items), truth_sizes, self.ks)
        of_skips = self._skip_shares(items, skips)
        for name, column in values.items():
            self.sums[name] += float(column.sum())
        for name, column in of_skips.items():
            self.skip_sums[name] += float(np.nansum(column))
        for code, source in enumerate(SOURCES):
            self.answered_by[source] += int(np.count_nonzero(answer.source == code))
        self.questions += len(asked.row)
        self.with_unclicked += int(np.count_nonzero(skips.lengths))
        self.truth_items += len(asked.truth_items)
        self.truth_items_known += int(np.count_nonzero(self.candidate[self.of_store[asked.truth_items]]))
        self.use.add(answer.items)
        if self.per_user is None and self.recommendations is None:
            return
        user_ids = self.store.users.vocabulary.external(first_user + asked.row + 1)
        if self.per_user is not None:
            columns = values | of_skips
            self.per_user.add(per_user_table(user_ids, asked.time, answer, truth_sizes, skips.lengths, columns))
        if self.recommendations is not None:
            catalogue = self.recommender.catalogue
            self.recommendations.add(recommendations_table(user_ids, asked.time, answer, catalogue))

    def _skip_shares(self, items: np.ndarray, skips: Skips) -> dict[str, np.ndarray]:
        """``skipped@K`` and ``skipped_category@K`` of the lists ``items`` ``[Q, K]`` in the store's item space: NaN for
        questions without an unclicked item, of which nothing could be recommended again."""
        found = shares(ranked_hits(items, *skips.items), SKIPPED, self.ks)
        if self.category is not None and skips.categories is not None:
            found |= shares(ranked_hits(self.category.codes[items], *skips.categories), SKIPPED_CATEGORY, self.ks)
        return {name: np.where(skips.lengths > 0, column, np.nan) for name, column in found.items()}

    def _checked(self, answer: TopK, n_questions: int) -> TopK:
        """A list that names an item twice or scores it NaN would make its metrics wrong without a sign of it."""
        shape = (n_questions, self.ks[-1])
        if answer.items.shape != shape or answer.scores.shape != shape or answer.source.shape != (n_questions,):
            raise InternalError(f"the recommender answered {list(answer.items.shape)} items where {list(shape)} were asked")
        if answer.items.min(initial=0) < 0 or answer.items.max(initial=0) > len(self.recommender.catalogue):
            raise InternalError("the recommender answered an item index outside its catalogue")
        if not self.candidate[answer.items[answer.items != PADDING]].all():
            raise InternalError("the recommender answered an item that is none of its candidates")
        ordered = np.sort(answer.items, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PADDING)).any():
            raise InternalError("the recommender put an item into one list twice")
        if np.isnan(answer.scores).any():
            raise InternalError("the recommender answered a score that is NaN")
        return answer

    def summary(self) -> dict[str, Any]:
        """Averages over the questions, coverage and popularity bias, the share of truth items known, who answered.

        Averages of what was skipped are over the questions with an unclicked item, None where there are none."""
        n = self.with_unclicked
        return {
            **{name: total / self.questions for name, total in self.sums.items()},
            **{name: total / n if n else None for name, total in self.skip_sums.items()},
            **self.use.summary(),
            "truth_items_known": self.truth_items_known / self.truth_items,
            "answered_by": self.answered_by,
        }


def candidates_of(recommender: Recommender) -> np.ndarray:
    """What ``recommender`` can put into a list, bool by its own item index ``[items + 1]``.

    It may say so itself, as ``candidates`` (item indices) or as ``n_candidates`` (the first so many of its catalogue); of
    one that says neither, all items are taken for candidates.
    """
    size = len(recommender.catalogue) + 1
    candidate = np.zeros(size, bool)
    candidate[getattr(recommender, "candidates", slice(1, getattr(recommender, "n_candidates", size) + 1))] = True
    return candidate


def _after_padding(indices: np.ndarray) -> np.ndarray:
    return np.concatenate([[PADDING], indices]).astype(ITEM_DTYPE)
