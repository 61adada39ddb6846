"""The case study: one user's clicks and skips beside two models' lists, items of skipped categories marked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xdm.behaviours.points import FeatureTable, behaviours
from xdm.behaviours.rules import BehaviourRules
from xdm.bundle.reading import BundleRecommender
from xdm.evaluation.metrics import ranked_hits
from xdm.evaluation.skips import SkipFinder, category_of
from xdm.evaluation.splits import Split, questions
from xdm.log.store import Events, Feature, Store
from xdm.reports.points import View
from xdm.retrieval.types import MODEL, Points
from xdm.schema import PADDING, UsageError

LEAST_UNCLICKED = 5  # unclicked items of a user who may be chosen
AT_ONCE = 1024  # users whose lists are asked for at a time
# Marks of an item, by what its category was to the user. The signs say it without colours.
UNCLICKED, BOTH, CLICKED, NEITHER = "unclicked", "both", "clicked", ""
SIGNS = {UNCLICKED: "−", BOTH: "±", CLICKED: "+", NEITHER: ""}


@dataclass(frozen=True)
class Shown:
    """An item of the case: its category (None without one), its mark, and whether the user clicked it afterwards."""

    item_id: Any
    category: Any
    mark: str
    hit: bool


@dataclass(frozen=True)
class Average:
    """How many of the first K items are of an unclicked category, averaged over all ``users`` that could be chosen."""

    users: int
    counts: dict[str, float]  # model to mean count


@dataclass(frozen=True)
class Case:
    """One user at one time: behaviours (most recent first), each model's list (best first) and what was clicked later."""

    user_id: Any
    at: int
    until: int
    category: str
    clicked: list[Shown]
    unclicked: list[Shown]
    lists: dict[str, list[Shown]]
    truth: list[Shown]
    why: str  # how the user came to be looked at
    average: Average | None = None
    counts: dict[str, int] = field(default_factory=dict)  # model to items of an unclicked category in its list


class CaseStudy:
    """Finds and describes cases of a store for ``models``: name to recommender, the first of which is SDM's, the second XDM's."""

    def __init__(
        self, store: Store, models: dict[str, BundleRecommender], split: Split, k: int, exclude_seen: bool = False
    ) -> None:
        """``split`` asks one question a user at one time (`TIME`); lists hold ``k`` items; with ``exclude_seen`` none that the
        user clicked before.

        Raises:
            UsageError: the store has no item feature, so that nothing has a category.
        """
        self.store, self.split, self.k, self.exclude_seen = store, split, k, exclude_seen
        self.models = {name: View(recommender, store) for name, recommender in models.items()}
        self.base, self.other = models
        self.rules: BehaviourRules = models[self.other].rules
        self.skips = SkipFinder(store, self.rules)
        category = category_of(store)
        if category is None:
            raise UsageError(f"{store.path} has no item feature, so no item has a category; prepare it with --items")
        self.category: Feature = category

    def choose(self) -> Case:
        """The case of the user whom the rule finds: of those who click in the split's period, have a click before it and at
        least `LEAST_UNCLICKED` unclicked items, the one whose list by the first model holds the most items of unclicked
        categories; then the most unclicked items; then the first in the store. The second model's list has no say.

        Raises:
            UsageError: nobody has so many unclicked items.
        """
        best: tuple[tuple[int, int], int] | None = None
        totals, users = dict.fromkeys(self.models, 0), 0
        for user_row, unclicked, counts in self._counted():
            users += len(user_row)
            for name, count in counts.items():
                totals[name] += int(count.sum())
            for row, *key in zip(user_row.tolist(), counts[self.base].tolist(), unclicked.tolist(), strict=True):
                if best is None or tuple(key) > best[0]:
                    best = ((key[0], key[1]), row)
        if best is None:
            raise UsageError(
                f"{self.store.path}: nobody who clicks in [{self.split.cut_off}, {self.split.until}) has {LEAST_UNCLICKED} "
                "unclicked items then; name a user with --user"
            )
        average = Average(users, {name: total / users for name, total in totals.items()})
        why = (
            f"chosen by this rule: of the {users:,} users who click in the period, have a click before it and at least "
            f"{LEAST_UNCLICKED} unclicked items then, the one whose list by {self.base} holds most items of unclicked "
            f"categories (then most unclicked items); {self.other}'s list had no say. Such a user is an extreme one for "
            f"{self.base}, and another list can be expected to look better there: the averages over all of them are the "
            "figures to compare"
        )
        return self._case(best[1], why, average)

    def of_user(self, user_id: Any) -> Case:
        """The case of one user.

        Raises:
            UsageError: the store does not know the user.
        """
        user = self.store.users.vocabulary.index(user_id)
        if user == PADDING:
            raise UsageError(f"{self.store.path} has no user {user_id!r}")
        return self._case(user - 1, "named by --user", None)

    # --- asking -----------------------------------------------------------------------------------------------------

    def _counted(self) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
        """Some at a time of the users who may be chosen: their rows in the store (from 0), their numbers of unclicked items,
        and for each model how many items of its list are of an unclicked category."""
        for first_user, events in self.store.parts():
            asked = questions(events, self.split)
            # With a catalogue of its own, a view copies the part's events: once a part, not once a block.
            points = {name: view.points(first_user, events, asked.row, asked.time) for name, view in self.models.items()}
            for first in range(0, len(asked.row), AT_ONCE):
                block = np.arange(first, min(first + AT_ONCE, len(asked.row)))
                skipped = self.skips.at(events, asked.row[block], asked.time[block])
                assert skipped.categories is not None  # the store has an item feature
                answers = {name: self._ask(name, some, block) for name, some in points.items()}
                fits = skipped.lengths >= LEAST_UNCLICKED
                for _, by_model in answers.values():
                    fits &= by_model
                counts = {
                    name: ranked_hits(self.category.codes[items], *skipped.categories).sum(axis=1)[fits]
                    for name, (items, _) in answers.items()
                }
                yield first_user + asked.row[block][fits], skipped.lengths[fits], counts

    def _ask(self, name: str, points: Points, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The model's lists at the points ``which``: store indices ``[Q, k]``, 0 past the end, and whether the model made
        them itself (it knows nothing of a user without a click), bool ``[Q]``."""
        some = Points(points.events, points.row[which], points.user[which], points.time[which])
        exclude = None
        if self.exclude_seen:
            exclude = [_clicked(some.events.of_user(int(row)), self.split.cut_off) for row in some.row]
        view = self.models[name]
        answer = view.recommender.top_k(some, self.k, exclude)
        return view.to_store[answer.items], answer.source == MODEL

    def _case(self, user_row: int, why: str, average: Average | None) -> Case:
        part = int(np.searchsorted(self.store.first_users, user_row, side="right")) - 1
        first_user, events = int(self.store.first_users[part]), self.store.part(part)
        row = np.array([user_row - first_user])
        own, at = events.of_user(int(row[0])), self.split.cut_off
        clicked, unclicked = self._behaviours(first_user, events, row)
        later = own.clicked & (own.time >= at) & (own.time < self.split.until)
        truth = own.item[later][np.sort(np.unique(own.item[later], return_index=True)[1])]  # in the order of the clicks
        marks = _Marks(self.category, clicked, unclicked, truth)
        shown = {}
        for name, view in self.models.items():
            items = self._ask(name, view.points(first_user, events, row, np.array([at])), np.array([0]))[0][0]
            shown[name] = self._shown(items[items != PADDING], marks)
        return Case(
            self.store.users.vocabulary.external_list(np.array([user_row + 1]))[0], at, self.split.until, self.category.name,
            self._shown(clicked, marks), self._shown(unclicked, marks), shown, self._shown(truth, marks), why, average,
            {name: sum(one.mark in (UNCLICKED, BOTH) for one in items) for name, items in shown.items()},
        )  # fmt: skip

    def _behaviours(self, first_user: int, events: Events, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Store indices of what the user clicked and of the unclicked items, by the second model's rules, most recent first."""
        features = FeatureTable.of(len(self.store.items), {})  # items alone
        found = behaviours(events, row, np.array([self.split.cut_off]), features, self.rules)
        session, before = found.short_term(0)[::-1], found.long_term(0, 0)
        clicked = np.concatenate([session, before])
        return clicked[np.sort(np.unique(clicked, return_index=True)[1])], found.unclicked(0)[::-1]

    def _shown(self, items: np.ndarray, marks: _Marks) -> list[Shown]:
        ids = self.store.items.vocabulary.external_list(items)
        return [Shown(item_id, *marks.of(int(item))) for item_id, item in zip(ids, items, strict=True)]


class _Marks:
    """What an item's category was to the user, and whether the item was clicked later."""

    def __init__(self, category: Feature, clicked: np.ndarray, unclicked: np.ndarray, truth: np.ndarray) -> None:
        self.category, self.truth = category, set(truth.tolist())
        self.clicked = set(category.codes[clicked].tolist()) - {PADDING}
        self.unclicked = set(category.codes[unclicked].tolist()) - {PADDING}

    def of(self, item: int) -> tuple[Any, str, bool]:
        """``(category, mark, hit)`` of a store index."""
        code = int(self.category.codes[item])
        name = self.category.external(np.array([code]))[0] if code else None
        marks = {(True, False): UNCLICKED, (True, True): BOTH, (False, True): CLICKED, (False, False): NEITHER}
        return name, marks[code in self.unclicked, code in self.clicked], item in self.truth


def _clicked(events: Events, at: int) -> np.ndarray:
    """The distinct items that one user clicked strictly before ``at``."""
    return np.unique(events.item[events.clicked & (events.time < at)])
