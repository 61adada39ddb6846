"""Scores of every point with its own items against one product a pair, in both ways of taking them."""

from __future__ import annotations

import pytest
import torch

from xdm.objectives import gathered
from xdm.objectives.gathered import own_scores


@pytest.mark.parametrize("held", [1, 30, 1 << 21])
@pytest.mark.parametrize("dense", [0, 10**6], ids=["fetched", "product"])
@pytest.mark.parametrize(("points", "items", "own"), [(1, 1, 1), (7, 5, 9), (5, 40, 3)])
def test_equals_a_loop_with_its_gradients(monkeypatch, held, dense, points, items, own):
    monkeypatch.setattr(gathered, "HELD", held)
    monkeypatch.setattr(gathered, "DENSE", dense)
    torch.manual_seed(points)
    queries = torch.randn(points, 4, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(items, 4, dtype=torch.float64, requires_grad=True)
    rows, weight = torch.randint(0, items, (points, own)), torch.randn(points, own, dtype=torch.float64)
    found = own_scores(queries, vectors, rows)
    wanted = torch.stack([torch.stack([queries[p] @ vectors[rows[p, s]] for s in range(own)]) for p in range(points)])
    torch.testing.assert_close(found, wanted)
    mine, theirs = (torch.autograd.grad((scores * weight).sum(), (queries, vectors)) for scores in (found, wanted))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_both_ways_agree_in_single_precision(monkeypatch):
    torch.manual_seed(0)
    queries, vectors, rows = torch.randn(300, 16), torch.randn(200, 16), torch.randint(0, 200, (300, 20))
    found = []
    for dense in (0, 10**6):
        monkeypatch.setattr(gathered, "DENSE", dense)
        found.append(own_scores(queries, vectors, rows))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
