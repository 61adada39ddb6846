"""Adversarial training: one step derived again by hand, and what the noise must leave alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.learning import losses_of
from tests.models.batches import batch_of, model_of
from tests.training.test_run import Killed, kill_after, same_files, train
from xdm.schema import ConfigError
from xdm.training.adversarial import perturbed, shift
from xdm.training.config import ObjectiveConfig, parse_config
from xdm.training.loop import Loop
from xdm.training.steps import losses, seed_step

SETTINGS = {
    "model": {"name": "mdr", "width": 6}, "item_vectors": {"features": False},
    "objective": {"name": "bpr", "negatives": 4, "negatives_for": "label", "sampler": "uniform"},
}  # fmt: skip


def loss_of(model, batch, config):
    labels = torch.arange(len(batch.row))[:, None] % 25 + 1
    return losses(model, batch, labels, config, seed_step(1, 7)).total


def test_noise_is_as_large_as_the_tensor_s_deviation_in_every_row_with_a_gradient():
    rng = np.random.default_rng(0)
    weight, gradient = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    gradient[2] = 0
    found = shift(torch.tensor(weight), torch.tensor(gradient), 0.5).numpy()
    mean = sum(weight.flatten()) / 20
    deviation = (sum((x - mean) ** 2 for x in weight.flatten()) / 19) ** 0.5
    for r in range(5):
        length = sum(x * x for x in gradient[r]) ** 0.5
        np.testing.assert_allclose(found[r], [0.5 * deviation * x / length if length else 0.0 for x in gradient[r]], atol=1e-12)


def test_weights_of_one_number_and_equal_ones_stay():
    assert not shift(torch.ones(1), torch.ones(1), 1.0).any()
    assert not shift(torch.ones(4, 1), torch.ones(4, 1), 1.0).any()


def test_weights_are_the_same_bits_afterwards_even_after_a_failure():
    batch, config = batch_of([3, 2], [0, 0], [0, 0]), ObjectiveConfig(name="bpr", negatives=4)
    model = model_of(name="mdr", width=6).train()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    loss_of(model, batch, config).backward()
    with perturbed(model, 1.0):
        moved = [name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])]
    assert "encoder.items.tables.0.weight" in moved
    with pytest.raises(ZeroDivisionError), perturbed(model, 1.0):
        1 / 0  # noqa: B018
    assert not model.item_table.weight[0].any()
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


class OneBatch:
    """Rows of a loop that are one batch."""

    def __init__(self):
        self._batch = batch_of([3, 4, 2], [0, 0, 0], [0, 0, 0]).map(lambda tensor: tensor.numpy())
        self.log, self.item_clicks = None, np.ones(25, np.int64)
        self.n_rows, self.lengths = 3, self._batch.short_length

    def batch(self, rows):
        return self._batch, np.arange(len(self._batch.row))[:, None] % 25 + 1


def loop_of(**training):
    """A loop at its first step, with gradients that are not clipped."""
    config = parse_config({**SETTINGS, "training": {"clip_norm": 1e9, "batch_size": 3, **training}})
    model = model_of(name="mdr", width=6)
    return Loop(model, OneBatch(), config)


def gradients_of_first_step(**training):
    loop = loop_of(**training)
    loop.run_epoch(lambda record: None)
    return {name: weight.grad.clone() for name, weight in loop.model.named_parameters()}


def test_one_step_is_the_gradient_here_and_the_weighed_gradient_at_the_shifted_weights():
    noise, share = 0.8, 0.6
    found = gradients_of_first_step(adversarial_weight=share, adversarial_noise=noise)
    loop = loop_of()
    model, objective = loop.model.train(), loop.config.objective
    batch, labels = loop.rows.batch(None)
    batch, labels = batch.map(torch.from_numpy), torch.from_numpy(labels)

    def gradient():
        model.zero_grad()
        losses(model, batch, labels, objective, seed_step(1, 0), objective=loop.objective).total.backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters()}

    plain = gradient()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            values, slopes = weight.numpy().copy(), plain[name].numpy()
            deviation = values.std(ddof=1)
            for row in np.ndindex(values.shape[:-1]):
                length = np.linalg.norm(slopes[row])
                if length:
                    values[row] += noise * deviation * slopes[row] / length
            weight.copy_(torch.from_numpy(values))
    there = gradient()
    for name, of_step in found.items():
        torch.testing.assert_close(of_step, plain[name] + share * there[name], atol=1e-6, rtol=1e-4)
    assert max(float((there[name] - plain[name]).abs().max()) for name in plain) > 1e-4


def test_without_a_weight_and_before_its_first_epoch_nothing_is_different():
    plain = gradients_of_first_step()
    for training in ({"adversarial_noise": 3.0}, {"adversarial_weight": 1.0, "adversarial_after": 1}):
        other = gradients_of_first_step(**training)
        assert all(torch.equal(plain[name], other[name]) for name in plain)
    later = gradients_of_first_step(adversarial_weight=1.0)
    assert not all(torch.equal(plain[name], later[name]) for name in plain)


def test_the_noise_makes_the_loss_larger():
    batch, config = batch_of([3, 4, 2], [0, 0, 0], [0, 0, 0]), ObjectiveConfig(name="bpr", negatives=4)
    model = model_of(name="mdr", width=6).train()
    loss = loss_of(model, batch, config)
    loss.backward()
    with perturbed(model, 0.5):
        assert float(loss_of(model, batch, config).detach()) > float(loss.detach())


def test_states_that_are_carried_on_cannot_be_asked_twice():
    with pytest.raises(ConfigError, match="adversarial_weight asks every batch twice"):
        parse_config({"model": {"name": "gru4rec"}, "training": {"order": "session_parallel", "adversarial_weight": 1.0}})


def test_a_run_that_dies_and_goes_on_is_the_same_to_the_bit(simulated, tmp_path, monkeypatch):
    """With dropout and sampling, after an epoch without noise: the second pass draws what the first drew and leaves nothing behind."""
    settings = ("training.checkpoint_steps=3", "training.adversarial_weight=1", "training.adversarial_after=1", "training.epochs=2")
    train(simulated, tmp_path / "whole", *settings)
    steps = len(losses_of(tmp_path / "whole" / "steps.jsonl"))
    with monkeypatch.context() as patch:
        kill_after(patch, steps - 2)
        with pytest.raises(Killed):
            train(simulated, tmp_path / "killed", *settings)
    train(simulated, tmp_path / "killed", *settings, resume=True)
    assert all(same_files(tmp_path / "whole", tmp_path / "killed").values())
    train(simulated, tmp_path / "plain", "training.checkpoint_steps=3", "training.epochs=2")
    assert not same_files(tmp_path / "whole", tmp_path / "plain")["weights.safetensors"]
