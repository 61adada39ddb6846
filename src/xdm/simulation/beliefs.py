"""What a user likes, as far as an observer can tell: a forward filter for each topic, in log-odds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xdm.simulation.world import World

EDGE = 1e-9  # what the probabilities 0 and 1 are taken for


@dataclass(frozen=True)
class Beliefs:
    """Of Q users and all topics of a world, under the hypothesis that the topic's cluster is the user's.

    ``log_odds`` float64 ``[Q, topics of the world]``: log P(liked | seen) / P(not liked | seen). ``log_evidence`` float64
    of the same shape: log P(seen of the topic) / P(seen of the topic | never liked), the likes summed out.
    """

    log_odds: np.ndarray
    log_evidence: np.ndarray

    @property
    def liked(self) -> np.ndarray:
        """P(liked | seen), float64 ``[Q, topics of the world]``."""
        return 1.0 / (1.0 + np.exp(-self.log_odds))


class TasteFilter:
    """Forward filter of the tastes' Markov chain: day by day, evidence in log-odds is added, then the chain moves on.

    Topics are filtered on their own. That is exact, as tastes are drawn on their own, but for the rule that everyone
    likes one topic on the first day: the filter knows it only as a higher prior (`World.first_likes`).
    """

    def __init__(self, world: World, users: int) -> None:
        self.world, self.day = world, 0
        shape = users, world.n_topics
        self.log_odds = np.full(shape, _logit(np.array(world.first_likes)))
        self.log_evidence = np.zeros(shape)

    def observe(self, day: int, log_ratio: np.ndarray) -> None:
        """Add what was seen on ``day``, not before the last one observed: ``log_ratio`` ``[Q, topics of the world]`` is
        log P(seen | liked) / P(seen | not liked) of each topic."""
        self.move_to(day)
        liked_already = np.logaddexp(0.0, self.log_odds)
        self.log_odds += log_ratio
        self.log_evidence += np.logaddexp(0.0, self.log_odds) - liked_already

    def move_to(self, day: int) -> None:
        """Let the tastes of the last day observed change until ``day``."""
        kept = (1.0 - self.world.taste_change) ** (day - self.day)
        self.day = day
        if kept < 1.0:
            liked = 1.0 / (1.0 + np.exp(-self.log_odds))
            self.log_odds = _logit(kept * liked + (1.0 - kept) * self.world.share_liked)

    def beliefs(self) -> Beliefs:
        """As of the day that the filter has reached."""
        return Beliefs(self.log_odds, self.log_evidence)


def off_the_edge(probability: float) -> float:
    """``probability``, but neither 0 nor 1: no evidence is so strong that later evidence could not outweigh it."""
    return min(max(probability, EDGE), 1.0 - EDGE)


def _logit(probability: np.ndarray) -> np.ndarray:
    inside = np.clip(probability, EDGE, 1.0 - EDGE)
    return np.log(inside) - np.log1p(-inside)
