"""How near clicked h, unclicked n, label c and the query ẑ lie to each other: distances with intervals, and their t-SNE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from xdm.bundle.model import TrainedModel
from xdm.data.batches import Batch, point_batch
from xdm.data.profiles import profile_codes
from xdm.log.store import Store
from xdm.models.encoder import best_interest
from xdm.models.retrieval_model import RetrievalModel
from xdm.objectives.triplet import DISTANCES
from xdm.reports.points import SampledPoints, View
from xdm.schema import UsageError

POINTS_AT_ONCE = 1024
PERPLEXITY = 30.0  # the usual one; less where points are few


@dataclass(frozen=True)
class Vectors:
    """Of P points float32 ``[P, d]`` each: ``query`` ẑ, ``clicked`` h and ``label`` c; ``unclicked`` n where the model has one."""

    query: np.ndarray
    clicked: np.ndarray
    label: np.ndarray
    unclicked: np.ndarray | None


@dataclass(frozen=True)
class MeanDistance:
    """The mean of D over points, its 95 % interval ``[low, high]``, and ``others``, the mean over pairs of different points:
    what the distance would be if the two had nothing to do with each other."""

    model: str
    pair: str
    mean: float
    low: float
    high: float
    others: float
    points: int


def vectors_of(trained: TrainedModel, store: Store, points: SampledPoints) -> Vectors:
    """The vectors of the model at ``points``, all of which it must see a click before. Of several interests, the one that
    scores the label highest stands for h and for ẑ, as in training."""
    view, profile = View(trained.recommender, store), profile_codes(trained.users)
    held: list[Vectors] = []
    for part in np.unique(points.part).tolist():
        places = np.flatnonzero(points.part == part)
        asked = view.points(int(store.first_users[part]), store.part(part), points.row[places], points.time[places])
        label = view.of_store[points.label[places]].astype(np.int64)
        found = view.recommender.behaviours(asked)
        for first in range(0, len(places), POINTS_AT_ONCE):
            which = np.arange(first, min(first + POINTS_AT_ONCE, len(places)))
            batch = point_batch(found, which, asked.time[which], asked.user[which], profile[asked.user[which]])
            held.append(_vectors(trained.model, batch, label[which]))
    unclicked = [one.unclicked for one in held if one.unclicked is not None]
    return Vectors(
        np.concatenate([one.query for one in held]),
        np.concatenate([one.clicked for one in held]),
        np.concatenate([one.label for one in held]),
        np.concatenate(unclicked) if unclicked else None,
    )


def _vectors(model: RetrievalModel, batch: Batch, label: np.ndarray) -> Vectors:
    with torch.inference_mode():
        queries, c = model(batch.map(torch.from_numpy)), model.vectors(torch.from_numpy(label))
        n = None if queries.unclicked is None else queries.unclicked.numpy()
        return Vectors(best_interest(queries.fused, c).numpy(), best_interest(queries.clicked, c).numpy(), c.numpy(), n)


def mean_distance(model: str, pair: str, a: np.ndarray, b: np.ndarray, distance: str) -> MeanDistance:
    """The mean ``distance`` (a name of `DISTANCES`) of ``a[p]`` and ``b[p]``, ``[P, d]`` each. Points are of different users,
    so the interval is that of a mean of independent values: 1.96 standard errors on either side."""
    between = DISTANCES[distance]
    left, right = torch.from_numpy(a).double(), torch.from_numpy(b).double()
    own = between(left, right)
    n = len(own)
    every = sum(float(between(one[None], right).sum()) for one in left)
    others = (every - float(own.sum())) / (n * (n - 1))
    mean, half = float(own.mean()), 1.96 * float(own.std(correction=1)) / n**0.5
    return MeanDistance(model, pair, mean, mean - half, mean + half, others, n)


def distances_of(name: str, vectors: Vectors, distance: str) -> list[MeanDistance]:
    """Every mean distance that there is to say about a model."""
    h, c, n, z = vectors.clicked, vectors.label, vectors.unclicked, vectors.query
    pairs = [("D(h, c)", h, c)]
    if n is not None:
        pairs += [("D(n, c)", n, c), ("D(n, h)", n, h), ("D(ẑ, c)", z, c), ("D(ẑ, n)", z, n)]
    return [mean_distance(name, pair, a, b, distance) for pair, a, b in pairs]


def embed(groups: list[np.ndarray], distance: str, seed: int) -> list[np.ndarray]:
    """The ``[P, d]`` vectors of every group in one t-SNE: ``[P, 2]`` float64 each.

    Where the distance is between unit vectors, unit vectors are embedded. One thread, so that a seed gives one picture.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise UsageError("t-SNE needs scikit-learn, which is not installed: pip install '.[report]' in a checkout of xdm") from None
    joined = np.concatenate(groups).astype(np.float64)
    if distance == "unit_squared":
        joined /= np.maximum(np.linalg.norm(joined, axis=1, keepdims=True), 1e-8)
    perplexity = min(PERPLEXITY, (len(joined) - 1) / 3)
    with threadpool_limits(1):
        embedded = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(joined)
    ends = np.cumsum([len(group) for group in groups])
    return np.split(np.asarray(embedded, np.float64), ends[:-1])


