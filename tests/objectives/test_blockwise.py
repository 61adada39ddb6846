"""The denominator of a softmax against torch's own, whatever the blocks it is taken in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from xdm.objectives.blockwise import blocks, hits_of, mean_log_sum


def case(points, items, width, targets=1, scale=1.0, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    queries, vectors = (torch.randn(n, width, dtype=dtype) * scale for n in (points, items))
    rows = torch.randint(0, items, (points, targets))
    weights = torch.rand(points, targets, dtype=dtype)
    return queries.requires_grad_(), vectors.requires_grad_(), rows, weights / weights.sum(1, keepdim=True)


def full_cross_entropy(queries, vectors, rows, weights, scores):
    """The loss that the denominator is for."""
    of_targets = (queries[:, None] * vectors[rows]).sum(-1)
    return mean_log_sum(queries, vectors, scores=scores) - (of_targets * weights).sum(1).mean()


def gradients(loss, *of):
    return torch.autograd.grad(loss, of)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), points=st.integers(1, 12), items=st.integers(1, 15), scores=st.integers(1, 300))
def test_equals_torch_in_blocks_of_any_size(seed, points, items, scores):
    queries, vectors, rows, weights = case(points, items, 5, dtype=torch.float64, seed=seed)
    found = full_cross_entropy(queries, vectors, rows, weights, scores)
    wanted = F.cross_entropy(queries @ vectors.T, rows[:, 0])
    torch.testing.assert_close(found, wanted)
    for mine, theirs in zip(gradients(found, queries, vectors), gradients(wanted, queries, vectors), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("scores", [1 << 14, 1 << 17, 1 << 21])
def test_single_precision_is_exact_to_five_places(scores):
    queries, vectors, rows, weights = case(200, 3416, 64, scale=0.5)
    found = full_cross_entropy(queries, vectors, rows, weights, scores)
    wanted = F.cross_entropy(queries.double() @ vectors.double().T, rows[:, 0])
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-5)
    for mine, theirs in zip(gradients(found, queries, vectors), gradients(wanted, queries, vectors), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-7, rtol=1e-5)


def test_several_targets_share_their_weights_and_the_gradient_is_scaled():
    queries, vectors, rows, weights = case(7, 12, 4, targets=3, dtype=torch.float64)
    found = 2.5 * full_cross_entropy(queries, vectors, rows, weights, 20)
    chances = torch.log_softmax(queries @ vectors.T, dim=1)
    wanted = 0.0
    for p in range(7):
        for m in range(3):
            wanted = wanted - 2.5 / 7 * weights[p, m] * chances[p, rows[p, m]]
    torch.testing.assert_close(found, wanted)
    for mine, theirs in zip(gradients(found, queries, vectors), gradients(wanted, queries, vectors), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("scores", [4, 1000])
def test_scores_of_ten_thousand_overflow_nothing(scores):
    vectors = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    queries = torch.tensor([[1e4, 0.0], [1e4, 0.0], [0.0, -1e4]], requires_grad=True)
    rows = torch.tensor([[0], [1], [2]])
    loss = full_cross_entropy(queries, vectors, rows, torch.ones(3, 1), scores)
    assert float(loss.detach()) == pytest.approx((0 + 2e4 + 1e4 + math.log(2)) / 3)
    of_queries, of_vectors = gradients(loss, queries, vectors)
    torch.testing.assert_close(of_queries[0], torch.zeros(2))
    torch.testing.assert_close(of_queries[1], torch.tensor([2 / 3, 0.0]))
    assert torch.isfinite(of_vectors).all()


def test_without_gradients_it_only_computes():
    queries, vectors, rows, weights = case(6, 9, 3)
    with torch.no_grad():
        alone = full_cross_entropy(queries, vectors, rows, weights, 10)
    assert not alone.requires_grad
    assert torch.equal(alone, full_cross_entropy(queries, vectors, rows, weights, 10).detach())


def test_never_all_scores_at_once():
    """The largest tensor of both passes is a block, not ``[points, items]``."""
    queries, vectors, rows, weights = case(512, 2048, 4)
    largest = 0

    class Watching(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), keywords=None):
            nonlocal largest
            out = function(*arguments, **(keywords or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    with Watching():
        full_cross_entropy(queries, vectors, rows, weights, 1 << 15).backward()
    assert 2048 * 4 <= largest <= 1 << 15


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), points=st.integers(1, 9), items=st.integers(1, 12), own=st.integers(1, 3), scores=st.integers(1, 200)
)  # fmt: skip
def test_own_scores_offsets_and_hits(seed, points, items, own, scores):
    """Some pairs are left out, even all of a point; some of the own scores are none."""
    queries, vectors, _, _ = case(points, items, 4, dtype=torch.float64, seed=seed)
    alone, offset = torch.randn(points, own, dtype=torch.float64), torch.randn(items, dtype=torch.float64)
    alone[:, 1:][torch.rand(points, own - 1) < 0.5] = float("-inf")
    alone.requires_grad_()
    left_out = torch.rand(points, items) < torch.rand(points, 1) * 1.5
    found = mean_log_sum(queries, vectors, alone, offset, torch.nonzero(left_out).T.contiguous(), scores)
    logits = torch.cat([(queries @ vectors.T - offset).masked_fill(left_out, float("-inf")), alone], dim=1)
    wanted = torch.logsumexp(logits, dim=1).mean()
    torch.testing.assert_close(found, wanted)
    of = (queries, vectors, alone)
    for mine, theirs in zip(gradients(found, *of), gradients(wanted, *of), strict=True):
        torch.testing.assert_close(mine, theirs)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), points=st.integers(1, 8), own=st.integers(1, 3), items=st.integers(1, 12))
def test_hits_are_all_pairs_of_a_point_and_one_of_its_targets(seed, points, own, items):
    rng = np.random.default_rng(seed)
    targets, columns = rng.integers(0, 6, (points, own)), rng.integers(1, 6, items)
    wanted = [(p, j) for p in range(points) for item in targets[p] for j in range(items) if columns[j] == item]
    found = hits_of(torch.from_numpy(targets), torch.from_numpy(columns))
    assert found[0].tolist() == sorted(found[0].tolist())
    assert sorted(zip(*found.tolist(), strict=True)) == sorted(wanted)


@pytest.mark.parametrize(
    ("points", "items", "held"), [(10, 10, 1 << 20), (6400, 3416, 1 << 21), (1000, 200_000, 1 << 21), (3, 10**7, 1 << 21)]
)
def test_blocks_hold_no_more_than_they_may(points, items, held):
    rows, width = blocks(points, items, held)
    assert 1 <= rows <= points
    assert 1 <= width <= items
    assert rows * width <= held
    assert width == items or rows == min(points, held // width)
