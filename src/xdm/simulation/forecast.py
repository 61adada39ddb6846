"""What a simulated world is expected to show and to have clicked in visits to come, item by item.

A mean-field view: each item is followed on its own through *unseen*, *due* (shown and skipped some times, to be shown
again) and *clicked*; how many items there is room for is taken from expected numbers, not from their distribution.
"""

from __future__ import annotations

import numpy as np

from xdm.simulation.feed import strangers
from xdm.simulation.world import World

NEWTON_STEPS = 6
THREE_POINTS = np.sqrt(1.5) * np.array([-1.0, 0.0, 1.0])  # of mean 0 and variance 1
OTHER, LIKED = 0, 1  # index of the taste in arrays [Q, 2, n]


class Forecast:
    """Q users of one cluster with n items, each item under both tastes (`OTHER`, `LIKED`).

    ``unseen`` float64 ``[Q, 2, n]``: P(never shown); ``due`` float64 ``[Q, 2, n, shown_at_most - 1]``: P(due after 1, 2 …
    showings); ``clicked`` float64 ``[Q, 2, n]``: P(clicked from the queue since the forecast began). Offers (see `Feed`)
    are apart: `offered`.
    """

    def __init__(
        self, world: World, weight: np.ndarray, liked: np.ndarray, unseen: np.ndarray, due: np.ndarray
    ) -> None:
        """``weight`` ``[n]``: an item's weight in the queue; ``liked`` ``[Q, n]``: P(liked); ``unseen`` ``[Q, n]`` and ``due``
        ``[Q, n, shown_at_most - 1]`` as known, the same under both tastes."""
        self.world, self.weight = world, weight
        self.taste = np.stack([1.0 - liked, liked], axis=1)  # [Q, 2, n]
        self.unseen = np.repeat(unseen[:, None].astype(np.float64), 2, axis=1)
        self.due = np.repeat(due[:, None].astype(np.float64), 2, axis=1)
        self.clicked = np.zeros(self.unseen.shape)
        look = world.looked_at * np.array([world.click_other, world.click_liked])
        self._look = look[None, :, None]

    def visit(self, active: np.ndarray, exposures: np.ndarray) -> None:
        """One more visit, which takes place with the probability ``active`` ``[Q]`` and then has as many exposures as
        ``exposures`` ``[Q, s]`` say, each number as probable."""
        world = self.world
        # Strangers take their share of the new items, and of those that are due.
        room = exposures * (1 - world.offered_share) * (1 - world.exposure_noise)
        n_due, room = self._possible_due(), room[:, :, None]
        due_share = np.minimum(1.0, room / np.maximum(n_due, 1e-9)).mean(axis=(1, 2))
        n_new = np.maximum(room - n_due, 0.0).mean(axis=(1, 2))
        shown_due = self.due * (active * due_share)[:, None, None, None]
        shown_new = self.unseen * (active[:, None] * self._first_of_queue(n_new))[:, None]
        self.clicked += self._look * (shown_new + shown_due.sum(axis=3))
        self.unseen -= shown_new
        self.due -= shown_due
        again = world.show_again * (1 - self._look)
        if self.due.shape[3]:
            self.due[..., 0] += again * shown_new
            self.due[..., 1:] += again[..., None] * shown_due[..., :-1]

    def _possible_due(self) -> np.ndarray:
        """How many items are due: three equally probable numbers with the mean and the variance, ``[Q, 1, 3]``."""
        chance = np.einsum("qzn,qznm->qn", self.taste, self.due)
        deviation = np.sqrt((chance * (1 - np.minimum(chance, 1))).sum(axis=1))
        return np.maximum(chance.sum(axis=1)[:, None] + deviation[:, None] * THREE_POINTS, 0.0)[:, None, :]

    def _first_of_queue(self, n_new: np.ndarray) -> np.ndarray:
        """P(among the next ``n_new`` ``[Q]`` of the queue | unseen), ``[Q, n]``.

        The Gumbel-max order is that of exponential clocks of rate ``weight``; the time at which so many are expected to
        have rung is found by Newton's method, which comes from below as the expected number is concave in time.
        """
        waiting = np.einsum("qzn,qzn->qn", self.taste, self.unseen)
        wanted = np.minimum(n_new, 0.999 * waiting.sum(axis=1))
        time = np.zeros(len(wanted))
        for _ in range(NEWTON_STEPS):
            silent = np.exp(-self.weight * time[:, None])
            rung = (waiting * (1 - silent)).sum(axis=1)
            slope = (waiting * silent * self.weight).sum(axis=1)
            time += np.maximum(wanted - rung, 0.0) / np.maximum(slope, 1e-12)
        return 1 - np.exp(-self.weight * time[:, None])


def offered(world: World, weight: np.ndarray, liked: np.ndarray, left: np.ndarray, exposures: np.ndarray) -> np.ndarray:
    """P(clicked as an offer within so many exposures | taste), float64 ``[Q, 2, n]``.

    ``weight`` ``[n]``, ``liked`` ``[Q, n]``: P(liked), ``left`` bool ``[Q, n]``: not clicked yet, ``exposures`` ``[Q]``.
    Approximated: items compete through the expected sum of weights.
    """
    click = np.array([world.click_other, world.click_liked])
    expected = left * weight * (click[LIKED] * liked + click[OTHER] * (1 - liked))
    total = expected.sum(axis=1) + strangers(world) * weight.mean() * world.click_other
    rate = exposures * world.offered_share / np.maximum(total, 1e-12)
    return left[:, None] * (1 - np.exp(-rate[:, None, None] * click[None, :, None] * weight))


def mean_exposures(world: World) -> float:
    """Of a visit."""
    return (world.least_exposures + world.most_exposures) / 2


def possible_exposures(world: World, seen: np.ndarray) -> np.ndarray:
    """How many exposures of a visit are to come after ``seen`` ``[Q]`` of them: equally probable numbers ``[Q, 5]``."""
    least = np.maximum(world.least_exposures, seen)
    spread = world.most_exposures + 1 - least  # of the uniform distribution, as a continuous one
    points = least[:, None] - 0.5 + spread[:, None] * (np.arange(5) + 0.5) / 5
    return np.maximum(points - seen[:, None], 0.1)


def usual_course(world: World, weight: np.ndarray) -> np.ndarray:
    """P(clicked from the queue before visit v | taste) for an item of a user of whom nothing is known: float64
    ``[visits + 1, 2, n]``, by ``weight`` ``[n]``."""
    n, usual = len(weight), possible_exposures(world, np.zeros(1))
    forecast = Forecast(
        world, weight, np.full((1, n), world.first_likes), np.ones((1, n)), np.zeros((1, n, world.shown_at_most - 1))
    )
    course = np.zeros((world.n_visits + 1, 2, n))
    for visit in range(world.n_visits):
        forecast.visit(np.array([world.active]), usual)
        course[visit + 1] = forecast.clicked[0]
    return course
