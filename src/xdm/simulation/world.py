"""A simulated world whose skips mean something: they tell by elimination which topics a user does not like.

Items belong to topics, topics to clusters. A user has one cluster and likes few of its topics. On a day with a visit, a
handful of items of the cluster is shown. An item of a liked topic is clicked with a high probability, any other hardly
ever. A clicked item is never shown again, a skipped one mostly is, so what was clicked says little about what comes
next, and what was skipped says which topics are left.

The settings say how much of that holds: how much a skip says, how long tastes last, how often items are shown again, how
much of what is shown is beside the point. Everything here is simulated: the log, the items, the users and the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from xdm.simulation.catalogue import Catalogue
    from xdm.simulation.users import UserBatch


class World(BaseModel):
    """The settings of a world; the same settings give the same log, row by row.

    The defaults are chosen so that skips matter where a list of 10 to 20 items is judged: a skip nearly settles that a
    topic is not liked (log-odds ``log((1 - p) / (1 - q))``, about -2.3), clicks are few (one exposure in ten), the items
    of a cluster do not fit into the list, and 3,000 users are enough to learn which items are of one topic.
    `xdm.simulation.named.WORLDS` holds others, the reference world of the experiments among them.
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
    taste_change: float = Field(
        0.0, ge=0, le=1, description="probability that a topic's taste is drawn anew on a new day; 0: for good"
    )

    click_liked: float = Field(0.9, ge=0, le=1, description="p: probability of a click where the topic is liked")
    click_other: float = Field(0.005, ge=0, le=1, description="q: probability of a click where it is not")
    skip_information: float = Field(
        1.0, ge=0, le=1, description="share of the exposures where taste decides what is skipped; 0: skips say nothing"
    )
    show_again: float = Field(
        0.8, ge=0, le=1, description="probability that a skipped item is shown at the next visit too"
    )
    shown_at_most: int = Field(3, ge=1, description="times that an item is shown to a user at most")
    exposure_noise: float = Field(
        0.0, ge=0, lt=1, description="share of the items meant for a user that are of other clusters, at random"
    )

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
        # As many strangers as nine tenths of all there are
        most_noise = 0.9 * (self.clusters - 1) / (1 + 0.9 * (self.clusters - 1))
        if self.exposure_noise > most_noise:
            raise ValueError(
                f"exposure_noise ({self.exposure_noise}) is above {most_noise:.3f}, for which {self.clusters} clusters "
                "have enough items of others"
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

    @property
    def n_visits(self) -> int:
        """Times at which a user may come, of all days."""
        return self.days * self.visits

    @property
    def first_likes(self) -> float:
        """Probability that a topic of the own cluster is liked on the first day: everyone likes one at least."""
        return self.share_liked + (1 - self.share_liked) ** self.topics / self.topics

    @property
    def offered_share(self) -> float:
        """Share of the exposures that are clicked because they were chosen by taste, `skip_information` below 1.

        Where taste does not decide what is skipped, clicks come at the rate of a world in which it does: such an
        exposure is one of `Feed.offers` with this probability, else an item that nobody has looked at.
        """
        inside = self.share_liked * self.click_liked + (1 - self.share_liked) * self.click_other
        rate = (1 - self.exposure_noise) * inside + self.exposure_noise * self.click_other
        return (1 - self.skip_information) * rate

    @property
    def looked_at(self) -> float:
        """Share of the exposures of the queue on which taste decides; the others are skipped whatever they are."""
        queued = 1 - self.offered_share
        return self.skip_information / queued if queued else 0.0

    @cached_property
    def catalogue(self) -> Catalogue:
        from xdm.simulation.catalogue import make_catalogue

        return make_catalogue(self)

    def batches(self) -> Iterator[UserBatch]:
        """All users and all that they were shown, some users at a time: memory does not grow with their number."""
        from xdm.simulation.users import user_batches

        return user_batches(self)
