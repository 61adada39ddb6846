"""Scores as they are defined, against the folded inner products; and the clicks up to each point as a row of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.batches import batch_of
from xdm.models.encoder import best_interest
from xdm.models.shared.prefixes import prefixes
from xdm.models.shared.scoring import Cosine, InnerProduct, SquaredDistance, TwoSquaredDistances

D = 6


def by_definition(kind, q, v, b):
    """The score of one pair in plain Python."""
    product = sum(x * y for x, y in zip(q, v, strict=True))
    if kind == "product":
        return product + b
    if kind == "cosine":
        return product / (sum(x * x for x in q) ** 0.5 * sum(x * x for x in v) ** 0.5) / 0.2 + b
    return b - sum((x - y) ** 2 for x, y in zip(q, v, strict=True))


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("kind", ["product", "cosine", "distance"])
def test_the_folded_product_is_the_score_as_defined(kind, with_bias):
    torch.manual_seed(0)
    q, v = torch.randn(4, D, dtype=torch.float64), torch.randn(9, D, dtype=torch.float64)
    bias = torch.randn(9, dtype=torch.float64) if with_bias else None
    scoring = {"product": InnerProduct(with_bias), "cosine": Cosine(0.2, with_bias), "distance": SquaredDistance(with_bias)}[kind]
    folded = scoring.queries(q) @ scoring.items(v, bias).T
    wanted = torch.tensor([
        [by_definition(kind, a.tolist(), c.tolist(), 0.0 if bias is None else float(bias[i])) for i, c in enumerate(v)] for a in q
    ])  # fmt: skip
    if kind == "distance":  # the query's own square ranks nothing and is left out
        wanted = wanted + q.square().sum(-1, keepdim=True).float()
    np.testing.assert_allclose(folded, wanted, atol=1e-5)


def test_two_distances_fold_into_one_product_whatever_the_weight_of_a_query():
    torch.manual_seed(0)
    q, v, weights = torch.randn(4, D), torch.randn(9, D), torch.tensor([0.0, 0.3, 0.9, 1.0])
    scoring = TwoSquaredDistances()
    asked = torch.cat([q, weights[:, None]], dim=1)
    found = scoring.queries(asked) @ scoring.items(v, None).T
    half = D // 2
    for a, w in enumerate(weights.tolist()):
        for i in range(9):
            first, second = (sum((q[a, k] - v[i, k]) ** 2 for k in part) for part in (range(half), range(half, D)))
            own = w * q[a, :half].square().sum() + (1 - w) * q[a, half:].square().sum()  # ranks nothing
            assert float(found[a, i]) == pytest.approx(float(own - w * first - (1 - w) * second), abs=1e-5)


def test_a_cosine_of_nothing_is_no_nan():
    scoring = Cosine(0.1)
    zeros = torch.zeros(1, D, requires_grad=True)
    score = (scoring.queries(zeros) * scoring.items(zeros, None)).sum()
    score.backward()
    assert float(score.detach()) == 0
    assert torch.isfinite(zeros.grad).all()


def test_the_best_interest_is_the_one_that_scores_the_label_highest():
    torch.manual_seed(2)
    queries, vectors = torch.randn(6, 3, 4), torch.randn(6, 4)
    found = best_interest(queries, vectors)
    for p in range(6):
        scores = [float(queries[p, k] @ vectors[p]) for k in range(3)]
        assert torch.equal(found[p], queries[p, scores.index(max(scores))])
    assert torch.equal(best_interest(queries[:, :1], vectors), queries[:, 0])


@pytest.mark.parametrize("length", [1, 3, 7, 9])
def test_prefixes_hold_the_latest_clicks_up_to_each_point(length):
    lengths = [1, 7, 3]
    batch = batch_of(lengths, [0, 0, 0], [0, 0, 0])
    items, sizes = prefixes(batch, length)
    assert items.shape == (sum(lengths), length)
    for p, (row, position) in enumerate(zip(batch.row.tolist(), batch.position.tolist(), strict=True)):
        wanted = batch.short[row, : position + 1].tolist()[-length:]
        assert items[p].tolist() == wanted + [0] * (length - len(wanted))
        assert int(sizes[p]) == len(wanted)
