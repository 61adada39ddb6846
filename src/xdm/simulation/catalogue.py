"""The items of a simulated world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xdm.simulation.world import World

BRANDS_PER_CLUSTER = 8
AGE_GROUPS = ("18-24", "25-34", "35-44", "45-54", "55+")


@dataclass(frozen=True, eq=False)  # two equal worlds are compared by their settings
class Catalogue:
    """The items, numbered by cluster, topic and place in the topic: item i is of topic ``i // items_per_topic``.

    ``item_number`` int64 ``[items]``: the number in the item's id, shuffled so that an id says nothing of the topic.
    ``brand`` int64 ``[items]``: brands of a cluster, independent of the topic.
    ``log_weight`` float64 ``[clusters, items of a cluster]``: how often an item is chosen to be shown.
    ``typical_age`` int64 ``[clusters]``.
    """

    item_number: np.ndarray
    brand: np.ndarray
    log_weight: np.ndarray
    typical_age: np.ndarray


def make_catalogue(world: World) -> Catalogue:
    """The catalogue that the settings give; it depends on no user."""
    rng = np.random.default_rng([world.seed, 0])
    rank = 1.0 + np.argsort(rng.random((world.clusters, world.items_per_cluster)), axis=1)
    cluster = np.arange(world.n_items) // world.items_per_cluster
    return Catalogue(
        item_number=rng.permutation(world.n_items) + 1,
        brand=cluster * BRANDS_PER_CLUSTER + rng.integers(BRANDS_PER_CLUSTER, size=world.n_items),
        log_weight=-world.popularity_skew * np.log(rank),
        typical_age=rng.integers(len(AGE_GROUPS), size=world.clusters),
    )
