"""Every loss over scores against its formula in plain Python: value, gradient, direction, and scores that are far off."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xdm.objectives import ranking

MARGIN, REGULARISATION, ELU, CALIBRATION, N_ITEMS = 0.7, 0.8, 0.5, 0.6, 40


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def elu(x):
    return x if x > 0 else ELU * (math.exp(x) - 1)


def softmax(scores):
    of = [math.exp(score - max(scores)) for score in scores]
    return [value / sum(of) for value in of]


def naive_binary(r, negatives, counts):
    return -math.log(sigmoid(r)) - sum(math.log(1 - sigmoid(x)) for x in negatives)


def naive_generalised(r, negatives, counts):
    """By the transformation of the paper: σ(γ) = σ(r) ** β, fed to plain binary cross-entropy, averaged over k + 1."""
    k = len(negatives)
    alpha = k / (N_ITEMS - 1)
    beta = alpha * (CALIBRATION * (1 - 1 / alpha) + 1 / alpha) if k else 1 - CALIBRATION
    gamma = -math.log(sigmoid(r) ** -beta - 1)
    return (-math.log(sigmoid(gamma)) - sum(math.log(1 - sigmoid(x)) for x in negatives)) / (k + 1)


def naive_bpr(r, negatives, counts):
    return sum(-math.log(sigmoid(r - x)) for x in negatives) / max(len(negatives), 1)


def naive_top1(r, negatives, counts):
    return sum(sigmoid(x - r) + sigmoid(x * x) for x in negatives) / max(len(negatives), 1)


def naive_top1_max(r, negatives, counts):
    weights = softmax(negatives) if negatives else []
    return sum(s * (sigmoid(x - r) + sigmoid(x * x)) for s, x in zip(weights, negatives, strict=True))


def naive_bpr_max(r, negatives, counts, shape=lambda x: x):
    if not negatives:
        return 0.0
    r, negatives = shape(r), [shape(x) for x in negatives]
    weights = softmax(negatives)
    ranked = sum(s * sigmoid(r - x) for s, x in zip(weights, negatives, strict=True))
    return -math.log(ranked) + REGULARISATION * sum(s * x * x for s, x in zip(weights, negatives, strict=True))


def naive_hinge(r, negatives, counts):
    return sum(max(MARGIN - r + x, 0) for x in negatives) / max(len(negatives), 1)


def naive_warp(r, negatives, counts):
    rank = sum(1 / count for x, count in zip(negatives, counts, strict=True) if MARGIN - r + x > 0)
    return math.log(1 + rank) * max([max(MARGIN - r + x, 0) for x in negatives], default=0.0)


def warp(positive, negative, valid, log_expected=None):
    log_expected = torch.zeros(negative.shape[1]) if log_expected is None else log_expected
    return ranking.warp(positive, negative, valid, MARGIN, log_expected.to(negative.dtype))


LOSSES = {
    "binary": (ranking.binary, naive_binary),
    "generalised": (partial(ranking.generalised_binary, n_items=N_ITEMS, calibration=CALIBRATION), naive_generalised),
    "bpr": (ranking.bpr, naive_bpr),
    "top1": (ranking.top1, naive_top1),
    "top1_max": (ranking.top1_max, naive_top1_max),
    "bpr_max": (partial(ranking.bpr_max, regularisation=REGULARISATION, elu=0.0), naive_bpr_max),
    "bpr_max with elu": (
        partial(ranking.bpr_max, regularisation=REGULARISATION, elu=ELU), partial(naive_bpr_max, shape=elu)
    ),
    "hinge": (partial(ranking.hinge, margin=MARGIN), naive_hinge),
    "warp": (warp, naive_warp),
}  # fmt: skip
every = pytest.mark.parametrize(("loss", "naive"), LOSSES.values(), ids=LOSSES)


def scores_of(seed, points=5, columns=6):
    """Scores, a mask with one row of no valid negative where there are several rows, and expected counts."""
    rng = np.random.default_rng(seed)
    positive, negative = rng.normal(size=points), rng.normal(size=(points, columns))
    valid = rng.random((points, columns)) < 0.6
    if points > 1:
        valid[0] = False
    log_expected = np.log(rng.uniform(0.1, 3, columns))
    return (torch.from_numpy(part) for part in (positive, negative, valid, log_expected))


@every
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), points=st.integers(1, 6), columns=st.integers(1, 8))
def test_equals_its_formula(loss, naive, seed, points, columns):
    positive, negative, valid, log_expected = scores_of(seed, points, columns)
    found = loss(positive, negative, valid, log_expected) if loss is warp else loss(positive, negative, valid)
    counts = log_expected.exp().tolist() if loss is warp else [1.0] * columns
    assert found.shape == (points,)
    for p in range(points):
        kept = [s for s in range(columns) if valid[p, s]]
        wanted = naive(float(positive[p]), [float(negative[p, s]) for s in kept], [counts[s] for s in kept])
        assert float(found[p]) == pytest.approx(wanted, abs=1e-9)


@every
def test_its_gradient_is_that_of_differences(loss, naive):
    positive, negative, valid, _ = scores_of(3)
    inputs = (positive.requires_grad_(), negative.requires_grad_())
    assert torch.autograd.gradcheck(lambda r, x: loss(r, x, valid), inputs, eps=1e-6, atol=1e-6)
    loss(*inputs, valid).sum().backward()
    assert not negative.grad[~valid].any()


@every
def test_a_better_label_and_worse_negatives_lower_it(loss, naive):
    """From a label that is far below to one that is not yet far above; each negative alone counts."""
    negative, valid = torch.tensor([[0.3, 0.2]]), torch.ones(1, 2, dtype=torch.bool)
    by_label = [float(loss(torch.tensor([r]), negative, valid)) for r in (-1.0, -0.5, 0.0, 0.5)]
    assert by_label == sorted(by_label, reverse=True)
    assert len(set(by_label)) == 4
    positive = torch.tensor([0.1])
    by_negative = [float(loss(positive, negative + more, valid)) for more in (1.5, 1.0, 0.5, 0.0)]
    assert by_negative == sorted(by_negative, reverse=True)
    assert len(set(by_negative)) == 4


@every
@pytest.mark.parametrize("r", [-1e4, 0.0, 1e4])
def test_scores_of_ten_thousand_give_no_nan(loss, naive, r):
    positive = torch.tensor([r], requires_grad=True)
    negative = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    for valid in ([[True, True, True]], [[False, True, False]], [[False, False, False]]):
        value = loss(positive, negative, torch.tensor(valid)).sum()
        of = torch.autograd.grad(value, (positive, negative), allow_unused=True)
        assert torch.isfinite(value)
        assert all(torch.isfinite(part).all() for part in of if part is not None)


def test_a_label_below_everything_still_learns_by_bpr_max():
    """A small number inside the log would have swallowed the gradient."""
    positive = torch.tensor([-100.0], requires_grad=True)
    ranking.bpr_max(positive, torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool), 0.0, 0.0).sum().backward()
    assert float(positive.grad) == pytest.approx(-1, rel=1e-5)


def test_calibration_goes_from_plain_to_that_of_all_items():
    positive, negative, valid = torch.tensor([0.4]).double(), torch.randn(1, 13).double(), torch.ones(1, 13, dtype=torch.bool)
    plain, full, all_items = (
        float(ranking.generalised_binary(positive, negative, valid, n, t)) for n, t in ((40, 0.0), (40, 1.0), (14, 1.0))
    )
    assert plain == pytest.approx(float(ranking.binary(positive, negative, valid)) / 14)
    of_label = math.log(1 + math.exp(-0.4))
    assert plain - full == pytest.approx((1 - 13 / 39) * of_label / 14)
    assert all_items == pytest.approx(plain)  # all 13 others are negatives: nothing to calibrate


def test_warp_counts_the_rank_in_items():
    """10 of 50 uniform negatives out of 1,000 items within the margin: a rank of 200."""
    negative = torch.cat([torch.full((1, 10), 0.5), torch.full((1, 40), -5.0)], dim=1)
    valid, log_expected = torch.ones(1, 50, dtype=torch.bool), torch.full((50,), math.log(50 / 1000))
    found = ranking.warp(torch.tensor([0.2]), negative, valid, 1.0, log_expected)
    assert float(found) == pytest.approx(math.log(201) * 1.3, rel=1e-5)
