"""GRU4Rec's Adagrad, number by number in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from xdm.training.adagrad import MomentumAdagrad

RATE, EPSILON = 0.2, 1e-6


def by_hand(weight, gradients, momentum, rows):
    """The weights after each of ``gradients`` ``[steps][n, m]``; ``rows``: what has no gradient in a whole row stays."""
    weight, total, moved = (np.array(start, np.float64) for start in (weight, 0 * weight, 0 * weight))
    for gradient in gradients:
        for i, row in enumerate(gradient):
            if rows and not row.any():
                continue
            for j, g in enumerate(row):
                total[i, j] += g * g
                moved[i, j] = momentum * moved[i, j] + RATE * g / math.sqrt(total[i, j] + EPSILON)
                weight[i, j] -= moved[i, j]
        yield weight.copy()


@pytest.mark.parametrize("momentum", [0.0, 0.4])
@pytest.mark.parametrize("rows", [True, False])
def test_every_weight_moves_as_the_authors_move_it(momentum, rows):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(5, 3))
    gradients = rng.normal(size=(6, 5, 3)) * (rng.random((6, 5, 1)) < 0.6)
    gradients[:, 0] *= 1e-3  # of the order of the epsilon's root
    weight = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = MomentumAdagrad(*([], [weight]) if rows else ([weight], []), lr=RATE, momentum=momentum)
    for gradient, wanted in zip(gradients, by_hand(start, gradients, momentum, rows), strict=True):
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
        np.testing.assert_allclose(weight.detach().numpy(), wanted, atol=1e-12)


def test_the_first_step_is_as_long_as_the_rate_whatever_the_gradient():
    """Sums start at zero: with TensorFlow's 0.1 a small gradient would make a small step."""
    weight = nn.Parameter(torch.zeros(2, 2))
    optimizer = MomentumAdagrad([weight], [], lr=RATE)
    weight.grad = torch.tensor([[5.0, 0.05], [-5.0, 0.0]])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[-RATE, -RATE], [RATE, 0.0]]), atol=1e-4, rtol=0)


def test_a_row_without_a_gradient_is_not_carried_on_by_its_momentum():
    """A dense momentum would move every item that was ever drawn in every step after."""
    table, dense = nn.Parameter(torch.zeros(2, 1)), nn.Parameter(torch.zeros(2, 1))
    optimizer = MomentumAdagrad([dense], [table], lr=RATE, momentum=0.5)
    for gradient in ([[1.0], [1.0]], [[1.0], [0.0]]):
        table.grad = dense.grad = torch.tensor(gradient)
        optimizer.step()
    assert float(table.detach()[1]) == pytest.approx(-RATE)
    assert float(dense.detach()[1]) == pytest.approx(-1.5 * RATE)
    assert float(table.detach()[0]) == float(dense.detach()[0])


def test_weights_without_any_gradient_and_closures():
    weight = nn.Parameter(torch.ones(2, 1))
    optimizer = MomentumAdagrad([weight], [], lr=RATE)
    optimizer.step()
    assert torch.equal(weight, torch.ones(2, 1))
    with pytest.raises(ValueError, match="no closure"):
        optimizer.step(lambda: 0.0)
