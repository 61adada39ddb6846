"""The teacher's term, derived again: -Σ q log p beside a full softmax."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from xdm.objectives.distillation import distillation


def by_hand(scores: list[float], taught: list[float]) -> float:
    total = sum(math.exp(score) for score in scores)
    return -sum(q * math.log(math.exp(score) / total) for score, q in zip(scores, taught, strict=True))


def test_it_is_the_cross_entropy_with_what_is_taught() -> None:
    rng = np.random.default_rng(3)
    scores, taught = rng.normal(0, 2, (5, 7)), rng.dirichlet(np.ones(7), 5)
    found = distillation(torch.from_numpy(scores), torch.from_numpy(taught))
    assert found.tolist() == pytest.approx([by_hand(*one) for one in zip(scores.tolist(), taught.tolist(), strict=True)])


def test_its_gradient_is_what_the_student_thinks_less_what_is_taught() -> None:
    scores = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    taught = torch.tensor([[0.2, 0.7, 0.1]], dtype=torch.float64)
    distillation(scores, taught).sum().backward()
    assert scores.grad is not None
    assert torch.allclose(scores.grad, scores.detach().softmax(1) - taught)


def test_a_sure_teacher_is_a_label() -> None:
    scores = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    found = distillation(scores, torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    assert torch.allclose(found, torch.nn.functional.cross_entropy(scores, torch.tensor([2, 0]), reduction="none"))


def test_large_scores_do_not_overflow() -> None:
    assert distillation(torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1.0]])).tolist() == [1e4]
