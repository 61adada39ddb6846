"""A simulated world whose skips mean something: they tell by elimination which topics a user does not like.

Items belong to topics, topics to clusters. A user has one cluster and likes few of its topics, for good. On a day with a
visit, a handful of items of the cluster is shown. An item of a liked topic is clicked with a high probability, any
other hardly ever. A clicked item is never shown again, a skipped one mostly is, so what was clicked says little about
what comes next, and what was skipped says which topics are left.

Everything here is simulated: the log, the items, the users and the truth behind them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from xdm.schema import DAY, HOUR

FIRST_HOUR = 7  # UTC; visits start between this hour and LAST_HOUR
LAST_HOUR = 23
LONGEST_GAP = 180  # seconds between two exposures of a visit; below the 600 that end a session
# What a batch of users holds at most: users × items of a cluster, and exposures; together some 300 MB at work
CELLS_AT_ONCE = 4_000_000
EXPOSURES_AT_ONCE = 2_000_000
BRANDS_PER_CLUSTER = 8
AGE_GROUPS = ("18-24", "25-34", "35-44", "45-54", "55+")
REGIONS = ("north", "east", "south", "west")
TYPICAL_AGE = 0.6  # probability that a user has the age group that is typical of the cluster; else any


class World(BaseModel):
    """The settings of a world; the same settings give the same log, row by row.

    The defaults are chosen so that skips matter where a list of 10 to 20 items is judged: a skip nearly settles that a
    topic is not liked (log-odds ``log((1 - p) / (1 - q))``, about -2.3), clicks are few (one exposure in ten), the items
    of a cluster do not fit into the list, and 3,000 users are enough to learn which items are of one topic.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(7, ge=0, description="of every random choice")
    users: int = Field(2000, ge=1, description="users")
    days: int = Field(6, ge=1, le=3660, description="days that the log covers")
    start: int = Field(1_704_067_200, ge=0, description="first second of the first day, seconds since 1970 UTC")

    clusters: int = Field(4, ge=1, description="clusters; a user has one")
    topics: int = Field(12, ge=1, description="topics in each cluster; the category of an item")
    items_per_topic: int = Field(5, ge=1, description="items in each topic")
    share_liked: float = Field(0.2, gt=0, le=1, description="probability that a user likes a topic of the own cluster")

    click_liked: float = Field(0.9, ge=0, le=1, description="p: probability of a click where the topic is liked")
    click_other: float = Field(0.005, ge=0, le=1, description="q: probability of a click where it is not")
    show_again: float = Field(
        0.8, ge=0, le=1, description="probability that a skipped item is shown at the next visit too"
    )
    shown_at_most: int = Field(3, ge=1, description="times that an item is shown to a user at most")

    visits: int = Field(3, ge=1, le=8, description="times of a day at which a user may come; a visit is a session")
    active: float = Field(0.7, gt=0, le=1, description="probability that a user comes at such a time")
    least_exposures: int = Field(3, ge=1, description="items shown in a visit, at least")
    most_exposures: int = Field(6, ge=1, le=200, description="items shown in a visit, at most")
    popularity_skew: float = Field(0.5, ge=0, le=3, description="weight of the r-th item of a cluster: r to minus this")

    @model_validator(mode="after")
    def _consistent(self) -> World:
        if self.least_exposures > self.most_exposures:
            raise ValueError(
                f"least_exposures ({self.least_exposures}) is above most_exposures ({self.most_exposures})"
            )
        return self

    @property
    def items_per_cluster(self) -> int:
        return self.topics * self.items_per_topic

    @property
    def n_topics(self) -> int:
        """Topics of the whole world; topic t belongs to cluster ``t // topics``."""
        return self.clusters * self.topics

    @property
    def n_items(self) -> int:
        return self.n_topics * self.items_per_topic

    @cached_property
    def catalogue(self) -> Catalogue:
        return make_catalogue(self)

    def batches(self) -> Iterator[UserBatch]:
        """All users and all that they were shown, some users at a time: memory does not grow with their number."""
        exposures = self.days * self.visits * self.most_exposures  # of one user, at most
        size = max(1, min(CELLS_AT_ONCE // self.items_per_cluster, EXPOSURES_AT_ONCE // exposures))
        for number, first in enumerate(range(0, self.users, size)):
            rng = np.random.default_rng([self.seed, 1, number])
            yield simulate_users(self, self.catalogue, first, min(size, self.users - first), rng)


@dataclass(frozen=True)
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
    rng = np.random.default_rng([world.seed, 0])
    rank = 1.0 + np.argsort(rng.random((world.clusters, world.items_per_cluster)), axis=1)
    cluster = np.arange(world.n_items) // world.items_per_cluster
    return Catalogue(
        item_number=rng.permutation(world.n_items) + 1,
        brand=cluster * BRANDS_PER_CLUSTER + rng.integers(BRANDS_PER_CLUSTER, size=world.n_items),
        log_weight=-world.popularity_skew * np.log(rank),
        typical_age=rng.integers(len(AGE_GROUPS), size=world.clusters),
    )


@dataclass(frozen=True)
class UserBatch:
    """Some users of the world: users ``first_user`` … (from 0) with the truth about them and their exposures, in order of time.

    By user, ``[B]``: ``cluster``, ``age`` and ``region`` int64; ``likes`` bool ``[B, topics]`` over the topics of the
    own cluster. By exposure, ``[n]``: ``user`` int64 (row of this batch), ``item`` int64 (row of the catalogue),
    ``time`` int64 seconds, ``clicked`` bool, ``session`` int64 (unique in the log), ``position`` int64 (from 1, within
    the session).
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


def simulate_users(world: World, catalogue: Catalogue, first_user: int, n: int, rng: np.random.Generator) -> UserBatch:
    """``n`` users and their exposures of all days."""
    cluster = rng.integers(world.clusters, size=n)
    likes = rng.random((n, world.topics)) < world.share_liked
    likes[np.arange(n), rng.integers(world.topics, size=n)] |= ~likes.any(axis=1)  # everyone likes something
    age = np.where(rng.random(n) < TYPICAL_AGE, catalogue.typical_age[cluster], rng.integers(len(AGE_GROUPS), size=n))
    region = rng.integers(len(REGIONS), size=n)

    feed = Feed(world, catalogue, cluster, likes, rng)
    visits = [feed.next_visit(visit) for visit in range(world.days * world.visits)]
    row, item, time, clicked, visit, position = (np.concatenate(columns) for columns in zip(*visits, strict=True))
    order = np.lexsort((row, time))
    session = (first_user + row) * (world.days * world.visits) + visit
    return UserBatch(
        first_user, cluster, age, region, likes,
        row[order], item[order], time[order], clicked[order], session[order], position[order],
    )  # fmt: skip


class Feed:
    """What is shown to a batch of users, day by day.

    Every user has a queue of the own cluster's items in random order, popular items rather early (sampling without
    replacement by weight: the Gumbel-max trick). Arrays ``[B, items of a cluster]`` are in the order of the queue.
    """

    def __init__(
        self, world: World, catalogue: Catalogue, cluster: np.ndarray, likes: np.ndarray, rng: np.random.Generator
    ) -> None:
        self.world, self.cluster, self.rng = world, cluster, rng
        keys = catalogue.log_weight[cluster] + rng.gumbel(size=(len(cluster), world.items_per_cluster))
        self.queue = np.argsort(-keys, axis=1).astype(np.int32)
        liked = np.take_along_axis(likes, self.queue // world.items_per_topic, axis=1)
        self.click_probability = np.where(liked, np.float32(world.click_liked), np.float32(world.click_other))
        self.times_shown = np.zeros(self.queue.shape, np.int16)
        self.due = np.zeros(self.queue.shape, bool)  # skipped, and to be shown again

    def next_visit(self, visit: int) -> tuple[np.ndarray, ...]:
        """The exposures of one visit, of the users who come: ``row, item, time, clicked, visit, position``, each ``[n]``."""
        world, rng = self.world, self.rng
        row, place, position = self._choose()
        clicked = rng.random(len(row)) < self.click_probability[row, place]
        self.times_shown[row, place] += 1
        again = ~clicked & (self.times_shown[row, place] < world.shown_at_most)
        self.due[row, place] = again & (rng.random(len(row)) < world.show_again)
        item = self.cluster[row] * world.items_per_cluster + self.queue[row, place]
        return row, item, self._times(visit, row, position), clicked, np.full(len(row), visit), position

    def _choose(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``row``, ``place`` in the queue and ``position`` (from 1) of what is shown, by row and position.

        Items that are due come first, in random order; then those next in the queue. What finds no room stays due.
        """
        world, rng = self.world, self.rng
        users, width = len(self.cluster), world.items_per_cluster
        wanted = rng.integers(world.least_exposures, world.most_exposures + 1, size=users)
        wanted[rng.random(users) >= world.active] = 0

        turn = np.where(self.times_shown == 0, np.arange(1, width + 1, dtype=np.float32), np.float32(np.inf))
        turn[self.due] = rng.random(np.count_nonzero(self.due), dtype=np.float32)
        most = min(world.most_exposures, width)
        first = np.argpartition(turn, most - 1, axis=1)[:, :most]
        turns = np.take_along_axis(turn, first, axis=1)
        order = np.argsort(turns, axis=1)
        shown = np.isfinite(np.take_along_axis(turns, order, axis=1)) & (np.arange(most) < wanted[:, None])
        row, rank = np.nonzero(shown)
        place = np.take_along_axis(first, order, axis=1)[row, rank]
        mixed = np.lexsort((rng.random(len(row)), row))  # old and new items in one feed
        return row, place[mixed], rank + 1

    def _times(self, visit: int, row: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Seconds since 1970 of exposures by row and position.

        The waking hours are cut into as many windows as there may be visits; a visit starts in the first half of its
        window, and its exposures follow one another by half a minute to three minutes, or less where they are many.
        """
        world, rng = self.world, self.rng
        day, window = divmod(visit, world.visits)
        width = (LAST_HOUR - FIRST_HOUR) * HOUR // world.visits
        starts = rng.integers(width // 2, size=len(self.cluster))
        longest = min(LONGEST_GAP, width // 2 // world.most_exposures)
        gaps = rng.integers(longest // 6, longest + 1, size=len(row))
        elapsed = np.cumsum(gaps)
        first = np.flatnonzero(position == 1)
        since_first = elapsed - np.repeat(elapsed[first], np.diff(np.append(first, len(row))))
        return world.start + day * DAY + FIRST_HOUR * HOUR + window * width + starts[row] + since_first
