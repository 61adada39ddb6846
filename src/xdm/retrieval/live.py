"""The catalogue as it stands just now: a bundle's items, less those withdrawn, and those that came since.

Nothing of the bundle is copied or rebuilt. Items that came, or that have another vector than the bundle's, stand in a small table
that is searched beside it; the bundle's own search leaves out what is withdrawn or replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xdm.retrieval.changes import ItemChange
from xdm.retrieval.lookup import BundleLookup
from xdm.retrieval.similar import Similar
from xdm.retrieval.types import POPULAR, Points, Retriever, TopK
from xdm.schema import ITEM_DTYPE, PADDING, SCORE_DTYPE, UsageError
from xdm.vocabulary import Vocabulary

if TYPE_CHECKING:
    from xdm.bundle.reading import BundleRecommender

FEW_GONE = 1000  # so many are left out of a search one by one; more turn it into a filter

_NONE = np.empty(0, ITEM_DTYPE)


class LiveCatalogue:
    """An immutable snapshot. Indices up to ``n_known`` are the bundle's; items that came later have larger ones."""

    def __init__(self, recommender: BundleRecommender, fingerprint: str) -> None:
        """The catalogue of ``recommender``, whose model is known as ``fingerprint``, before any change."""
        self._of(BundleLookup(recommender, fingerprint), {})

    def _of(self, base: BundleLookup, changes: dict[str, ItemChange]) -> dict[str, str]:
        """Set up from all changes by the text of their item's id; returns why some items have no vector."""
        self._base, self._changes = base, changes
        self.recommender, self.users = base.recommender, base.recommender.users
        self.n_known, self.width = len(base.recommender.catalogue), base.new_vectors.width
        self._new_ids: list[str | int] = []
        self._new_index: dict[str, int] = {}
        self._features: dict[int, Mapping[str, str]] = {}
        gone, live, vectors, reasons = [], [], [], {}
        n_candidates = base.recommender.n_candidates
        for text, change in changes.items():
            index = base.index(change.item_id)
            of_base = PADDING < index <= n_candidates
            vector, reason = (None, None) if change.withdrawn else base.new_vectors.of(change, has_own=of_base)
            if reason is not None:
                reasons[text] = reason
            if of_base and (change.withdrawn or vector is not None):
                gone.append(index)
            if change.withdrawn:
                continue
            if index == PADDING:
                index = self._new(text, change.item_id)
            if vector is not None:
                live.append(index)
                vectors.append(vector)
            if vector is not None or of_base:
                self._features[index] = change.features
        order = np.argsort(live)
        self._gone = np.sort(np.array(gone, ITEM_DTYPE))
        self._live = np.array(live, ITEM_DTYPE)[order]
        self._vectors = np.array(vectors, np.float32)[order] if vectors else np.empty((0, 1), np.float32)
        self._live_retriever = base.over(self._vectors) if vectors else None
        self.n_candidates = n_candidates - len(gone) + len(live)
        self._left: np.ndarray | None = None
        return reasons

    def _new(self, text: str, item_id: str | int) -> int:
        """The index of an item that the bundle does not know."""
        self._new_ids.append(item_id)
        self._new_index[text] = self.n_known + len(self._new_ids)
        return self._new_index[text]

    def changed(self, changes: Sequence[ItemChange]) -> tuple[LiveCatalogue, dict[str, str]]:
        """The catalogue after further ``changes``, the last of an item being the one that counts; and why items have no vector, so
        that they are not recommended, by the text of their id. Takes some microseconds for every item changed so far."""
        if not changes:
            return self, {}
        after = LiveCatalogue.__new__(LiveCatalogue)
        return after, after._of(self._base, self._changes | {str(change.item_id): change for change in changes})

    def unchanged(self) -> LiveCatalogue:
        """The catalogue before any change."""
        before = LiveCatalogue.__new__(LiveCatalogue)
        before._of(self._base, {})
        return before

    # --- ids ------------------------------------------------------------------------------------------------------------
    @property
    def catalogue(self) -> Vocabulary:
        """The bundle's items."""
        return self.recommender.catalogue

    def index(self, item_id: str | int) -> int:
        """The index of an item, 0 where neither the bundle nor a change knows it."""
        return self._base.index(item_id) or self._new_index.get(str(item_id), PADDING)

    def known(self, index: int) -> bool:
        """Whether the model knows the item, so that it counts among a user's behaviours."""
        return PADDING < index <= self.n_known

    def has_vector(self, index: int) -> bool:
        """Whether the item can be recommended just now."""
        if PADDING < index <= self.recommender.n_candidates and not _holds(self._gone, index):
            return True
        return _holds(self._live, index)

    def external_list(self, indices: np.ndarray) -> list[str | int]:
        """The ids of ``indices`` (all >= 1)."""
        if not len(indices) or indices.max() <= self.n_known:
            return self.recommender.catalogue.external_list(indices)
        known = indices <= self.n_known
        of_bundle = iter(self.recommender.catalogue.external_list(indices[known]))
        beyond = self.n_known + 1
        return [self._new_ids[index - beyond] if index >= beyond else next(of_bundle) for index in indices.tolist()]

    # --- filters --------------------------------------------------------------------------------------------------------
    def allowed(self, *, items: Sequence[str | int] | None, features: Mapping[str, Sequence[str]]) -> np.ndarray:
        """What can be recommended, is one of ``items`` (None: any) and has, for each of ``features``, one of its values:
        sorted indices.

        Raises:
            UsageError: the catalogue has no such feature.
        """
        for name in features:
            if name not in self._base.codes:
                there = ", ".join(self._base.codes) or "none at all"
                raise UsageError(f"where: the catalogue has no feature {name!r}; it has {there}")
        posted = np.array(sorted(self._features), ITEM_DTYPE)  # their features may be others than the bundle's
        if features:
            each = [self._with_one_of(name, values) for name, values in features.items()]
            found = each[0]
            for other in each[1:]:
                found = np.intersect1d(found, other, assume_unique=True)
            found = np.setdiff1d(found, posted, assume_unique=True)
            fitting = [index for index in posted.tolist() if self._fits(index, features)]
            found = np.union1d(found, np.array(fitting, ITEM_DTYPE))
        else:
            found = np.union1d(np.arange(1, self.recommender.n_candidates + 1), posted)
        if items is not None:
            found = np.intersect1d(found, np.array([self.index(item) for item in items], ITEM_DTYPE))
        return np.setdiff1d(found, np.setdiff1d(self._gone, self._live), assume_unique=True).astype(ITEM_DTYPE)

    def _with_one_of(self, name: str, values: Sequence[str]) -> np.ndarray:
        parts = [self._base.with_value(name, value) for value in set(values)]
        return parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))

    def _fits(self, index: int, features: Mapping[str, Sequence[str]]) -> bool:
        def value(name: str) -> str | None:
            if name in self._features[index]:
                return self._features[index][name]
            return self._base.value(index, name) if index <= self.n_known else None

        return all(value(name) in values for name, values in features.items())

    # --- search ---------------------------------------------------------------------------------------------------------
    def top_k(
        self,
        points: Points,
        k: int,
        exclude: list[np.ndarray] | None = None,
        allowed: np.ndarray | None = None,
        *,
        exact: bool = False,
    ) -> TopK:
        """As `xdm.retrieval.types.Recommender.top_k`, over the catalogue of this snapshot; ``exact`` goes round the bundle's index by
        scoring every item."""
        retriever = self._base.exhaustive if exact else self.recommender.retriever
        over_all = _Merged(self, retriever)
        top = self.recommender.top_k(points, k, exclude, allowed, over_all)
        for q in np.flatnonzero(top.source == POPULAR) if self._changes else ():
            top.scores[q], top.items[q] = -np.inf, PADDING
            scores, items = self.popular(k, None if exclude is None else exclude[q], allowed)
            top.scores[q, : len(items)], top.items[q, : len(items)] = scores, items
        return top

    def popular(
        self, k: int, exclude: np.ndarray | None = None, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` items with the most training clicks, of which those that came later have none: float32 clicks and int32 indices,
        most clicked first."""
        left_out = _NONE if exclude is None else exclude
        withdrawn = np.setdiff1d(self._gone, self._live)
        items, clicks = self.recommender.popular(k, np.union1d(left_out, withdrawn), allowed)
        late = self._live[(self._live > self.recommender.n_candidates) & ~np.isin(self._live, left_out)]
        late = late if allowed is None else late[np.isin(late, allowed)]
        late = late[: k - len(items)]
        return np.concatenate([clicks, np.zeros(len(late), SCORE_DTYPE)]), np.concatenate([items, late])

    def similar(
        self, index: int, k: int, exclude: np.ndarray | None = None, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` items whose plain vectors have the largest cosine with that of the item ``index`` (which `has_vector`),
        never one of ``exclude``: float32 ``[k]`` and int32 ``[k]``, best first, ``-inf`` and 0 past the end."""
        if _holds(self._live, index):
            vector = self._vectors[np.searchsorted(self._live, index)]
        else:
            vector = self.recommender.retriever.item_vectors[index - 1]
        left_out = _NONE if exclude is None else np.unique(exclude)
        of_bundle = self._base.similar.top_k(vector, k, np.union1d(left_out, self._gone), self._of_bundle(allowed))
        if self._live_retriever is None:
            return of_bundle
        beside = Similar(self._vectors, self.width)
        scores, places = beside.top_k(vector, k, self._places(left_out), self._places_of(allowed))
        return _best(of_bundle[0], of_bundle[1], scores, self._by_place(places), k)

    def search(
        self, retriever: Retriever, queries: np.ndarray, k: int, exclude: list[np.ndarray] | None, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Retriever.top_k`, by ``retriever`` over the bundle's own items and by scoring every one that came since."""
        if not self._changes:
            return retriever.top_k(queries, k, exclude, allowed)
        scores, items = retriever.top_k(queries, k, *self._bundle_filters(len(queries), exclude, allowed))
        if self._live_retriever is None:
            return scores, items
        places = None if exclude is None else [self._places(one) for one in exclude]
        live_scores, found = self._live_retriever.top_k(queries, k, places, self._places_of(allowed))
        return _best(scores, items, live_scores, self._by_place(found), k)

    def _bundle_filters(
        self, n_questions: int, exclude: list[np.ndarray] | None, allowed: np.ndarray | None
    ) -> tuple[list[np.ndarray] | None, np.ndarray | None]:
        """What the bundle's own search is told: nothing that is gone, and indices of its own alone."""
        n = self.recommender.n_candidates
        if allowed is None and len(self._gone) > FEW_GONE:
            if self._left is None:
                self._left = np.setdiff1d(np.arange(1, n + 1, dtype=ITEM_DTYPE), self._gone, assume_unique=True)
            return exclude, self._left
        if allowed is not None or not len(self._gone):
            return exclude, self._of_bundle(allowed)
        return [np.union1d(one, self._gone) for one in exclude or [_NONE] * n_questions], None

    def _of_bundle(self, allowed: np.ndarray | None) -> np.ndarray | None:
        """Those of ``allowed`` whose vectors are the bundle's."""
        if allowed is None:
            return None
        return np.setdiff1d(allowed[allowed <= self.recommender.n_candidates], self._gone, assume_unique=True)

    def _places(self, indices: np.ndarray) -> np.ndarray:
        """Where ``indices`` stand in the table of items that came since, from 1."""
        return (np.flatnonzero(np.isin(self._live, indices)) + 1).astype(ITEM_DTYPE)

    def _places_of(self, allowed: np.ndarray | None) -> np.ndarray | None:
        return None if allowed is None else self._places(allowed)

    def _by_place(self, places: np.ndarray) -> np.ndarray:
        return np.concatenate([[PADDING], self._live]).astype(ITEM_DTYPE)[places]


class _Merged:
    """A `Retriever` over a snapshot, whose bundle is searched by ``retriever``."""

    def __init__(self, catalogue: LiveCatalogue, retriever: Retriever) -> None:
        self._catalogue, self._retriever = catalogue, retriever

    @property
    def item_vectors(self) -> np.ndarray:
        return self._retriever.item_vectors

    def __len__(self) -> int:
        return self._catalogue.n_candidates

    def top_k(
        self, queries: np.ndarray, k: int, exclude: list[np.ndarray] | None = None, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        return self._catalogue.search(self._retriever, queries, k, exclude, allowed)


def _best(
    scores: np.ndarray, items: np.ndarray, other_scores: np.ndarray, other_items: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` best of two answers ``[..., k]`` each; of equal scores the smaller index comes first, the end stays at the end."""
    scores, items = np.concatenate([scores, other_scores], -1), np.concatenate([items, other_items], -1)
    order = np.lexsort((np.where(items == PADDING, 2**31 - 1, items), -scores))[..., :k]
    return np.take_along_axis(scores, order, -1), np.take_along_axis(items, order, -1)


def _holds(indices: np.ndarray, index: int) -> bool:
    place = int(np.searchsorted(indices, index))
    return place < len(indices) and int(indices[place]) == index
