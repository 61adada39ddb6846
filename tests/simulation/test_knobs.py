"""What the settings of a world change: skips that say nothing, tastes that change, noise; judged on the batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xdm.schema import DAY
from xdm.simulation import World
from xdm.simulation.users import UserBatch
from xdm.simulation.writing import spells


def simulate(**settings: Any) -> tuple[World, UserBatch]:
    world = World(**{"users": 1500, "clusters": 3, **settings})
    (batch,) = world.batches()
    return world, batch


def liked(world: World, batch: UserBatch) -> np.ndarray:
    """Of each exposure: is its topic liked by its user on its day?"""
    day = (batch.time - world.start) // DAY
    cluster, topic = np.divmod(batch.item // world.items_per_topic, world.topics)
    return batch.likes[day, batch.user, topic] & (cluster == batch.cluster[batch.user])


def close(found: np.ndarray, probability: float) -> bool:
    """Is the share of true values within four standard deviations of ``probability``?"""
    return abs(found.mean() - probability) < 4 * (probability * (1 - probability) / len(found)) ** 0.5


def test_random_skips_say_nothing_of_tastes() -> None:
    # Of topics that a user has not clicked, those that were skipped often are liked as often as those never shown.
    world, batch = simulate(skip_information=0.0, users=6000, topics=20, share_liked=0.3)
    own = batch.likes[0]
    topic = batch.item // world.items_per_topic % world.topics
    times = np.zeros((2, *own.shape), np.int64)
    np.add.at(times, (batch.clicked.astype(int), batch.user, topic), 1)
    skips, clicks = times
    often, never = own[(skips > 8) & (clicks == 0)], own[(skips == 0) & (clicks == 0)]
    assert min(len(often), len(never)) > 500
    assert abs(often.mean() - never.mean()) < 4 * (0.25 / len(often) + 0.25 / len(never)) ** 0.5
    # And clicks do follow taste, at the rate of the world where skips do too.
    assert liked(world, batch)[batch.clicked].mean() > 0.9
    assert batch.clicked.mean() == pytest.approx(0.3 * world.click_liked + 0.7 * world.click_other, rel=0.03)


@pytest.mark.parametrize("information", [0.25, 0.75])
def test_a_share_of_the_skips_follows_taste(information: float) -> None:
    # The first exposures of all, before anything has run out: what is skipped is liked as rarely as the share says.
    world, batch = simulate(skip_information=information, users=6000, days=1, visits=1, items_per_topic=40)
    skipped = ~batch.clicked
    p, q, share = world.click_liked, world.click_other, world.first_likes
    missed = 1 - world.looked_at * p, 1 - world.looked_at * q
    assert close(liked(world, batch)[skipped], share * missed[0] / (share * missed[0] + (1 - share) * missed[1]))
    rate = world.offered_share + (1 - world.offered_share) * world.looked_at * (share * p + (1 - share) * q)
    assert close(batch.clicked, rate)


@pytest.mark.parametrize("information", [0.0, 0.5])
def test_with_offers_too_nothing_that_was_clicked_is_shown_again(information: float) -> None:
    world, batch = simulate(skip_information=information, exposure_noise=0.3, users=300)
    clicked: set[tuple[int, int]] = set()
    sessions: dict[int, list[int]] = {}
    for user, item, click, session, position in zip(
        batch.user, batch.item, batch.clicked, batch.session, batch.position, strict=True
    ):
        assert (user, item) not in clicked
        if click:
            clicked.add((user, item))
        shown = sessions.setdefault(session, [])
        shown.append(item)
        assert position == len(shown)
    assert all(len(items) == len(set(items)) for items in sessions.values())
    assert {len(items) for items in sessions.values()} <= set(range(world.least_exposures, world.most_exposures + 1))


def test_tastes_change_from_day_to_day_as_often_as_asked() -> None:
    world, batch = simulate(taste_change=0.3, share_liked=0.25, users=4000, days=8)
    before, after = batch.likes[:-1], batch.likes[1:]
    assert close(after[before], 0.7 + 0.3 * 0.25)
    assert close(after[~before], 0.3 * 0.25)
    assert not np.array_equal(batch.likes[0], batch.likes[-1])
    for taste, probability in ((True, world.click_liked), (False, world.click_other)):
        assert close(batch.clicked[liked(world, batch) == taste], probability)


def test_tastes_last_for_good_by_default() -> None:
    world, batch = simulate()
    assert (batch.likes == batch.likes[0]).all()
    assert len(batch.likes) == world.days


def test_spells_say_from_which_day_to_which() -> None:
    likes = np.random.default_rng(5).random((7, 20, 3)) < 0.5
    found = np.zeros(likes.shape, bool)
    spelled = list(zip(*(part.tolist() for part in spells(likes)), strict=True))
    for user, topic, first, last in spelled:
        assert first <= last
        assert not found[max(first - 1, 0) : last + 2, user, topic].any(), "spells neither overlap nor touch"
        found[first : last + 1, user, topic] = True
    assert np.array_equal(found, likes)
    assert spelled == sorted(spelled)


@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_noise_is_the_share_of_new_items_from_other_clusters(noise: float) -> None:
    # An item that is skipped comes again whatever it is; among items shown for the first time the share is as set.
    world, batch = simulate(exposure_noise=noise, items_per_topic=20, days=2, users=3000)
    _, first = np.unique(batch.user * world.n_items + batch.item, return_index=True)
    strange = batch.item // world.items_per_cluster != batch.cluster[batch.user]
    assert strange[first].mean() == pytest.approx(noise, rel=0.05)
    assert close(batch.clicked[strange], world.click_other)
    # Popular items are preferred there too.
    weight = world.catalogue.log_weight.ravel()
    assert weight[batch.item[first][strange[first]]].mean() > weight.mean() + 0.1


def test_no_noise_no_stranger_and_none_with_one_cluster() -> None:
    _, batch = simulate()
    assert np.array_equal(batch.item // 60, batch.cluster[batch.user])
    with pytest.raises(ValueError, match=r"exposure_noise \(0.2\) is above 0.000, for which 1 clusters"):
        World(clusters=1, exposure_noise=0.2)
