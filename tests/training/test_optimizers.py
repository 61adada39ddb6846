"""The optimisers by their formulas, and that a run goes on with either."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.learning import SMALL, losses_of
from tests.models.batches import model_of
from xdm.log.store import Store
from xdm.training.checkpoints import load_checkpoint, save_checkpoint
from xdm.training.config import TrainingConfig, load_config
from xdm.training.loop import new_optimizer
from xdm.training.run import Run


def test_adagrad_is_tensorflows():
    """Each weight moves by rate * g / sqrt(0.1 + the sum of its squared gradients)."""
    model = model_of()
    optimizer = new_optimizer(model, TrainingConfig(optimizer="adagrad", learning_rate=0.3))
    weight = model.encoder.user_attention.query.weight
    wanted, squares = weight.detach().numpy().astype(np.float64), 0.1
    for step in range(3):
        gradient = np.random.default_rng(step).normal(size=wanted.shape)
        weight.grad = torch.from_numpy(gradient.astype(np.float32))
        optimizer.step()
        squares = squares + gradient**2
        wanted = wanted - 0.3 * gradient / np.sqrt(squares)
    np.testing.assert_allclose(weight.detach().numpy(), wanted, atol=1e-6)


def test_adam_moves_by_its_rate_at_first():
    model = model_of()
    optimizer = new_optimizer(model, TrainingConfig(optimizer="adam", learning_rate=0.01))
    weight = model.encoder.user_attention.query.weight
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, 5.0)
    optimizer.step()
    torch.testing.assert_close(before - weight.detach(), torch.full_like(weight, 0.01))


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_state_comes_back_from_a_checkpoint(name, tmp_path):
    def step(model, optimizer, seed):
        for place, weight in enumerate(model.parameters()):
            weight.grad = torch.from_numpy(np.random.default_rng([seed, place]).normal(size=weight.shape)).float()
        optimizer.step()

    settings = TrainingConfig(optimizer=name, learning_rate=0.1)
    model, again = model_of(seed=1), model_of(seed=2)
    optimizer, restored = new_optimizer(model, settings), new_optimizer(again, settings)
    step(model, optimizer, 0)
    save_checkpoint(tmp_path, {"step": 1}, model, {}, optimizer)
    load_checkpoint(tmp_path / "step-000000001", again, restored)
    step(model, optimizer, 1)
    step(again, restored, 1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_the_code_of_sdm_trains_with_five_targets(simulated, tmp_path):
    """Sampled, split in two and with Adagrad: all that `sdm-code` asks for at once, on a small scale."""
    settings = [*SMALL, "training.learning_rate=0.1", "objective.split=2", "training.epochs=6", "training.patience=6"]
    done = Run(Store(simulated), load_config("sdm-code", None, settings), tmp_path / "bundle").train()
    losses = [line["softmax"] for line in losses_of(tmp_path / "bundle" / "steps.jsonl")]
    assert done["epochs"] == 6
    assert np.mean(losses[-7:]) < np.mean(losses[:7]) - 0.1  # seven steps an epoch
