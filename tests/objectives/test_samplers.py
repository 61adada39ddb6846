"""Samplers draw what they say, as often as they say."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdm.objectives.samplers import (
    InBatch,
    LogUniform,
    Popularity,
    Uniform,
    everything,
    log_expected_count,
    log_uniform,
    log_uniform_probability,
    sampler_of,
)
from xdm.schema import ConfigError, InternalError

N, ROUNDS = 12, 6000
CLICKS = np.array([40.0, 25, 9, 9, 7, 5, 4, 3, 2, 1, 1, 0])
LABELS = np.array([1, 2, 1, 7, 3])
DRAWING = {
    "log_uniform": LogUniform(N, 4), "uniform": Uniform(N, 4), "popularity": Popularity(CLICKS, 0.75, 4),
    "popularity 0": Popularity(CLICKS, 0.0, 4), "popularity 1": Popularity(CLICKS, 1.0, 4),
}  # fmt: skip
drawing = pytest.mark.parametrize("sampler", DRAWING.values(), ids=DRAWING)


def close(counted, expected, rounds=ROUNDS):
    """Mean counts of each item against what was expected of them, within five standard errors of a count of this size."""
    error = np.sqrt(np.maximum(expected, 1e-3) / rounds)
    return np.abs(counted - expected).max() < 5 * error.max() and (np.abs(counted - expected) < 5 * error).all()


@drawing
def test_own_sets_hold_each_item_as_often_as_expected(sampler):
    negatives = sampler.own(np.random.default_rng(1), np.ones(ROUNDS, np.int64))
    assert negatives.items.shape == (ROUNDS, 4)
    assert negatives.point is None
    expected = np.exp(negatives.log_expected(np.arange(1, N + 1)))
    assert expected.sum() == pytest.approx(4)
    assert close(np.bincount(negatives.items.ravel(), minlength=N + 1)[1:] / ROUNDS, expected)


@drawing
def test_shared_sets_hold_each_item_as_often_as_expected(sampler):
    rng = np.random.default_rng(2)
    drawn = [sampler.shared(rng, LABELS) for _ in range(ROUNDS)]
    counted = sum(np.bincount(one.items, minlength=N + 1)[1:] for one in drawn) / ROUNDS
    expected = np.mean([np.exp(one.log_expected(np.arange(1, N + 1))) for one in drawn], axis=0)
    if isinstance(sampler, LogUniform):
        # The number of draws that it took says something of what was drawn; TensorFlow's formula leaves that out.
        assert np.abs(counted - expected).max() < 0.05
    else:
        assert close(counted, expected)
    distinct = [len(set(one.items.tolist())) == len(one.items) == 4 for one in drawn]
    assert all(distinct) if not isinstance(sampler, Popularity) else not all(distinct)


def test_popularity_follows_the_power_of_the_clicks():
    for alpha in (0.0, 0.5, 1.0):
        powers = [max(count, 1.0) ** alpha for count in CLICKS]
        sampler = Popularity(CLICKS, alpha, 7)
        wanted = [math.log(7 * power / sum(powers)) for power in powers]
        assert sampler.log_expected(np.arange(1, N + 1)).tolist() == pytest.approx(wanted)


def test_the_last_item_can_be_drawn_and_nothing_beyond_it():
    class Ends:
        def random(self, shape):
            return np.array([0.0, np.nextafter(1.0, 0.0)])

    assert Popularity(CLICKS, 1.0, 2).shared(Ends(), LABELS).items.tolist() == [1, N]


def test_the_batchs_labels_are_its_columns():
    found = InBatch(CLICKS, 100).shared(np.random.default_rng(0), LABELS)
    assert found.items.tolist() == LABELS.tolist()
    assert found.point.tolist() == [0, 1, 2, 3, 4]
    total = CLICKS.clip(min=1).sum()
    assert found.log_expected(np.array([1, 12])).tolist() == pytest.approx([math.log(5 * 40 / total), math.log(5 / total)])
    assert found.log_support.tolist() == pytest.approx(np.log(CLICKS[LABELS - 1]).tolist())


def test_no_more_columns_than_asked_for_each_point_alike():
    sampler, rng = InBatch(CLICKS, 3), np.random.default_rng(0)
    drawn = [sampler.shared(rng, LABELS) for _ in range(ROUNDS)]
    assert all(len(set(one.point.tolist())) == 3 for one in drawn)
    assert all((one.items == LABELS[one.point]).all() for one in drawn)
    assert close(sum(np.bincount(one.point, minlength=5) for one in drawn) / ROUNDS, np.full(5, 3 / 5))


def test_labels_by_their_clicks_come_as_often_as_expected():
    """With labels that follow the clicks, both kinds of columns together hold each item as often as the mixture says."""
    sampler, rng = InBatch(CLICKS, 100, Popularity(CLICKS, 0.0, 6)), np.random.default_rng(3)
    share = CLICKS.clip(min=1) / CLICKS.clip(min=1).sum()
    drawn = [sampler.shared(rng, rng.choice(N, 5, p=share) + 1) for _ in range(ROUNDS)]
    assert all((one.point[:5] == np.arange(5)).all() and (one.point[5:] == -1).all() for one in drawn)
    counted = sum(np.bincount(one.items, minlength=N + 1)[1:] for one in drawn) / ROUNDS
    expected = np.exp(drawn[0].log_expected(np.arange(1, N + 1)))
    assert expected.tolist() == pytest.approx((5 * share + 6 / N).tolist())
    assert close(counted, expected)


def test_the_raw_support_is_of_clicks_and_of_their_power():
    found = InBatch(CLICKS, 100, Popularity(CLICKS, 0.5, 3)).shared(np.random.default_rng(0), LABELS)
    wanted = [math.log(CLICKS[i - 1]) for i in LABELS] + [0.5 * math.log(max(CLICKS[i - 1], 1)) for i in found.items[5:]]
    assert found.log_support.tolist() == pytest.approx(wanted)
    assert InBatch(CLICKS, 100).log_clicks(np.array([1, 2])).tolist() == pytest.approx([math.log(40), math.log(25)])


@pytest.mark.parametrize("name", ["popularity", "in_batch", "mixed"])
def test_what_goes_by_clicks_asks_for_them(name):
    assert sampler_of(name, N, 4, 10, 0.5, CLICKS).shared(np.random.default_rng(0), LABELS).items.min() >= 1
    for clicks in (None, CLICKS[:-1]):
        with pytest.raises(InternalError, match="clicks of each of 12 items"):
            sampler_of(name, N, 4, 10, 0.5, clicks)


def test_names_and_what_cannot_be():
    assert sampler_of("log_uniform", N, 4, 10, 0.5) == LogUniform(N, 4)
    assert sampler_of("uniform", N, 4, 10, 0.5) == Uniform(N, 4)
    assert sampler_of("mixed", N, 0, 10, 0.5, CLICKS).more is None
    with pytest.raises(ConfigError, match="negatives_for"):
        InBatch(CLICKS, 5).own(np.random.default_rng(0), LABELS)
    assert everything(3).items.tolist() == [1, 2, 3]
    assert everything(3).log_expected(np.array([[1, 3]])).tolist() == [[0, 0]]


# --- the log-uniform sampler in detail ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 17, 5000])
def test_probabilities_sum_to_one_and_fall(n):
    probability = log_uniform_probability(np.arange(1, n + 1), n)
    assert probability.sum() == pytest.approx(1, abs=1e-12)
    assert (np.diff(probability) < 0).all()
    assert probability[0] == pytest.approx(math.log(2) / math.log(n + 1))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), data=st.data())
def test_samples_are_distinct_items_of_the_catalogue(seed, n, data):
    size = data.draw(st.integers(1, n))
    items, draws = log_uniform(np.random.default_rng(seed), n, size)
    assert len(items) == len(set(items.tolist())) == size
    assert items.min() >= 1
    assert items.max() <= n
    assert draws >= size


def test_draws_and_items_are_those_of_drawing_one_by_one():
    class Scripted:
        """Hands out prepared numbers in [0, 1)."""

        def __init__(self, items, n):
            self.values = np.log(np.asarray(items, float) + 0.5) / np.log(n + 1)

        def random(self, size):
            return np.concatenate([self.values, np.full(size - len(self.values), self.values[0])])

    items, draws = log_uniform(Scripted([3, 3, 1, 3, 1, 7, 2], 9), 9, 3)
    assert sorted(items.tolist()) == [1, 3, 7]
    assert draws == 6  # the third distinct item came with the sixth draw


def test_more_than_the_catalogue_cannot_be_drawn():
    with pytest.raises(ValueError, match="cannot draw 4 distinct items out of 3"):
        log_uniform(np.random.default_rng(0), 3, 4)


def test_frequencies_are_those_of_the_formulas():
    """One draw follows P (chi-square); three distinct ones hold each item as often as expected from their draws."""
    n, rounds = 8, 8000
    rng = np.random.default_rng(11)
    counts = Counter(int(log_uniform(rng, n, 1)[0][0]) for _ in range(rounds))
    expected = log_uniform_probability(np.arange(1, n + 1), n) * rounds
    chi_square = sum((counts[i + 1] - expected[i]) ** 2 / expected[i] for i in range(n))
    assert chi_square < 24.3  # 0.1 % of the chi-square distribution with 7 degrees of freedom lies above

    # "is among the distinct ones of T draws" by simulation, for the T of log_expected_count
    draws = 5
    hits = np.zeros(n)
    for _ in range(rounds):
        drawn = np.unique(np.floor(np.exp(rng.random(draws) * np.log(n + 1))).astype(int))
        hits[drawn - 1] += 1
    chance = np.exp(log_expected_count(np.arange(1, n + 1), n, draws))
    assert np.abs(hits / rounds - chance).max() < 4 * (0.25 / rounds) ** 0.5


def test_expected_count_by_its_plain_formula():
    for item, draws in [(1, 1), (3, 10), (20, 400)]:
        p = (math.log(item + 1) - math.log(item)) / math.log(21)
        assert math.exp(log_expected_count(np.array([item]), 20, draws)[0]) == pytest.approx(1 - (1 - p) ** draws)
