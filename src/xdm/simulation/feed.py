"""What a simulated world shows to its users, visit by visit, and what they click."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from xdm.schema import DAY, HOUR
from xdm.simulation.catalogue import Catalogue
from xdm.simulation.world import World

FIRST_HOUR = 7  # UTC; visits start between this hour and LAST_HOUR
LAST_HOUR = 23
LONGEST_GAP = 180  # seconds between two exposures of a visit; below the 600 that end a session


def window_width(world: World) -> int:
    """Seconds of the window of one visit: the waking hours are cut into as many windows as there may be visits."""
    return (LAST_HOUR - FIRST_HOUR) * HOUR // world.visits


@lru_cache(maxsize=16)
def strangers(world: World) -> int:
    """Items of other clusters that are drawn for a queue, so many that `exposure_noise` is the share of distinct ones."""
    noise, others = world.exposure_noise, world.clusters - 1
    wanted = world.items_per_cluster * noise / (1 - noise)
    weight = np.exp(world.catalogue.log_weight[0])  # every cluster has the same weights, in another order
    unhit = 1 - weight / (others * weight.sum()) if others else np.ones(1)
    draws, distinct = 0, 0.0
    while distinct < wanted - 0.5:
        draws += max(1, int(wanted - distinct))  # a draw brings one at most
        distinct = others * (1 - unhit**draws).sum()
    return draws


def queue_width(world: World) -> int:
    """Places in the queue of a user."""
    return world.items_per_cluster + strangers(world)


class Feed:
    """What is shown to a batch of users, day by day.

    Every user has a queue of the own cluster's items in random order, popular items rather early (sampling without
    replacement by weight: the Gumbel-max trick), with items of other clusters at random places between them. Arrays
    ``[B, places]`` are in the order of the queue.

    Where ``skip_information`` is below 1, some exposures are *offers*: an item that is drawn, whatever was shown or
    skipped before, from all that the user has not clicked, by popularity × probability of a click, and that is clicked
    for sure. And some exposures of the queue are not looked at: skipped whatever they are. With ``skip_information`` 0
    there is nothing but these two. Then the queue and what is skipped of it depend on the clicks, through the items that
    are never shown again, but not on the tastes in any other way; and what is clicked does not depend on the queue. So
    once the clicks (and the cluster) are known, skips say nothing more.
    """

    def __init__(
        self, world: World, catalogue: Catalogue, cluster: np.ndarray, likes: np.ndarray, rng: np.random.Generator
    ) -> None:
        """``cluster`` int64 ``[B]``; ``likes`` bool ``[days, B, topics]``."""
        self.world, self.cluster, self.likes, self.rng = world, cluster, likes, rng
        keys = catalogue.log_weight[cluster] + rng.gumbel(size=(len(cluster), world.items_per_cluster))
        own = np.argsort(-keys, axis=1).astype(np.int32)
        self.queue = (own + cluster[:, None] * world.items_per_cluster).astype(np.int32)  # rows of the catalogue
        struck_out = self._let_strangers_in(catalogue) if strangers(world) else np.zeros(self.queue.shape, bool)
        self.times_shown = np.where(struck_out, np.int16(world.shown_at_most), np.int16(0))
        self.clicked = struck_out
        self.due = np.zeros(self.queue.shape, bool)  # skipped, and to be shown again
        self.log_weight = catalogue.log_weight.ravel()

    def _let_strangers_in(self, catalogue: Catalogue) -> np.ndarray:
        """Put items of other clusters, popular ones rather, at random places of the queue.

        Returns bool ``[B, places]``: an item that was drawn twice, to be struck out.
        """
        world, rng, users = self.world, self.rng, len(self.cluster)
        shape = users, strangers(world)
        other = (self.cluster[:, None] + rng.integers(1, world.clusters, size=shape)) % world.clusters
        up_to = np.cumsum(np.exp(catalogue.log_weight), axis=1)
        drawn = rng.random(shape)
        item = np.empty(shape, np.int32)
        for cluster in range(world.clusters):
            of_it = other == cluster
            found = np.searchsorted(up_to[cluster], drawn[of_it] * up_to[cluster, -1], side="right")
            item[of_it] = cluster * world.items_per_cluster + np.minimum(found, world.items_per_cluster - 1)
        by_item = np.argsort(item, axis=1, kind="stable")
        ordered = np.take_along_axis(item, by_item, axis=1)
        again = np.zeros(shape, bool)
        np.put_along_axis(again, by_item[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)

        own = world.items_per_cluster
        place = np.concatenate([np.sort(rng.random((users, own)), axis=1), rng.random(shape)], axis=1)
        order = np.argsort(place, axis=1)
        self.queue = np.take_along_axis(np.concatenate([self.queue, item], axis=1), order, axis=1)
        struck_out = np.concatenate([np.zeros((users, own), bool), again], axis=1)
        return np.take_along_axis(struck_out, order, axis=1)

    def next_visit(self, visit: int) -> tuple[np.ndarray, ...]:
        """The exposures of one visit, of the users who come: ``row, item, time, clicked, visit, position``, each ``[n]``."""
        world, rng = self.world, self.rng
        wanted = rng.integers(world.least_exposures, world.most_exposures + 1, size=len(self.cluster))
        wanted[rng.random(len(wanted)) >= world.active] = 0
        offered = self.offers(visit, rng.binomial(wanted, world.offered_share)) if world.skip_information < 1 else None
        if offered is not None:
            wanted = wanted - np.bincount(offered[0], minlength=len(wanted))
        row, place = self._next_of_queue(wanted)
        clicked = rng.random(len(row)) < self._click_probability(visit, row, place)
        if world.skip_information < 1:
            clicked &= rng.random(len(row)) < world.looked_at
        self.clicked[row, place] = clicked
        self.times_shown[row, place] += 1
        again = ~clicked & (self.times_shown[row, place] < world.shown_at_most)
        self.due[row, place] = again & (rng.random(len(row)) < world.show_again)
        if offered is not None:
            row, place = np.append(row, offered[0]), np.append(place, offered[1])
            clicked = np.append(clicked, np.ones(len(offered[0]), bool))
            mixed = np.lexsort((rng.random(len(row)), row))
            row, place, clicked = row[mixed], place[mixed], clicked[mixed]
        position = _position(row)
        item = self.queue[row, place].astype(np.int64)
        return row, item, self._times(visit, row, position), clicked, np.full(len(row), visit), position

    def _click_probability(self, visit: int, row: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Of a look at the items at ``place`` ``[n]``: float32 ``[n]``."""
        world = self.world
        cluster, topic = np.divmod(self.queue[row, place] // world.items_per_topic, world.topics)
        liked = self.likes[visit // world.visits, row, topic] & (cluster == self.cluster[row])
        return np.where(liked, np.float32(world.click_liked), np.float32(world.click_other))

    def offers(self, visit: int, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``row`` and ``place`` of ``wanted`` ``[B]`` items each that are clicked for sure; they are never shown again."""
        users, width = self.queue.shape
        rows, places = np.repeat(np.arange(users), width), np.tile(np.arange(width), users)
        with np.errstate(divide="ignore"):
            keys = np.log(self._click_probability(visit, rows, places)).reshape(users, width)
        keys = keys + self.log_weight[self.queue] + self.rng.gumbel(size=keys.shape)
        keys[self.clicked] = -np.inf
        most = max(1, min(int(wanted.max(initial=0)), width))
        first = np.argpartition(-keys, most - 1, axis=1)[:, :most]
        first = np.take_along_axis(first, np.argsort(-np.take_along_axis(keys, first, axis=1), axis=1), axis=1)
        found = np.isfinite(np.take_along_axis(keys, first, axis=1)) & (np.arange(most) < wanted[:, None])
        row, rank = np.nonzero(found)
        place = first[row, rank]
        self.times_shown[row, place], self.due[row, place] = self.world.shown_at_most, False
        self.clicked[row, place] = True
        return row, place

    def _next_of_queue(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``row`` and ``place`` in the queue of what is shown, in the order in which it is shown.

        Items that are due come first, in random order; then those next in the queue. What finds no room stays due.
        """
        world, rng, width = self.world, self.rng, self.queue.shape[1]
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
        return row, place[mixed]

    def _times(self, visit: int, row: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Seconds since 1970 of exposures by row and position.

        A visit starts in the first half of its window, and its exposures follow one another by half a minute to three
        minutes, or less where they are many.
        """
        world, rng = self.world, self.rng
        day, window = divmod(visit, world.visits)
        width = window_width(world)
        starts = rng.integers(width // 2, size=len(self.cluster))
        longest = min(LONGEST_GAP, width // 2 // world.most_exposures)
        gaps = rng.integers(longest // 6, longest + 1, size=len(row))
        elapsed = np.cumsum(gaps)
        first = np.flatnonzero(position == 1)
        since_first = elapsed - np.repeat(elapsed[first], np.diff(np.append(first, len(row))))
        return world.start + day * DAY + FIRST_HOUR * HOUR + window * width + starts[row] + since_first


def _position(row: np.ndarray) -> np.ndarray:
    """The place of each element among those of its ``row`` (rising), from 1."""
    return np.arange(1, len(row) + 1) - np.searchsorted(row, row)
