"""The learning rate that falls with the epochs, and the weights' own decay."""

from __future__ import annotations

import pytest
import torch

from tests.learning import memory_store
from tests.models.batches import model_of
from xdm.data.catalogue import build_catalogue
from xdm.schema import ConfigError
from xdm.training.config import TrainingConfig, load_config
from xdm.training.loop import Loop, new_model, new_optimizer, training_rows

CLICKS = memory_store([[(item + user, 10 * item, True, None) for item in range(1, 5)] for user in range(6)])


def test_the_rate_falls_with_the_epochs():
    settings = ("training.learning_rate=0.01", "training.decay=0.1", "training.decay_epochs=2", "model.width=8")
    config = load_config("srgnn", None, [*settings])
    catalogue = build_catalogue(CLICKS, 100)
    loop = Loop(new_model(config, catalogue), training_rows(CLICKS, catalogue, config, until=100), config)
    rates = []
    for _ in range(5):
        loop.run_epoch(lambda record: rates.append(loop.optimizer.param_groups[0]["lr"]))
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001])
    # A run that goes on from a checkpoint has a fresh loop; what it learns with is the rate of its epoch all the same.
    other = Loop(new_model(config, catalogue), loop.rows, config)
    other.epoch = 3
    other.run_epoch(lambda record: None)
    assert other.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)


def test_adagrad_adds_the_weights_to_their_gradients():
    model = model_of()
    optimizer = new_optimizer(model, TrainingConfig(optimizer="adagrad", learning_rate=0.3, weight_decay=0.5))
    weight = model.encoder.user_attention.query.weight
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, 0.2)
    optimizer.step()
    gradient = 0.2 + 0.5 * before
    torch.testing.assert_close(weight.detach(), before - 0.3 * gradient / (0.1 + gradient**2).sqrt())


def test_adam_pulls_weights_without_a_gradient_to_zero():
    model = model_of()
    optimizer = new_optimizer(model, TrainingConfig(learning_rate=0.001, weight_decay=1e-4))
    weight = model.encoder.user_attention.query.weight
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(before - weight.detach(), 0.001 * before.sign(), atol=2e-5, rtol=0)


def test_an_optimiser_without_weight_decay_refuses_it():
    with pytest.raises(ConfigError, match="weight_decay is a setting of adam and adagrad"):
        load_config("sdm", None, ["training.optimizer=adagrad_momentum", "training.weight_decay=0.1"])
