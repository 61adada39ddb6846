"""What had been shown and not clicked when a question was put, by the rules of the evaluation.

A model under judgement may have rules of its own, or no unclicked sequence at all. For all of them the same items must
count as skipped, so they are found here, by the one kernel, in the store's item space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xdm.behaviours.points import FeatureTable, Lists, behaviours, distinct_lists
from xdm.behaviours.rules import BehaviourRules
from xdm.log.store import Events, Feature, Store
from xdm.schema import PADDING

CATEGORY = "category"


@dataclass(frozen=True)
class Skips:
    """The unclicked sequences of Q questions as sets: ``items`` in the store's item space, ``categories`` the codes of the
    items' categories (None where the store has no item feature; an item without a category adds none)."""

    items: Lists
    categories: Lists | None

    @property
    def lengths(self) -> np.ndarray:
        """How many unclicked items each question has, int32 ``[Q]``."""
        return np.diff(self.items[0]).astype(np.int32)

    def take(self, first: int, until: int) -> Skips:
        """Those of the questions ``first`` to ``until`` (not included)."""
        categories = None if self.categories is None else _take(self.categories, first, until)
        return Skips(_take(self.items, first, until), categories)


class SkipFinder:
    """Finds the unclicked sequences of questions about one store."""

    def __init__(self, store: Store, rules: BehaviourRules) -> None:
        # Long-term lists are not asked for: no feature but the item itself, and one value of that.
        self.rules = rules.model_copy(update={"long_window": 0, "long_max": 1})
        self.category = category_of(store)
        self._features = FeatureTable.of(len(store.items), {})

    def at(self, events: Events, row: np.ndarray, time: np.ndarray) -> Skips:
        """For the user at ``row[q]`` (rising) of ``events`` (store item indices) at ``time[q]``, int64 ``[Q]`` each."""
        first, last = (int(row[0]), int(row[-1]) + 1) if len(row) else (0, 0)
        found = behaviours(_of_users(events, first, last), row - first, time, self._features, self.rules)
        question = np.repeat(np.arange(len(row), dtype=np.int64), np.diff(found.unclicked_offsets))
        items = distinct_lists(question, found.unclicked_values, len(row))
        if self.category is None:
            return Skips(items, None)
        codes = self.category.codes[found.unclicked_values]
        return Skips(items, distinct_lists(question[codes != PADDING], codes[codes != PADDING], len(row)))


def category_of(store: Store) -> Feature | None:
    """The item feature ``category``, else the first item feature of the store, else None."""
    features = store.items.features
    return features.get(CATEGORY) or next(iter(features.values()), None)


def _of_users(events: Events, first: int, last: int) -> Events:
    """The events of the users ``first`` to ``last`` (not included), in memory.

    The kernel is compiled for each kind of array anew (some 10 s, once a machine); in memory they are of the kind that
    it is asked with by models, whose catalogue leaves some events out.
    """
    span = slice(int(events.offsets[first]), int(events.offsets[last]))
    return Events(
        np.array(events.item[span]), np.array(events.time[span]), np.array(events.clicked[span]),
        np.array(events.session[span]), events.offsets[first : last + 1] - span.start,
    )  # fmt: skip


def _take(lists: Lists, first: int, until: int) -> Lists:
    offsets, values = lists
    return offsets[first : until + 1] - offsets[first], values[offsets[first] : offsets[until]]
