"""Recommenders that know a simulated world's settings: what a Bayes filter makes of clicks and skips, or of clicks alone.

They know the settings, the items' topics and clusters and their popularity, and not what any user likes. Both rank items
by the probability that the user clicks them in the period asked for. `Oracle` sees clicks and skips strictly before
the question, `ClicksOracle` clicks alone. The distance between them is what skips are worth in that world.

Exact: the evidence on tastes of every exposure, clicked or skipped, with tastes that last or change from day to day, where
``skip_information`` is 1. Approximated, for both alike:

- topics are filtered apart, though everyone likes at least one on the first day, and though offers compete;
- what will be shown, and to an observer of clicks what has been, comes from expected numbers (`Forecast`);
- within the period asked for, a taste stays as it is at its begin;
- a user's cluster, where noise leaves it open, is judged by how many items of it were seen and by what the filter makes
  of them; an age group says nothing.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from xdm.log.store import Store
from xdm.simulation.bayes import BayesRecommender
from xdm.simulation.beliefs import EDGE, off_the_edge
from xdm.simulation.forecast import LIKED, OTHER, Forecast, mean_exposures, possible_exposures, usual_course
from xdm.simulation.sightings import Sightings
from xdm.simulation.world import World

LEAST_ACTIVE = 1e-3  # a visit that seems over may go on after all: so that items are in an order there too


def oracle_recommender(
    world: World, store: Store, *, clicks_only: bool, horizon: int | None = None
) -> BayesRecommender:
    """The oracle of ``world`` over the catalogue of ``store``, a log of that world; a `xdm.retrieval.types.Recommender`.

    ``horizon``: the clicks asked for are those of so many seconds from the question on; None: all until the log's end.

    Raises:
        UsageError: the store is not one of this world.
    """
    return (ClicksOracle if clicks_only else Oracle)(world, store, horizon)


class Oracle(BayesRecommender):
    """Sees clicks and skips. It knows what may come again: an item shown less than ``shown_at_most`` times and not missing
    since from a visit that had room for new ones."""

    clicks_only = False

    def evidence(self, seen: Sightings, first: int, until: int) -> np.ndarray:
        """Each exposure is evidence on its topic."""
        world = self.world
        p, q = world.click_liked, world.click_other
        skip = np.log(off_the_edge(1 - world.looked_at * p) / off_the_edge(1 - world.looked_at * q))
        ratio = np.where(seen.clicked, np.log(off_the_edge(p) / off_the_edge(q)), skip)
        within = (seen.at >= first) & (seen.at < until)
        topic = seen.of * world.n_topics + seen.item // world.items_per_topic
        sums = np.bincount(topic[within], ratio[within], minlength=len(seen.visit) * world.n_topics)
        return sums.reshape(-1, world.n_topics)

    def clicked(
        self, seen: Sightings, asked: np.ndarray, cluster: int, liked: np.ndarray, until: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Visit by visit, from what the user is known to have been shown."""
        world, weight = self.world, self.weight[cluster]
        mine = slice(cluster * world.items_per_cluster, (cluster + 1) * world.items_per_cluster)
        active, exposures = self._this_visit(seen, asked, until)
        due = self._due(seen, asked, mine, exposures.mean(axis=1))
        later = (seen.last_visit[asked, mine] == seen.visit[asked, None])[..., None]  # not twice in one visit

        forecast = Forecast(world, weight, liked, seen.times_shown[asked, mine] == 0, np.where(later, 0.0, due))
        forecast.visit(active, exposures)
        forecast.due += np.where(later, due, 0.0)[:, None]
        total, usual = active * exposures.mean(axis=1), possible_exposures(world, np.zeros(len(asked)))
        ahead = until[0][asked] - seen.visit[asked]
        for step in range(1, int(ahead.max(initial=0)) + 1):
            active = world.active * np.where(step < ahead, 1.0, np.where(step == ahead, until[1][asked], 0.0))
            forecast.visit(active, usual)
            total += active * mean_exposures(world)
        return self._with_offers(forecast.clicked, liked, weight, seen.left[asked, mine], total)

    def _due(self, seen: Sightings, asked: np.ndarray, mine: slice, to_come: np.ndarray) -> np.ndarray:
        """P(due after 1, 2 … showings), float64 ``[A, n, shown_at_most - 1]``; ``to_come`` ``[A]``: exposures of this visit."""
        world = self.world
        times, last_visit = seen.times_shown[asked, mine], seen.last_visit[asked, mine]
        again = seen.left[asked, mine] & (times > 0) & (times < world.shown_at_most)
        question, item = np.nonzero(again & (last_visit >= seen.last_new[asked, None]))
        chance = np.full(len(question), world.show_again)
        # In the midst of a visit: what is due and has not come yet is the less likely due, the more has come.
        unseen = (to_come / (to_come + seen.seen_now[asked]))[question]
        waiting = last_visit[question, item] < seen.visit[asked][question]
        missing = chance * unseen / (chance * unseen + 1 - chance + EDGE)
        due = np.zeros((*times.shape, world.shown_at_most - 1))
        due[question, item, times[question, item] - 1] = np.where(waiting, missing, chance)
        return due

    def _this_visit(
        self, seen: Sightings, asked: np.ndarray, until: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """P(it has exposures to come) ``[A]``, as it runs, is over, or may still begin, and how many ``[A, s]``."""
        world, now, share = self.world, seen.seen_now[asked], seen.share[asked]
        end = np.where(until[0][asked] > seen.visit[asked], 1.0, until[1][asked])
        begins = world.active * np.maximum(end - share, 0.0) / np.maximum(1 - world.active * share, EDGE)
        active = np.where(now > 0, 1.0, np.maximum(begins, LEAST_ACTIVE))
        return np.where(seen.visit[asked] < world.n_visits, active, LEAST_ACTIVE), possible_exposures(world, now)


class ClicksOracle(BayesRecommender):
    """Sees clicks alone. That an item has not been clicked is evidence too, as far as it is likely to have been shown."""

    clicks_only = True

    @cached_property
    def course(self) -> np.ndarray:
        """`usual_course` by item: float64 ``[visits + 1, 2, items of a cluster by falling weight]``."""
        return usual_course(self.world, np.sort(self.weight[0])[::-1])

    @cached_property
    def rank(self) -> np.ndarray:
        """The place in `course` of each item of the world, int64 ``[items]``."""
        return np.argsort(np.argsort(-self.weight, axis=1, kind="stable"), axis=1).ravel()

    def _so_far(self, visits: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """P(clicked from the queue within ``visits`` | taste), for a number of visits (a broken one is interpolated) and a
        rank of any shape ``[...]``: float64 ``[2, ...]``."""
        whole = np.minimum(visits.astype(np.int64), self.world.n_visits)
        part = np.where(whole < self.world.n_visits, visits - whole, 0.0)
        after = np.minimum(whole + 1, self.world.n_visits)
        one, other = self.course[whole, :, rank], self.course[after, :, rank]
        return np.moveaxis(one + part[..., None] * (other - one), -1, 0)

    def evidence(self, seen: Sightings, first: int, until: int) -> np.ndarray:
        """Each item was not clicked for so many visits, and then clicked, or not."""
        world = self.world
        rank = np.broadcast_to(self.rank, seen.clicked_at.shape)
        end = np.where(seen.left, (seen.visit + seen.share)[:, None], seen.clicked_at)
        spared = self._spared(np.clip(end, first, until), rank) - self._spared(np.full(end.shape, float(first)), rank)
        question, item = np.nonzero((seen.clicked_at >= first) & (seen.clicked_at < until))
        spared[question, item] += self._chosen(seen.clicked_at[question, item], self.rank[item])
        return spared.reshape(len(spared), world.n_topics, world.items_per_topic).sum(axis=2)

    def _spared(self, visits: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """Log ratio of not having been clicked from the queue within ``visits``."""
        so_far = self._so_far(visits, rank)
        return np.log1p(-so_far[LIKED] * (1 - EDGE)) - np.log1p(-so_far[OTHER] * (1 - EDGE))

    def _chosen(self, visit: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """Log ratio of a click in ``visit`` ``[m]`` by an item that was not clicked before, from the queue or offered."""
        world, click = self.world, np.array([self.world.click_other, self.world.click_liked])[:, None]
        before, after = self._so_far(visit, rank), self._so_far(visit + 1, rank)
        weight = np.sort(self.weight[0])[::-1]
        usual = world.first_likes * world.click_liked + (1 - world.first_likes) * world.click_other
        rate = mean_exposures(world) * world.active * world.offered_share / (weight.sum() * usual)
        chance = (after - before) / (1 - before * (1 - EDGE)) + rate * weight[rank] * click
        return np.log(np.maximum(chance[LIKED], EDGE)) - np.log(np.maximum(chance[OTHER], EDGE))

    def clicked(
        self, seen: Sightings, asked: np.ndarray, cluster: int, liked: np.ndarray, until: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """As usual at this time, given that it has not been clicked yet."""
        world = self.world
        mine = slice(cluster * world.items_per_cluster, (cluster + 1) * world.items_per_cluster)
        begin, end = (seen.visit + seen.share)[asked], (until[0] + until[1])[asked]
        end = np.maximum(end, begin + LEAST_ACTIVE)
        rank = np.broadcast_to(self.rank[mine], liked.shape)
        before = self._so_far(np.broadcast_to(begin[:, None], liked.shape), rank)
        after = self._so_far(np.broadcast_to(end[:, None], liked.shape), rank)
        looked = np.moveaxis((after - before) / (1 - before * (1 - EDGE)), 0, 1)
        exposures = world.active * mean_exposures(world) * (end - begin)
        return self._with_offers(looked, liked, self.weight[cluster], seen.left[asked, mine], exposures)
