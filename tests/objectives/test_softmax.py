"""Softmax losses against plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from xdm.objectives.blockwise import hits_of
from xdm.objectives.softmax import (
    FEW_SCORES,
    full_softmax,
    sampled_softmax,
    sampled_softmax_blockwise,
    softmax_over,
    target_weights,
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
    """The mean of the loss over scores, from vectors and log expected counts of the items."""
    positive = (queries[:, None] * vectors[targets]).sum(-1) - log_expected[targets]
    negative = queries @ vectors[sampled].T - log_expected[sampled]
    valid = (targets[:, :, None] != sampled).all(dim=1)
    return sampled_softmax(positive, negative, target_weights(targets, queries.dtype), valid).mean()


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


def test_many_scores_are_taken_in_blocks_with_the_same_result():
    torch.manual_seed(3)
    vectors, queries, targets = torch.randn(800, 6), torch.randn(400, 6), torch.randint(1, 800, (400, 3))
    targets[::2, 1:] = 0
    assert len(queries) * len(vectors) > FEW_SCORES
    found, wanted = [], []
    for part in (queries, vectors):
        part.requires_grad_()
    for out, loss in (
        (found, full_softmax(queries, targets, vectors)), (wanted, softmax_over(queries @ vectors.T, targets))
    ):  # fmt: skip
        out += [loss, *torch.autograd.grad(loss, (queries, vectors))]
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_a_sample_in_blocks_with_the_same_result():
    torch.manual_seed(4)
    queries, vectors, offset, positive = torch.randn(50, 6), torch.randn(30, 6), torch.randn(30), torch.randn(50, 2)
    targets, sampled = torch.randint(1, 60, (50, 2)), torch.randint(1, 60, (30,))
    targets[::2, 1] = 0
    weights, hits = target_weights(targets, torch.float32), hits_of(targets, sampled)
    assert hits.shape[1] > 10
    of = [part.requires_grad_() for part in (queries, vectors, positive)]
    found = sampled_softmax_blockwise(queries, vectors, offset, positive, weights, hits)
    valid = (targets[:, :, None] != sampled).all(dim=1)
    wanted = sampled_softmax(positive, queries @ vectors.T - offset, weights, valid).mean()
    torch.testing.assert_close(found, wanted)
    for mine, theirs in zip(torch.autograd.grad(found, of), torch.autograd.grad(wanted, of), strict=True):
        torch.testing.assert_close(mine, theirs)
