"""Softmax losses and the log-uniform sampler against plain Python."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from xdm.objectives.softmax import (
    full_softmax,
    log_expected_count,
    log_uniform_probability,
    log_uniform_sample,
    sampled_softmax,
)


def naive_sampled(queries, targets, vectors, sampled, log_expected):
    """The loss one logit at a time; ``vectors`` and ``log_expected`` by item index."""
    total = 0.0
    for query, row in zip(queries, targets, strict=True):
        own = [item for item in row if item]
        candidates = own + [item for item in sampled if item not in own]
        logits = [sum(a * b for a, b in zip(query, vectors[i], strict=True)) - log_expected[i] for i in candidates]
        highest = max(logits)
        of_all = highest + math.log(sum(math.exp(logit - highest) for logit in logits))
        total += sum(of_all - logit for logit in logits[: len(own)]) / len(own)
    return total / len(targets)


def sampled_loss(queries, targets, vectors, sampled, log_expected):
    return sampled_softmax(
        queries, targets, vectors[targets], sampled, vectors[sampled], log_expected[targets], log_expected[sampled]
    )


def targets_of(rng, points, n, width):
    """``[points, width]``: items of 1 to n, 0 for none anywhere but in front."""
    targets = rng.integers(0, n + 1, (points, width))
    targets[:, 0] = rng.integers(1, n + 1, points)
    return torch.from_numpy(targets)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), points=st.integers(1, 6), n=st.integers(2, 12), width=st.integers(1, 5), data=st.data())
def test_sampled_softmax_equals_a_loop(seed, points, n, width, data):
    size = data.draw(st.integers(1, n))
    rng = np.random.default_rng(seed)
    vectors, queries = torch.from_numpy(rng.normal(size=(n + 1, 4))), torch.from_numpy(rng.normal(size=(points, 4)))
    targets = targets_of(rng, points, n, width)
    sampled = torch.from_numpy(rng.permutation(n)[:size] + 1)
    log_expected = torch.from_numpy(rng.normal(size=n + 1))
    found = sampled_loss(queries, targets, vectors, sampled, log_expected)
    wanted = naive_sampled(*(part.tolist() for part in (queries, targets, vectors, sampled, log_expected)))
    assert float(found) == pytest.approx(wanted, abs=1e-9)


def test_an_accidental_hit_is_left_out_of_its_own_row_only():
    vectors = torch.tensor([[0.0], [1.0], [2.0]])
    queries, targets, sampled = torch.tensor([[1.0], [1.0]]), torch.tensor([[1], [2]]), torch.tensor([1])
    loss = sampled_loss(queries, targets, vectors, sampled, torch.zeros(3))
    # row 0: its only sampled item is its label, nothing is left to lose against; row 1: item 1 against its label 2
    assert float(loss) == pytest.approx((0 + math.log(math.exp(1) + math.exp(2)) - 2) / 2)


def test_a_better_score_of_the_label_lowers_both_losses():
    vectors = torch.eye(4)
    targets, sampled, constant = torch.tensor([[2]]), torch.tensor([1, 3]), torch.zeros(4)
    losses = [
        (
            float(full_softmax(torch.tensor([[0.0, 0.0, score, 0.0]]), targets, vectors[1:])),
            float(sampled_loss(torch.tensor([[0.0, 0.0, score, 0.0]]), targets, vectors, sampled, constant)),
        )
        for score in (0.0, 1.0, 2.0)
    ]
    assert losses[0][0] > losses[1][0] > losses[2][0]
    assert losses[0][1] > losses[1][1] > losses[2][1]


@pytest.mark.parametrize("constant", [0.0, -3.5])
def test_with_every_item_sampled_and_a_constant_correction_it_is_the_full_softmax(constant):
    torch.manual_seed(0)
    vectors, queries, targets = torch.randn(10, 5).double(), torch.randn(7, 5).double(), torch.randint(1, 10, (7, 1))
    sampled = sampled_loss(queries, targets, vectors, torch.arange(1, 10), torch.full((10,), constant).double())
    assert float(sampled) == pytest.approx(float(full_softmax(queries, targets, vectors[1:])), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), points=st.integers(1, 6), n=st.integers(1, 9), width=st.integers(1, 5))
def test_full_softmax_equals_a_loop(seed, points, n, width):
    rng = np.random.default_rng(seed)
    vectors, queries = torch.from_numpy(rng.normal(size=(n, 3))), torch.from_numpy(rng.normal(size=(points, 3)))
    targets = targets_of(rng, points, n, width)
    wanted = 0.0
    for scores, row in zip((queries @ vectors.T).tolist(), targets.tolist(), strict=True):
        own = [item for item in row if item]
        wanted += sum(math.log(sum(map(math.exp, scores))) - scores[item - 1] for item in own) / len(own)
    assert float(full_softmax(queries, targets, vectors)) == pytest.approx(wanted / points)


def test_a_target_that_is_not_there_changes_nothing():
    torch.manual_seed(1)
    vectors, queries, targets = torch.randn(10, 5), torch.randn(7, 5), torch.randint(1, 10, (7, 2))
    more = F.pad(targets, (0, 3))
    sampled, log_expected = torch.tensor([1, 5, 9]), torch.randn(10)
    assert torch.equal(full_softmax(queries, more, vectors[1:]), full_softmax(queries, targets, vectors[1:]))
    found, wanted = (sampled_loss(queries, rows, vectors, sampled, log_expected) for rows in (more, targets))
    torch.testing.assert_close(found, wanted)


def test_every_target_pulls_its_item_and_a_sampled_target_is_no_negative():
    vectors = torch.zeros((6, 4)).requires_grad_()
    targets, sampled = torch.tensor([[2, 3, 0]]), torch.tensor([3, 5])
    sampled_loss(torch.ones(1, 4), targets, vectors, sampled, torch.zeros(6)).backward()
    # of three logits, all 0, each has a third; 2 and 3 are to have a half
    torch.testing.assert_close(vectors.grad[:, 0], torch.tensor([0, 0, 1 / 3 - 1 / 2, 1 / 3 - 1 / 2, 0, 1 / 3]))


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
    sample = log_uniform_sample(np.random.default_rng(seed), n, size)
    assert len(sample.items) == len(set(sample.items.tolist())) == size
    assert sample.items.min() >= 1
    assert sample.items.max() <= n
    assert sample.draws >= size


def test_draws_and_items_are_those_of_drawing_one_by_one():
    class Scripted:
        """Hands out prepared numbers in [0, 1)."""

        def __init__(self, items, n):
            self.values = np.log(np.asarray(items, float) + 0.5) / np.log(n + 1)

        def random(self, size):
            return np.concatenate([self.values, np.full(size - len(self.values), self.values[0])])

    sample = log_uniform_sample(Scripted([3, 3, 1, 3, 1, 7, 2], 9), 9, 3)
    assert sorted(sample.items.tolist()) == [1, 3, 7]
    assert sample.draws == 6  # the third distinct item came with the sixth draw


def test_more_than_the_catalogue_cannot_be_drawn():
    with pytest.raises(ValueError, match="cannot draw 4 distinct items out of 3"):
        log_uniform_sample(np.random.default_rng(0), 3, 4)


def test_frequencies_are_those_of_the_formulas():
    """One draw follows P (chi-square); three distinct ones hold each item as often as expected from their draws."""
    n, rounds = 8, 8000
    rng = np.random.default_rng(11)
    counts = Counter(int(log_uniform_sample(rng, n, 1).items[0]) for _ in range(rounds))
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
