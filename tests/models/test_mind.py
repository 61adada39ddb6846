"""MIND: the paper's equations once more in NumPy, for one row of clicks at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.models.batches import N_ITEMS, SIZES, batch_of
from tests.models.routing import route, softmax
from xdm.models.encoder import best_interest
from xdm.models.mind import MIND, MINDConfig
from xdm.retrieval.exact import ExactRetriever
from xdm.training.config import load_config


def encoder_of(kind, config, seed=1):
    """An encoder with fresh weights over a small catalogue with two side features."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(0)
    codes = np.stack([np.arange(N_ITEMS + 1), *(rng.integers(0, n + 1, N_ITEMS + 1) for n in SIZES.features.values())])
    codes[:, 0] = 0
    return kind(config, SIZES, codes).eval()


def wide_of(seed=1, **changes):
    """MIND with weights large enough for the routing to differ from an average, and few interests that ReLU leaves at zero."""
    encoder = encoder_of(MIND, MINDConfig(**{"width": 8, **changes}), seed).double()
    torch.nn.init.normal_(encoder.items.tables[0].weight)
    for layer in encoder.layers:
        torch.nn.init.normal_(layer.bias)
    return encoder


LENGTHS = [1, 20, 3, 9]


SWITCHES = [
    {}, {"adaptive": False}, {"interests": 1}, {"layers": 2}, {"layers": 0}, {"feature_width": 3},
    {"user_width": 4, "field_width": 0},
]  # fmt: skip


@pytest.mark.parametrize("switches", SWITCHES)
def test_interests_of_every_point(switches):
    encoder, batch = wide_of(**switches), batch_of(LENGTHS, [0] * 4, [0] * 4)
    with torch.no_grad():
        found, x = encoder.encode(batch).numpy(), encoder.project(encoder.items(batch.short)).numpy()
        users = encoder.users(batch).numpy()
    state = {name: weight.numpy() for name, weight in encoder.state_dict().items()}
    for p in range(len(batch.row)):
        n, row, k = int(batch.position[p]) + 1, int(batch.row[p]), encoder.interests
        own = max(1, min(k, math.floor(math.log2(n)))) if encoder.adaptive else k
        votes = x[row, :n] @ state["map.weight"].T  # [n, d]
        interests, _ = route(np.broadcast_to(votes, (own, n, 8)), state["logits"][:own, :n])
        for i in range(len(encoder.layers)):
            user = np.tile(users[row], (own, 1))
            joined = np.concatenate([interests, user], axis=1) if i == 0 else interests
            interests = np.maximum(joined @ state[f"layers.{i}.weight"].T + state[f"layers.{i}.bias"], 0)
        wanted = np.concatenate([interests, np.repeat(interests[:1], k - own, axis=0)])
        np.testing.assert_allclose(found[p], wanted, atol=1e-12)


@pytest.mark.parametrize("interests", [1, 3, 5])
def test_the_number_of_interests_grows_with_the_logarithm_of_the_clicks(interests):
    encoder = wide_of(interests=interests, length=200)
    own = encoder.used(200).sum(dim=1).tolist()
    assert own == [max(1, min(interests, math.floor(math.log2(n)))) for n in range(1, 201)]


def test_an_interest_that_is_not_used_changes_no_maximum():
    encoder, vectors = wide_of(), torch.randn(25, 8, dtype=torch.float64)
    with torch.no_grad():
        found = encoder.encode(batch_of([9], [0], [0]))
    for n in range(1, 10):
        own = int(encoder.used(9)[n - 1].sum())
        scores = found[n - 1] @ vectors.T
        torch.testing.assert_close(scores.amax(dim=0), scores[:own].amax(dim=0), atol=1e-12, rtol=0)
        assert len(torch.unique(found[n - 1], dim=0)) == own


def test_one_shared_map_would_make_all_interests_alike_without_the_drawn_numbers():
    encoder = wide_of(adaptive=False, layers=0)
    batch = batch_of([9], [0], [0])
    with torch.no_grad():
        found = encoder.encode(batch)[-1]
        encoder.logits.zero_()
        alike = encoder.encode(batch)[-1]
    assert torch.pdist(found).min() > 1e-3
    assert torch.pdist(alike).max() < 1e-12


def test_the_drawn_numbers_are_normal_come_from_the_seed_and_stay_with_the_weights(tmp_path):
    encoder, batch = wide_of(1, length=2000, deviation=2.0), batch_of(LENGTHS, [0] * 4, [0] * 4)
    assert abs(float(encoder.logits.std()) - 2) < 0.05
    assert not any("logits" in name for name, _ in encoder.named_parameters())  # drawn, not learned
    other = wide_of(2, length=2000, deviation=2.0)
    assert torch.equal(wide_of(1, length=2000, deviation=2.0).logits, encoder.logits)
    assert not torch.equal(other.logits, encoder.logits)
    save_file(encoder.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        found = encoder.encode(batch)
        assert torch.equal(encoder.encode(batch), found)  # asked twice
        assert torch.equal(other.encode(batch), found)


def test_label_aware_attention():
    rng = np.random.default_rng(0)
    queries, labels = rng.normal(size=(6, 5, 8)), rng.normal(size=(6, 8))
    queries[2, 1:] = queries[2, :1]  # of a point with one interest
    queries[3, 2:] = queries[3, :1]  # and with two
    own = [5, 5, 1, 2, 5, 5]
    for power in (0.0, 1.0, 2.5):
        found = wide_of(power=power).readout(torch.from_numpy(queries), torch.from_numpy(labels)).numpy()
        for p, n in enumerate(own):
            weights = softmax(power * queries[p, :n] @ labels[p], axis=0)
            np.testing.assert_allclose(found[p], weights @ queries[p, :n], atol=1e-12)
    hard = wide_of().readout(torch.from_numpy(queries), torch.from_numpy(labels)).numpy()
    np.testing.assert_array_equal(hard, [queries[p, np.argmax(queries[p] @ labels[p])] for p in range(6)])
    nearly = wide_of(power=1e4).readout(torch.from_numpy(queries), torch.from_numpy(labels)).numpy()
    np.testing.assert_allclose(nearly, hard, atol=1e-6)


def test_unlike_the_hard_one_soft_attention_trains_every_interest():
    vectors = torch.randn(4, 8, dtype=torch.float64)
    for power, trained in ((None, 1), (1.0, 5)):
        queries = torch.randn(4, 5, 8, dtype=torch.float64, requires_grad=True)
        encoder = wide_of(power=power)
        (encoder.readout(queries, vectors) * vectors).sum().backward()
        assert queries.grad.ne(0).any(dim=2).sum(dim=1).tolist() == [trained] * 4
    assert torch.equal(wide_of().readout(queries, vectors), best_interest(queries, vectors))


def test_the_map_learns_through_the_last_iteration_alone():
    """By differences: with the routing's weights held still the loss moves as the gradient says; it moves otherwise if not."""
    encoder = wide_of(adaptive=False, layers=0, width=3, interests=2)
    batch, way = batch_of([6], [0], [0]), torch.randn(2, 3, dtype=torch.float64)
    (encoder.encode(batch)[-1] * way).sum().backward()
    x, logits = encoder.items(batch.short).detach().numpy()[0], encoder.logits.numpy()[:, :6]
    shared = encoder.map.weight.detach().numpy()

    def votes_of(weight):
        return np.broadcast_to(x @ weight.T, (2, 6, 3))

    _, weights = route(votes_of(shared), logits)

    def still(weight):
        z = np.einsum("kt,ktd->kd", weights, votes_of(weight))
        square = (z**2).sum(1, keepdims=True)
        return (square / (1 + square) * z / np.sqrt(square + 1e-9) * way.numpy()).sum()

    def moving(weight):
        return (route(votes_of(weight), logits)[0] * way.numpy()).sum()

    slopes = {still: np.zeros((3, 3)), moving: np.zeros((3, 3))}
    for loss, slope in slopes.items():
        for place in np.ndindex(3, 3):
            step = np.zeros((3, 3))
            step[place] = 1e-6
            slope[place] = (loss(shared + step) - loss(shared - step)) / 2e-6
    np.testing.assert_allclose(encoder.map.weight.grad.numpy(), slopes[still], atol=1e-8)
    assert np.abs(slopes[still] - slopes[moving]).max() > 1e-3


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_top_k_of_several_interests_is_that_of_brute_force(data):
    """Whole numbers, so that scores are exact and ties happen; some interests repeat the first, as those not used do."""
    n, d, k = (data.draw(st.integers(low, high)) for low, high in ((1, 40), (1, 4), (1, 12)))
    questions, interests = data.draw(st.integers(1, 5)), data.draw(st.integers(2, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    vectors = rng.integers(-3, 4, (n, d)).astype(np.float32)
    queries = rng.integers(-3, 4, (questions, interests, d)).astype(np.float32)
    own = rng.integers(1, interests + 1, questions)
    for q in range(questions):
        queries[q, own[q] :] = queries[q, 0]
    scores, items = ExactRetriever(vectors).top_k(queries, k)
    for q in range(questions):
        best = [max(sum(z[i] * v[i] for i in range(d)) for z in queries[q, : own[q]]) for v in vectors]
        ranked = sorted(range(n), key=lambda item: (-best[item], item))[:k]
        assert [int(item) for item in items[q] if item] == [item + 1 for item in ranked]
        assert scores[q, : len(ranked)].tolist() == [best[item] for item in ranked]


def test_defaults_are_the_papers():
    mind = load_config("mind").model
    assert (mind.width, mind.interests, mind.adaptive, mind.deviation, mind.power) == (64, 5, True, 1.0, None)
