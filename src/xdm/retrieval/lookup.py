"""What is looked up in a bundle again and again, whatever has changed of its items since."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from xdm.retrieval.changes import NewVectors
from xdm.retrieval.exact import ExactRetriever
from xdm.retrieval.scoring import FullScoring
from xdm.retrieval.similar import Similar
from xdm.retrieval.types import Retriever
from xdm.schema import ITEM_DTYPE

if TYPE_CHECKING:
    from xdm.bundle.reading import BundleRecommender

IDS_REMEMBERED = 1 << 17  # looked-up ids that are kept; a lookup in a large catalogue is some 20 comparisons
FILTERS_REMEMBERED = 32  # of one value of a feature, each up to 4 bytes an item


class BundleLookup:
    """A bundle, and what is looked up in it again and again; shared by all snapshots of its catalogue."""

    def __init__(self, recommender: BundleRecommender, fingerprint: str) -> None:
        self.recommender, self.fingerprint = recommender, fingerprint
        self.index = lru_cache(IDS_REMEMBERED)(recommender.catalogue.index)
        self.with_value = lru_cache(FILTERS_REMEMBERED)(self._with_value)
        self.new_vectors = NewVectors(recommender, fingerprint, self.index)
        self.similar = Similar(recommender.retriever.item_vectors, self.new_vectors.width)
        self.codes = {name: _codes(feature.values) for name, feature in recommender.items.features.items()}
        self._exhaustive: Retriever | None = None

    @property
    def exhaustive(self) -> Retriever:
        """The retriever that scores every item, whatever the bundle searches by."""
        if self._exhaustive is None:
            self._exhaustive = self.over(self.recommender.retriever.item_vectors)
        return self._exhaustive

    def over(self, vectors: np.ndarray) -> Retriever:
        """A retriever that scores all of ``vectors`` as the model does."""
        scorer = getattr(self.recommender.retriever, "scorer", None)
        return ExactRetriever(vectors) if scorer is None else FullScoring(scorer, vectors)

    def _with_value(self, name: str, value: str) -> np.ndarray:
        """The candidates whose feature ``name`` is ``value``: sorted indices."""
        code = self.codes[name].get(value)
        if code is None:
            return np.empty(0, ITEM_DTYPE)
        codes = self.recommender.items.features[name].codes[1 : self.recommender.n_candidates + 1]
        return (np.flatnonzero(codes == code) + 1).astype(ITEM_DTYPE)

    def value(self, index: int, name: str) -> str | None:
        """The feature ``name`` of a known item, as text; None for none."""
        feature = self.recommender.items.features[name]
        code = int(feature.codes[index])
        return str(feature.external(np.array([code]))[0]) if code else None


def _codes(values: Any) -> dict[str, int]:
    """The code of each value of a feature, by its text."""
    return {str(value): code for code, value in enumerate(values.to_pylist(), start=1)}
