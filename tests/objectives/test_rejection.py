"""The not-to-recommend loss against the formula, item by item, and where it acts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import batch_of, model_of
from xdm.objectives.rejection import not_to_recommend
from xdm.training.config import ObjectiveConfig
from xdm.training.steps import losses, unclicked_pairs


def test_equals_the_formula():
    torch.manual_seed(0)
    queries, items = torch.randn(4, 3).double(), torch.randn(6, 3).double()
    pairs = [(0, 2), (0, 5), (3, 1)]
    wanted = 0.0
    for p, i in pairs:
        scores = [math.exp(float(queries[p] @ v)) for v in items]
        wanted -= math.log(1 - scores[i] / sum(scores))
    point, item = (torch.tensor(side) for side in zip(*pairs, strict=True))
    assert float(not_to_recommend(queries, point, items[item], items)) == pytest.approx(wanted / 4)


def test_acts_on_what_the_model_likes_and_stays_finite_there():
    items = torch.eye(3) * 30
    liked, unliked = torch.tensor([[1.0, 0, 0]], requires_grad=True), torch.tensor([[0.0, 1, 0]], requires_grad=True)
    for query in (liked, unliked):
        not_to_recommend(query, torch.tensor([0]), items[:1], items).backward()
    assert torch.isfinite(liked.grad).all()
    assert unliked.grad.abs().max() < 1e-6


def test_pairs_leave_out_the_label_and_what_cannot_be_recommended():
    batch = batch_of([1, 2], [0, 0], [3, 4])
    batch = replace(batch, unclicked=torch.tensor([3, 7, 26, 1, 3, 3, 30]))
    labels = torch.tensor([7, 9, 3])
    point, item = unclicked_pairs(batch, labels, 25)
    assert list(zip(point.tolist(), item.tolist(), strict=True)) == [(0, 3), (1, 1), (1, 3), (1, 3), (2, 1)]


def test_lowers_the_scores_of_skipped_items_in_training():
    """SDM, which does not read the unclicked sequence, learns from it through the loss."""
    batch, labels = batch_of([2, 2], [0, 0], [2, 2]), torch.tensor([[1], [2], [3], [4]])
    batch = replace(batch, unclicked=torch.tensor([5, 6, 5, 6]))
    chances = []
    for weight in (0.0, 5.0):
        model = model_of(seed=3, dropout=0.0)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for step in range(10):
            optimizer.zero_grad()
            settings = ObjectiveConfig(name="softmax", not_to_recommend=weight)
            losses(model, batch, labels, settings, np.random.default_rng(step)).total.backward()
            optimizer.step()
        with torch.no_grad():
            scores = model.eval()(batch).query[:, 0] @ model.item_vectors().T
            chances.append(float(torch.softmax(scores, dim=1)[:, 4:6].sum(dim=1).mean()))
    assert chances[1] < 0.85 * chances[0]
