"""ComiRec-SA and -DR: the authors' equations once more in NumPy, for one row of clicks at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.batches import batch_of
from tests.models.routing import route, softmax, squash
from tests.models.test_mind import encoder_of
from xdm.models.comirec import ComiRec, ComiRecConfig, ComiRecDR, ComiRecDRConfig
from xdm.training.config import load_config

LENGTHS = [1, 6, 3]


def rows_of(encoder, lengths=LENGTHS):
    """``(item inputs [n, d], the encoder's interests [K, d])`` of every point: a row of the n clicks up to it."""
    batch = batch_of(lengths, [0] * len(lengths), [0] * len(lengths))
    with torch.no_grad():
        found = encoder.encode(batch).numpy()
        inputs = encoder.project(encoder.items(batch.short)).numpy()
    for p in range(len(batch.row)):
        yield inputs[batch.row[p], : batch.position[p] + 1], found[p]


@pytest.mark.parametrize("interests", [1, 4])
@pytest.mark.parametrize("features", [0, 3])
def test_self_attention(interests, features):
    encoder = encoder_of(ComiRec, ComiRecConfig(width=8, interests=interests, feature_width=features)).double()
    torch.nn.init.normal_(encoder.outer.weight)
    weights = {name: weight.detach().numpy() for name, weight in encoder.named_parameters()}
    assert weights["inner.weight"].shape == (32, 8)
    for h, found in rows_of(encoder):
        placed = h + weights["positions"][: len(h)]
        inner = np.tanh(placed @ weights["inner.weight"].T + weights["inner.bias"])  # [n, 4 d]
        attention = softmax(inner @ weights["outer.weight"].T, axis=0)  # [n, K]: over the clicks
        np.testing.assert_allclose(found, attention.T @ h, atol=1e-12)  # positions weigh, they are not pooled


@pytest.mark.parametrize("interests", [1, 4])
@pytest.mark.parametrize("features", [0, 3])
def test_dynamic_routing(interests, features):
    encoder = encoder_of(ComiRecDR, ComiRecDRConfig(width=8, interests=interests, feature_width=features)).double()
    torch.nn.init.normal_(encoder.items.tables[0].weight)
    maps = encoder.maps.detach().numpy()
    for x, found in rows_of(encoder):
        votes = np.stack([(maps[t] @ one).reshape(interests, 8) for t, one in enumerate(x)], axis=1)  # [K, n, d]
        wanted, _ = route(votes, np.zeros((interests, len(x))))
        np.testing.assert_allclose(found, wanted, atol=1e-12)
        assert (np.linalg.norm(found, axis=1) < 1).all()  # a capsule's length is a share of 1


def test_the_maps_learn_through_the_last_iteration_alone():
    """The gradient is that of the last weighted sum with its weights held still, by differences of the oracle."""
    encoder = encoder_of(ComiRecDR, ComiRecDRConfig(width=2, interests=2, length=3)).double()
    batch, ways = batch_of([3], [0], [0]), np.random.default_rng(0).normal(size=(2, 2))
    (encoder.encode(batch)[2] * torch.from_numpy(ways)).sum().backward()
    x = encoder.items(batch.short).detach().numpy()[0]

    def votes_of(maps):
        return np.stack([(maps[t] @ x[t]).reshape(2, 2) for t in range(3)], axis=1)

    maps = encoder.maps.detach().numpy().copy()
    _, weights = route(votes_of(maps), np.zeros((2, 3)))

    def loss(maps):
        return (squash(np.einsum("kt,ktd->kd", weights, votes_of(maps))) * ways).sum()

    wanted = np.zeros_like(maps)
    for place in np.ndindex(*maps.shape):
        up, down = maps.copy(), maps.copy()
        up[place] += 1e-6
        down[place] -= 1e-6
        wanted[place] = (loss(up) - loss(down)) / 2e-6
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(encoder.maps.grad.numpy(), wanted, atol=1e-8)


def test_every_place_has_maps_of_its_own_drawn_from_the_normal_distribution():
    encoder = encoder_of(ComiRecDR, ComiRecDRConfig())
    assert encoder.maps.shape == (50, 4 * 64, 64)
    assert abs(float(encoder.maps.detach().mean())) < 0.01
    assert abs(float(encoder.maps.detach().std()) - 1) < 0.01


def test_defaults_are_the_authors():
    attention, routing = load_config("comirec").model, load_config("comirec_dr").model
    assert (attention.width, attention.interests, attention.hidden, attention.length) == (64, 4, 4, 50)
    assert (routing.width, routing.interests, routing.length) == (64, 4, 50)
    assert load_config("comirec_dr").training.learning_rate == 5e-3
