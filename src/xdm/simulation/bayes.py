"""From beliefs about clusters and topics to ranked items: what both oracles of `xdm.simulation.oracle` share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from xdm.log.store import Store
from xdm.retrieval.types import MODEL, Points, TopK
from xdm.schema import DAY, SCORE_DTYPE, UsageError
from xdm.simulation.beliefs import EDGE, Beliefs, TasteFilter, off_the_edge
from xdm.simulation.forecast import LIKED, OTHER, offered
from xdm.simulation.sightings import Sightings, look_back, visit_clock
from xdm.simulation.world import World
from xdm.simulation.writing import item_ids

LEAST_CLUSTER = 1e-6  # a cluster less probable than this is not looked into
ROUNDS = 5  # of the fixed point between what topics say of one another


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
            tastes.observe(day, self.evidence(seen, first, until))
            if self.world.skip_information < 1:
                tastes.observe(day, self._of_offers(seen, first, until, tastes.log_odds))
            asked = (seen.day == day) | (not self.world.taste_change)
            log_odds[asked], log_evidence[asked] = tastes.log_odds[asked], tastes.log_evidence[asked]
        return Beliefs(log_odds, log_evidence)

    def _of_offers(self, seen: Sightings, first: int, until: int, log_odds: np.ndarray) -> np.ndarray:
        """Log ratios ``[Q, topics of the world]``: what was offered says against what could have been in its place.

        An offer is as probable as its weight's share in all that could be offered, and that sum is the greater, the more
        topics are liked. For each topic the sum over the others is taken as expected from ``log_odds``, what is known
        without this, and from what this says of them (a fixed point).
        """
        world = self.world
        within = seen.clicked & (seen.at >= first) & (seen.at < until)
        offers = (1 - world.skip_information) * np.bincount(seen.of[within], minlength=len(seen.visit))
        # What was clicked could be offered for half of the time, on average.
        weight = self.weight.ravel() * np.where(seen.left, 1.0, 0.5)
        by_topic = weight.reshape(-1, world.clusters, world.topics, world.items_per_topic).sum(axis=3)
        gain = by_topic * (world.click_liked - world.click_other)
        ratio, log_odds = np.zeros(gain.shape), log_odds.reshape(gain.shape)
        for _ in range(ROUNDS):
            expected = gain / (1 + np.exp(-log_odds - ratio))
            others = (by_topic * world.click_other + expected).sum(axis=2, keepdims=True) - expected
            ratio = -offers[:, None, None] * np.log1p(gain / np.maximum(others, EDGE))
        return ratio.reshape(len(ratio), -1)

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
