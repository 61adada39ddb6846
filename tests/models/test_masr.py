"""MDR, MASS and MASR against their equations, pair by pair and member by member in NumPy, and what their authors' code gets wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import batch_of, model_of

D, MEMBERS, N = 6, 4, 25


@pytest.fixture
def batch():
    return replace(batch_of([1, 7, 3, 2], [0, 0, 0, 0], [0, 0, 0, 0]), user=torch.tensor([3, 5, 0, 7]))


def model_with_weights(name, **settings):
    """A model with weights of the size of a trained one's, whose training met users 3 and 7."""
    small = {"width": D, **({"members": MEMBERS} if name == "masr" else {})}
    model = model_of(name=name, **{**small, **settings}).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.4 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
        for table in (model.encoder.users.vectors, model.encoder.items.tables[0], model.output_bias):
            table.weight[0] = 0
    model.encoder.users.met[[3, 7]] = True
    return model


def numbers(tensor):
    return tensor.detach().double().numpy()


def asked(model, batch):
    """Of each point: the user's vector (of an unknown one the mean), the vectors of all clicks so far, and of those in reach."""
    users, items = numbers(model.encoder.users.vectors.weight), numbers(model.encoder.items.tables[0].weight)
    for row, place in zip(batch.row.tolist(), batch.position.tolist(), strict=True):
        clicked = [items[i] for i in batch.short[row, : place + 1].tolist()]
        user = int(batch.user[row])
        yield users[user] if user in (3, 7) else sum(clicked) / len(clicked), clicked, clicked[-MEMBERS:]


def weighed(a, x, y):
    """``|A ⊙ (x - y)|²``."""
    return sum((a[k] * (x[k] - y[k])) ** 2 for k in range(len(a)))


def mdr_by_hand(mahalanobis, user, clicked, song):
    a = numbers(mahalanobis.a)[:, 0]
    if mahalanobis.b is None:
        return -weighed(a, user, song)
    return -weighed(a, user, song) - weighed(numbers(mahalanobis.b)[:, 0], sum(clicked) / len(clicked), song)


def mass_by_hand(scoring, user, members, song, activation):
    """Blocks of ``user``, ``members``, ``song``: what the attention reads, then what the output reads."""
    distances = []
    for memory, block in ((scoring.attention, slice(-2 * D, -D)), (scoring.output, slice(-D, None))):
        join, shift, a = numbers(memory.join), numbers(memory.shift), numbers(memory.a)[:, 0]
        q = activation(join @ np.concatenate([user[block], song[block]]) + shift)
        distances.append([weighed(a, q, m[block]) for m in members])
    weights = np.exp(-np.array(distances[0]))
    return -sum(weights / weights.sum() * distances[1])


def centred(scores):
    """Scores less the point's mean: what is the same for every item ranks nothing."""
    return scores - scores.mean(axis=1, keepdims=True)


def found(model, batch):
    with torch.no_grad():
        return numbers(model.score(model(batch).query, model.item_vectors()))


@pytest.mark.parametrize("session", [False, True])
def test_mdr_is_two_weighed_distances_and_one_inner_product(batch, session):
    model = model_with_weights("mdr", session=session)
    items, bias = numbers(model.encoder.items.tables[0].weight), numbers(model.output_bias.weight)[:, 0]
    wanted = np.array([
        [bias[i] + mdr_by_hand(model.encoder.mahalanobis, user, clicked, items[i]) for i in range(1, N + 1)]
        for user, clicked, _ in asked(model, batch)
    ])  # fmt: skip
    np.testing.assert_allclose(centred(found(model, batch)), centred(wanted), atol=1e-5)


@pytest.mark.parametrize("settings", [
    {}, {"beta": 0.3, "session": False}, {"parts": "mass"}, {"parts": "mass", "activation": "tanh"}, {"activation": "none"},
])  # fmt: skip
def test_masr_is_mdr_and_attention_over_members_that_user_and_candidate_ask_for(batch, settings):
    model = model_with_weights("masr", **settings)
    items, bias = numbers(model.encoder.items.tables[0].weight), numbers(model.output_bias.weight)[:, 0]
    activation = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "none": lambda x: x}[settings.get("activation", "relu")]
    beta, wanted = settings.get("beta", 0.5), []
    for user, clicked, members in asked(model, batch):
        of_point = []
        for i in range(1, N + 1):
            mass = mass_by_hand(model.encoder.scoring, user, members, items[i], activation)
            if settings.get("parts") == "mass":
                of_point.append(bias[i] + mass)
                continue
            first = [x[:D] for x in clicked]
            mdr = mdr_by_hand(model.encoder.mahalanobis, user[:D], first, items[i][:D])
            of_point.append(bias[i] + beta * mass + (1 - beta) * mdr)
        wanted.append(of_point)
    np.testing.assert_allclose(centred(found(model, batch)), centred(np.array(wanted)), atol=2e-5)


def test_each_point_s_own_candidates_score_as_among_all(batch):
    model = model_with_weights("masr")
    own = torch.randint(1, N + 1, (len(batch.row), 3), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = numbers(model.score(model(batch).query, model.scored(own)))
    np.testing.assert_allclose(scores, np.take_along_axis(found(model, batch), own.numpy() - 1, axis=1), atol=1e-5)


def test_no_attention_to_places_without_a_member_however_near_they_are(batch):
    """The authors multiply distances to padding by 65535 ahead of the softmax: at distance 0 padding then weighs most of all."""
    model = model_with_weights("masr", parts="mass", activation="none")
    with torch.no_grad():
        model.encoder.scoring.attention.join.zero_()
        model.encoder.scoring.attention.shift.zero_()  # q is 0, and so is padding
        weights = model.encoder.scoring.weights(model(batch).query, model.item_vectors())
    there = (torch.arange(MEMBERS) < (batch.position + 1)[:, None])[:, None].expand_as(weights)
    assert not weights[~there].any()
    assert (weights[there] > 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_a_member_that_was_left_out_of_the_row_is_none(batch):
    short = batch.short.clone()
    short[1, :] = torch.where(torch.arange(7) == 4, 0, short[1])
    model = model_with_weights("masr")
    weights = model.encoder.scoring.weights(model(replace(batch, short=short)).query, model.item_vectors())
    point = int(torch.nonzero((batch.row == 1) & (batch.position == 5))[0, 0])
    assert not weights[point, :, 2].any()
    assert (weights[point, :, [0, 1, 3]] > 0).all()


def test_what_user_and_candidate_ask_starts_as_their_difference():
    encoder = model_of(name="masr", width=D, members=MEMBERS).encoder
    for memory in (encoder.scoring.attention, encoder.scoring.output):
        user, song = torch.randn(D), torch.randn(D)
        torch.testing.assert_close(memory.join @ torch.cat([user, song]), song - user)
        assert torch.equal(memory.a, torch.ones(D, 1))
    assert torch.equal(encoder.mahalanobis.a, torch.ones(D, 1))
    assert ((encoder.mahalanobis.b >= 0) & (encoder.mahalanobis.b <= 1)).all()
    assert 0.8 / D < float(encoder.items.tables[0].weight[1:].detach().std()) < 1.2 / D


def test_bpr_learns_every_weight_of_both_halves(batch):
    """The code's regulariser names members that do not exist: nothing of ours may stand idle."""
    model = model_with_weights("masr").train()
    labels = torch.arange(len(batch.row)) % N + 1
    scores = model.score(model(batch).query, model.item_vectors())
    (scores.logsumexp(1) - scores[torch.arange(len(labels)), labels - 1]).mean().backward()
    still = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert still == []
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters())
