"""The metric losses against plain Python, for their direction, and at the points where a gradient could break."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xdm.objectives.triplet import DISTANCES, Form, triplet, unit_squared

FORMS = get_args(Form)


def distance(a, b, kind="unit_squared"):
    def unit(x):
        norm = math.sqrt(sum(v * v for v in x))
        return [v / max(norm, 1e-8) for v in x]

    if kind == "unit_squared":
        a, b = unit(a), unit(b)
    total = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return math.sqrt(total) if kind == "l2" else total


def naive_point(h, n, c, m, form, kind):
    hc, nc, nh = distance(h, c, kind), distance(n, c, kind), distance(n, h, kind)
    return {
        "symmetric": (max(0, hc - nc + m) + max(0, hc - nh + m)) / 2,
        "symmetric_mean": max(0, hc - (nc + nh) / 2 + m),
        "symmetric_swap": max(0, hc - min(nc, nh) + m),
        "asymmetric": max(0, hc - nc + m),
        "label_clicked": hc,
        "unclicked_label": max(0, m - nc),
        "unclicked_clicked": max(0, m - nh),
    }[form]


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000), points=st.integers(1, 6), margin=st.floats(0, 4),
    form=st.sampled_from(FORMS), kind=st.sampled_from(sorted(DISTANCES)),
)  # fmt: skip
def test_equals_a_loop(seed, points, margin, form, kind):
    rng = np.random.default_rng(seed)
    h, n, c = (torch.from_numpy(rng.normal(size=(points, 3))) for _ in range(3))
    present = torch.from_numpy(rng.random(points) < 0.7)
    vectors = zip(h.tolist(), n.tolist(), c.tolist(), present.tolist(), strict=True)
    wanted = sum(naive_point(*three, margin, form, kind) for *three, there in vectors if there) / points
    assert float(triplet(h, n, c, present, margin, form, kind)) == pytest.approx(wanted, abs=1e-6)


def test_distance_is_squared_between_unit_vectors():
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.2]])
    assert float(unit_squared(a, b)) == pytest.approx(2)
    assert float(unit_squared(a, 7 * a)) == pytest.approx(0)
    assert float(unit_squared(a, -b.flip(1))) == pytest.approx(4)


YES = torch.tensor([True])
EAST, NORTH, WEST = (torch.tensor([v]) for v in ([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]))
NORTH_EAST = torch.tensor([[1.0, 1.0]])


@pytest.mark.parametrize("form", ["symmetric", "symmetric_mean", "symmetric_swap", "asymmetric"])
def test_direction(form):
    def loss(h, n, c):
        return float(triplet(h, n, c, YES, 1.0, form))

    assert loss(EAST, WEST, EAST) == 0  # clicked at the label, unclicked opposite
    assert loss(NORTH_EAST, NORTH, EAST) < loss(NORTH, NORTH, EAST)  # nearer to the label is better
    assert loss(EAST, WEST, EAST) < loss(EAST, NORTH_EAST, EAST) < loss(EAST, EAST, EAST)  # farther unclicked is better


def test_only_the_symmetric_form_pushes_the_unclicked_from_the_clicked():
    # the label stands between: as far from n as from h, while n may be far from h or near
    h, c = EAST, NORTH_EAST
    assert float(triplet(h, NORTH, c, YES, 0.5, "asymmetric")) == pytest.approx(0.5)
    near, far = (float(triplet(h, n, c, YES, 0.5, "symmetric")) for n in (torch.tensor([[1.0, 0.1]]), NORTH))
    assert near > far


@pytest.mark.parametrize("form", FORMS)
def test_points_without_unclicked_count_as_zeros(form):
    torch.manual_seed(0)
    h, n, c = torch.randn(4, 3), torch.randn(4, 3), torch.randn(4, 3)
    one = triplet(h, n, c, torch.tensor([True, False, False, False]), 2.0, form)
    assert float(one) == pytest.approx(float(triplet(h[:1], n[:1], c[:1], YES, 2.0, form)) / 4)
    assert float(triplet(h, n, c, torch.zeros(4, dtype=torch.bool), 2.0, form)) == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", sorted(DISTANCES))
@pytest.mark.parametrize("zero", ["h", "n", "c", "equal"])
def test_gradients_are_finite_where_a_norm_or_a_distance_is_zero(form, kind, zero):
    vectors = {name: torch.tensor([[1.0, 2.0]]) if zero == "equal" else torch.randn(1, 2) for name in "hnc"}
    if zero != "equal":
        vectors[zero] = torch.zeros(1, 2)
    leaves = {name: vector.requires_grad_() for name, vector in vectors.items()}
    triplet(leaves["h"], leaves["n"], leaves["c"], YES, 4.0, form, kind).backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves.values() if leaf.grad is not None)
