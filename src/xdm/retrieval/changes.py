"""Changes of items, and the vectors that a model has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from xdm.schema import PADDING

if TYPE_CHECKING:
    from xdm.bundle.reading import BundleRecommender


@dataclass(frozen=True)
class ItemChange:
    """An item that comes, changes or goes; of no model but for ``vector``, which is of the one that ``fingerprint`` names."""

    item_id: str | int
    withdrawn: bool = False
    features: Mapping[str, str] = field(default_factory=dict)
    similar_to: tuple[str | int, ...] = ()
    vector: tuple[float, ...] | None = None
    fingerprint: str | None = None


class NewVectors:
    """Scored vectors of items that a bundle has none of, or others."""

    def __init__(self, recommender: BundleRecommender, fingerprint: str, index: Callable[[str | int], int]) -> None:
        self._recommender, self._fingerprint, self._index = recommender, fingerprint, index
        self._vectors = recommender.retriever.item_vectors
        scoring = recommender.manifest.get("scoring") or {}
        self.width = int(recommender.manifest.get("width") or self._vectors.shape[1])
        # Bundles of before the manifest said so: without a further coordinate a score is a plain inner product of vectors.
        self._kind = scoring.get("kind", "inner_product" if self._vectors.shape[1] == self.width else None)
        self._bias = bool(scoring.get("bias", False))

    def of(self, change: ItemChange, *, has_own: bool) -> tuple[np.ndarray | None, str | None]:
        """The scored vector of ``change`` and why there is none. Of an item that ``has_own`` in the bundle, None alone says that
        its own is meant."""
        if change.vector is not None and change.fingerprint == self._fingerprint:
            if self._kind is None:
                return None, "the bundle does not say how its vectors are scored; train the model again with this version"
            if self._kind == "pairs_layered":
                return None, "the model puts its item vectors through a layer before they are scored; post similar_to, or features"
            return self._folded(np.array(change.vector, np.float32), np.float32(0)), None
        if change.similar_to:
            return self._mean(change)
        if has_own:
            return None, None
        if change.features:
            return self._of_features(change.features)
        if change.vector is not None:
            return None, "its vector was made for another model; post one of the active model, features, or similar_to"
        return None, "it has neither a vector, nor features, nor similar_to"

    def _mean(self, change: ItemChange) -> tuple[np.ndarray | None, str | None]:
        """The mean of the vectors of known items; of items that came later there is no telling in which order they came."""
        places = np.array([self._index(item) for item in change.similar_to])
        places = places[(places != PADDING) & (places <= len(self._vectors))]
        if not len(places):
            return None, "none of similar_to is an item that the model can recommend"
        if self._kind is None:
            return None, "the bundle does not say how its vectors are scored; train the model again with this version"
        rows = self._vectors[places - 1]
        plain = rows[:, : self.width]
        bias = np.zeros(len(rows), np.float32)
        if rows.shape[1] == self.width + 1:
            bias = rows[:, self.width] + (np.square(plain).sum(1) if self._kind == "squared_distance" else 0)
        return self._folded(plain.mean(0), bias.mean()), None

    def _folded(self, plain: np.ndarray, bias: np.floating) -> np.ndarray:
        """The vector as it is scored; see `xdm.models.shared.scoring`."""
        if self._kind == "squared_distance":
            return np.append(plain, bias - np.square(plain).sum()).astype(np.float32)
        if self._kind == "two_squared_distances":
            return np.append(plain, -np.square(plain.reshape(2, -1)).sum(1)).astype(np.float32)
        if self._kind == "pairs_in_unit_ball":
            plain = plain / max(float(np.linalg.norm(plain)), 1.0)
        if self._kind == "cosine":
            plain = plain / max(float(np.linalg.norm(plain)), 1e-6)
        return (np.append(plain, bias) if self._bias else plain).astype(np.float32)

    def _of_features(self, features: Mapping[str, str]) -> tuple[np.ndarray | None, str | None]:
        """What the model has learned of its features, without an item of its own."""
        known = self._recommender.items.features
        codes = np.zeros((1, len(known)), np.int64)
        for place, (name, feature) in enumerate(known.items()):
            if name in features:
                found = [code for code, value in enumerate(feature.values.to_pylist(), start=1) if str(value) == features[name]]
                codes[0, place] = found[0] if found else 0
        if not codes.any():
            there = ", ".join(known) or "none"
            return None, f"no value of its features is known to the model, which has the features {there}"
        vectors = self._recommender.new_item_vectors(codes)
        if vectors is None:
            return None, "the model makes no vector of features; post similar_to, or a vector"
        return vectors[0].astype(np.float32), None
