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

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np

from xdm.log.store import Store
from xdm.retrieval.types import MODEL, Points, TopK
from xdm.schema import DAY, SCORE_DTYPE, UsageError
from xdm.simulation.beliefs import EDGE, Beliefs, TasteFilter, off_the_edge
from xdm.simulation.forecast import LIKED, OTHER, Forecast, mean_exposures, offered, possible_exposures, usual_course
from xdm.simulation.sightings import Sightings, look_back, visit_clock
from xdm.simulation.world import World
from xdm.simulation.writing import item_ids

LEAST_CLUSTER = 1e-6  # a cluster less probable than this is not looked into
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


class BayesRecommender(ABC):
    """What both oracles share: from beliefs about clusters and topics to ranked items.

    Memory: some arrays of questions × items of the world at a time.
    """

    clicks_only: bool

    def __init__(self, world: World, store: Store, horizon: int | None = None) -> None:
        self.world, self.horizon = world, horizon
        self.catalogue, self.users = store.items.vocabulary, store.users.vocabulary
        self.index_of_row = self.catalogue.indices(item_ids(world))  # [items of the world], 0 where the store lacks it
        if np.count_nonzero(self.index_of_row) != len(self.catalogue):
            raise UsageError(f"{store.path} holds items that the world does not have: it is no log of this world")
        self.row_of_item = np.zeros(len(self.catalogue) + 1, np.int64)
        self.row_of_item[self.index_of_row] = np.arange(world.n_items)
        self.weight = np.exp(world.catalogue.log_weight)  # [clusters, n]

    def top_k(self, points: Points, k: int, exclude: list[np.ndarray] | None = None) -> TopK:
        """See `xdm.retrieval.types.Recommender`; an item's score is the probability that it is clicked."""
        scores = np.full((len(points), len(self.catalogue) + 1), -np.inf)
        known = self.index_of_row > 0
        scores[:, self.index_of_row[known]] = self.probabilities(points)[:, known]
        for question, items in enumerate(exclude or []):
            scores[question, items] = -np.inf
        wanted = min(k, len(self.catalogue))
        best = np.argsort(-scores, axis=1, kind="stable")[:, :wanted]
        found = np.take_along_axis(scores, best, axis=1)
        answer = TopK(
            np.zeros((len(points), k), np.int32), np.full((len(points), k), -np.inf, SCORE_DTYPE),
            np.full(len(points), MODEL, np.uint8),
        )  # fmt: skip
        answer.items[:, :wanted] = np.where(np.isfinite(found), best, 0)
        answer.scores[:, :wanted] = found
        return answer

    def probabilities(self, points: Points) -> np.ndarray:
        """P(clicked in the period asked for), float64 ``[Q, items of the world]``; -1 for what was clicked before."""
        world = self.world
        seen = look_back(world, points, self.row_of_item, self.clicks_only)
        beliefs = self.beliefs(seen)
        cluster = self.clusters(seen, beliefs)
        end = world.start + world.days * DAY if self.horizon is None else points.time + self.horizon
        until = visit_clock(world, np.broadcast_to(end, points.time.shape))
        liked = np.repeat(beliefs.liked, world.items_per_topic, axis=1)
        result = self._of_strangers(cluster)
        for number in range(world.clusters):
            mine = slice(number * world.items_per_cluster, (number + 1) * world.items_per_cluster)
            asked = np.flatnonzero(cluster[:, number] > LEAST_CLUSTER)
            if len(asked):
                clicked = self.clicked(seen, asked, number, liked[asked, mine], until)
                result[asked, mine] += cluster[asked, number, None] * clicked
        return np.where(seen.left, result, -1.0)

    def _of_strangers(self, cluster: np.ndarray) -> np.ndarray:
        """A small chance for items of other clusters, so that these too are in an order: float64 ``[Q, items]``."""
        world = self.world
        share = self.weight / self.weight.sum(axis=1, keepdims=True)
        chance = EDGE + world.exposure_noise * world.click_other * (1 - cluster) / max(world.clusters - 1, 1)
        return (chance[:, :, None] * share).reshape(len(cluster), -1)

    def clusters(self, seen: Sightings, beliefs: Beliefs) -> np.ndarray:
        """P(cluster | seen), float64 ``[Q, clusters]``."""
        world = self.world
        evidence = beliefs.log_evidence.reshape(-1, world.clusters, world.topics).sum(axis=2)
        noise = off_the_edge(world.exposure_noise)
        items = (seen.times_shown > 0).reshape(-1, world.clusters, world.items_per_cluster).sum(axis=2)
        evidence = evidence + items * np.log((1 - noise) * max(world.clusters - 1, 1) / noise)
        evidence -= evidence.max(axis=1, keepdims=True)
        return np.exp(evidence) / np.exp(evidence).sum(axis=1, keepdims=True)

    def beliefs(self, seen: Sightings) -> Beliefs:
        """What the filter knows on the day of each question."""
        days = range(int(seen.day.max(initial=0)) + 1) if self.world.taste_change else range(1)
        tastes = TasteFilter(self.world, len(seen.visit))
        log_odds, log_evidence = tastes.log_odds.copy(), tastes.log_evidence.copy()
        for day in days:
            first, until = (day * self.world.visits, (day + 1) * self.world.visits)
            if not self.world.taste_change:
                first, until = 0, self.world.n_visits
            tastes.observe(day, self.evidence(seen, first, until) + self._of_offers(seen, first, until))
            asked = (seen.day == day) | (not self.world.taste_change)
            log_odds[asked], log_evidence[asked] = tastes.log_odds[asked], tastes.log_evidence[asked]
        return Beliefs(log_odds, log_evidence)

    def _of_offers(self, seen: Sightings, first: int, until: int) -> np.ndarray | float:
        """Log ratios ``[Q, topics of the world]``: what was offered says against what could have been in its place."""
        world = self.world
        if world.skip_information == 1:
            return 0.0
        within = seen.clicked & (seen.at >= first) & (seen.at < until)
        offers = (1 - world.skip_information) * np.bincount(seen.of[within], minlength=len(seen.visit))
        usual = world.first_likes * world.click_liked + (1 - world.first_likes) * world.click_other
        share = (self.weight / (self.weight.sum(axis=1, keepdims=True) * usual)).ravel() * seen.left
        by_topic = share.reshape(len(share), world.n_topics, world.items_per_topic).sum(axis=2)
        return -offers[:, None] * by_topic * (world.click_liked - world.click_other)

    @abstractmethod
    def evidence(self, seen: Sightings, first: int, until: int) -> np.ndarray:
        """Log ratios ``[Q, topics of the world]`` of what was seen in the visits ``first`` to ``until`` (not included)."""

    @abstractmethod
    def clicked(
        self, seen: Sightings, asked: np.ndarray, cluster: int, liked: np.ndarray, until: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """P(clicked in the period | cluster) ``[A, n]`` of the cluster's items, for the questions ``asked`` ``[A]``.

        ``liked`` ``[A, n]``: P(liked | cluster); ``until`` ``[Q]``: the end of the period, as `visit_clock` has it.
        """

    def _with_offers(
        self, looked: np.ndarray, liked: np.ndarray, weight: np.ndarray, left: np.ndarray, exposures: np.ndarray
    ) -> np.ndarray:
        """The tastes summed out of P(clicked from the queue | taste) ``looked`` ``[A, 2, n]``, offers added."""
        if self.world.skip_information < 1:
            looked = 1 - (1 - looked) * (1 - offered(self.world, weight, liked, left, exposures))
        return looked[:, OTHER] * (1 - liked) + looked[:, LIKED] * liked


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
