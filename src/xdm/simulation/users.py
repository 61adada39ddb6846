"""Users of a simulated world: their tastes day by day, and all that they were shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xdm.simulation.catalogue import AGE_GROUPS, Catalogue
from xdm.simulation.feed import Feed, queue_width
from xdm.simulation.world import World

# What a batch of users holds at most: users × items of a queue, and exposures; together some 300 MB at work
CELLS_AT_ONCE = 4_000_000
EXPOSURES_AT_ONCE = 2_000_000
REGIONS = ("north", "east", "south", "west")
TYPICAL_AGE = 0.6  # probability that a user has the age group that is typical of the cluster; else any


@dataclass(frozen=True)
class UserBatch:
    """Some users of the world: users ``first_user`` … (from 0) with the truth about them and their exposures, in order of time.

    By user, ``[B]``: ``cluster``, ``age`` and ``region`` int64; ``likes`` bool ``[days, B, topics]`` over the topics of
    the own cluster, day by day. By exposure, ``[n]``: ``user`` int64 (row of this batch), ``item`` int64 (row of the
    catalogue), ``time`` int64 seconds, ``clicked`` bool, ``session`` int64 (unique in the log), ``position`` int64
    (from 1, within the session).
    """

    first_user: int
    cluster: np.ndarray
    age: np.ndarray
    region: np.ndarray
    likes: np.ndarray
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    clicked: np.ndarray
    session: np.ndarray
    position: np.ndarray


def user_batches(world: World) -> Iterator[UserBatch]:
    """All users, as many at a time as `CELLS_AT_ONCE` and `EXPOSURES_AT_ONCE` allow; each batch has its own seed."""
    exposures = world.n_visits * world.most_exposures  # of one user, at most
    size = max(1, min(CELLS_AT_ONCE // queue_width(world), EXPOSURES_AT_ONCE // exposures))
    for number, first in enumerate(range(0, world.users, size)):
        rng = np.random.default_rng([world.seed, 1, number])
        yield simulate_users(world, world.catalogue, first, min(size, world.users - first), rng)


def simulate_users(world: World, catalogue: Catalogue, first_user: int, n: int, rng: np.random.Generator) -> UserBatch:
    """``n`` users and their exposures of all days."""
    cluster = rng.integers(world.clusters, size=n)
    first_likes = rng.random((n, world.topics)) < world.share_liked
    # Everyone likes something.
    first_likes[np.arange(n), rng.integers(world.topics, size=n)] |= ~first_likes.any(axis=1)
    age = np.where(rng.random(n) < TYPICAL_AGE, catalogue.typical_age[cluster], rng.integers(len(AGE_GROUPS), size=n))
    region = rng.integers(len(REGIONS), size=n)
    likes = tastes_by_day(world, first_likes, rng)

    feed = Feed(world, catalogue, cluster, likes, rng)
    visits = [feed.next_visit(visit) for visit in range(world.n_visits)]
    row, item, time, clicked, visit, position = (np.concatenate(columns) for columns in zip(*visits, strict=True))
    order = np.lexsort((row, time))
    session = (first_user + row) * world.n_visits + visit
    return UserBatch(
        first_user, cluster, age, region, likes,
        row[order], item[order], time[order], clicked[order], session[order], position[order],
    )  # fmt: skip


def tastes_by_day(world: World, first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bool ``[days, B, topics]`` from the tastes ``first`` ``[B, topics]`` of the first day: a two-state Markov chain.

    On each new day a topic's taste is drawn anew with the probability ``taste_change``, liked again with ``share_liked``.
    """
    if not world.taste_change:
        return np.broadcast_to(first, (world.days, *first.shape))
    likes = np.empty((world.days, *first.shape), bool)
    likes[0] = first
    for day in range(1, world.days):
        anew = rng.random(first.shape) < world.taste_change
        likes[day] = np.where(anew, rng.random(first.shape) < world.share_liked, likes[day - 1])
    return likes
