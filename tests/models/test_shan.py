"""SHAN: both layers of attention once more in plain NumPy, one point and one item at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import batch_of, model_of
from xdm.models.shared.users import UserVectors
from xdm.training.config import load_config

SESSIONS, LONG = [1, 7, 5, 3], [4, 6, 0, 1]


def made(**switches):
    """A trained-like encoder that knows users 1 to 5, and a batch of its questions."""
    encoder = model_of(name="shan", **switches).eval().double().encoder
    with torch.no_grad():
        for weight in encoder.parameters():
            torch.nn.init.normal_(weight, std=0.7)
        for module in encoder.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight[0] = 0
        encoder.users.met[1:6] = True
    batch = batch_of(SESSIONS, LONG, [0] * 4)
    user = torch.tensor([1, 2, 5, 8])  # training never met the last one
    few = torch.where(batch.short > 0, batch.short % 4 + 1, 0)  # so that items come again
    return encoder, replace(batch, user=user, short=few, long=batch.long * torch.tensor([1, 0, 0])[None, :, None])


def attended(encoder, dense, members, user):
    """The members' sum, each weighed by the softmax of u·φ(W x + b)."""
    phi = {"relu": lambda x: np.maximum(x, 0), "sigmoid": lambda x: 1 / (1 + np.exp(-x))}[encoder.config.activation]
    weight, bias = dense.weight.detach().numpy(), dense.bias.detach().numpy()
    scores = np.array([user @ phi(weight @ x + bias) for x in members])
    shares = np.exp(scores - scores.max())
    return sum(share * x for share, x in zip(shares / shares.sum(), members, strict=True))


def query_of(encoder, session, long, user):
    """The query ``[d]`` of item numbers clicked in the session, and before it, by the user with this vector."""
    x = lambda item: encoder.project(encoder.items(torch.tensor(item))).detach().numpy()  # noqa: E731
    members = [x(item) for item in dict.fromkeys(session)]
    if encoder.of_long is not None and long:
        members = [attended(encoder, encoder.of_long, [x(item) for item in long], user), *members]
    return attended(encoder, encoder.of_both, members, user)


@pytest.mark.parametrize("switches", [{}, {"activation": "sigmoid"}, {"long_term": False}, {"feature_width": 3}])
@torch.no_grad()
def test_the_query_is_the_paper_s(switches):
    encoder, batch = made(**switches)
    found = encoder.encode(batch)
    users = encoder.users.vectors.weight.numpy() * (np.arange(10) < 6)[:, None]
    for p, (row, position) in enumerate(zip(batch.row.tolist(), batch.position.tolist(), strict=True)):
        long = [item for item in batch.long[row, 0].tolist() if item]
        wanted = query_of(encoder, batch.short[row, : position + 1].tolist(), long, users[int(batch.user[row])])
        np.testing.assert_allclose(found[p, 0], wanted, rtol=1e-9)


@torch.no_grad()
def test_an_item_clicked_again_is_no_further_member():
    encoder, batch = made()
    again = replace(batch, short=batch.short.clone())
    again.short[1] = torch.tensor([1, 2, 2, 1, 3, 3, 1])
    found = encoder.encode(again)[again.row == 1, 0]
    assert torch.equal(found[1], found[2])
    assert torch.equal(found[2], found[3])
    assert not torch.allclose(found[3], found[4])


@torch.no_grad()
def test_without_a_long_term_set_nothing_stands_in_for_it():
    """Zeros as a member would take a share of the weight, and so make every score of such a user smaller."""
    encoder, batch = made()
    none = replace(batch, long=torch.zeros_like(batch.long))
    found = encoder.encode(none)
    first = found[none.position == 0, 0]  # after one click, the only member
    torch.testing.assert_close(first, encoder.items(none.short[:, 0]))
    long, present = encoder._long(none, encoder.users(none))
    assert not long.any()
    assert not present.any()


@torch.no_grad()
def test_a_user_whom_training_never_met_has_plain_averages():
    encoder, batch = made()
    found = encoder.encode(replace(batch, user=torch.full_like(batch.user, 9)))
    unknown = encoder.encode(replace(batch, user=torch.zeros_like(batch.user)))
    assert torch.equal(found, unknown)
    x = encoder.items
    row = 1
    long = x(batch.long[row, 0][batch.long[row, 0] > 0]).mean(0)
    session = x(batch.short[row].unique())
    torch.testing.assert_close(unknown[batch.row == row, 0][-1], torch.cat([long[None], session]).mean(0))


@torch.no_grad()
def test_the_whole_long_term_set_counts_and_its_order_does_not():
    encoder, batch = made()
    found = encoder.encode(batch)
    turned = encoder.encode(replace(batch, long=batch.long.flip(2)))  # padding first, too
    torch.testing.assert_close(turned, found)
    for place in range(6):  # a port reads the last two items alone
        other = batch.long.clone()
        other[1, 0, place] = 29
        assert not torch.allclose(encoder.encode(replace(batch, long=other))[batch.row == 1], found[batch.row == 1])


@torch.no_grad()
def test_scores_of_any_size_give_no_nan():
    encoder, batch = made()
    for weight in encoder.parameters():
        weight *= 40
    assert torch.isfinite(encoder.encode(batch)).all()


def test_penalties_are_the_weighed_squares():
    encoder, batch = made(l2_vectors=0.3, l2_attention=0.7)
    last = encoder.items.tables[0](batch.short[batch.row, batch.position])
    user = encoder.users(batch)[batch.row]
    of_points = [float((x @ x + u @ u).detach()) for x, u in zip(last, user, strict=True)]
    of_layers = sum(float((dense.weight.detach() ** 2).sum()) for dense in (encoder.of_long, encoder.of_both))
    found = encoder.penalty(torch.zeros(0), batch)
    assert float(found.detach()) == pytest.approx(0.3 * np.mean(of_points) + 0.7 * of_layers)
    assert made()[0].penalty(torch.zeros(0), batch) is None


def test_defaults_and_first_weights_are_the_authors():
    config = load_config("shan")
    assert (config.model.width, config.model.activation, config.model.tie_item_embedding) == (100, "relu", True)
    assert (config.objective.name, config.objective.sampler, config.objective.negatives) == ("bpr", "uniform", 1)
    model = model_of(name="shan", width=48)
    assert isinstance(model.encoder.users, UserVectors)
    for dense in (model.encoder.of_long, model.encoder.of_both):
        # uniform in ±sqrt(3 / d); a port gives both bounds the same sign, so that all weights start alike
        assert dense.weight.max() > 0.24
        assert dense.weight.min() < -0.24
        assert dense.weight.abs().max() <= 0.25
    assert float(model.item_vectors().std().detach()) == pytest.approx(0.01, rel=0.1)
    assert torch.equal(model.item_vectors(), model.encoder.items.tables[0].weight[1:26])
