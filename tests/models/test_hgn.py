"""HGN: its equations once more, one click and one dimension at a time in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.models.batches import SIZES, batch_of, model_of
from xdm.objectives.samplers import Uniform
from xdm.training.config import load_config
from xdm.training.steps import losses


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def query_of(encoder, items, user, pooling="average", item_product=True):
    """``u + s + Σ S_j`` of the last L of ``items`` (a tensor) and the vector ``user``, a list of d numbers."""
    length, d = encoder.window, encoder.width
    clicks = [encoder.project(encoder.items(item)).tolist() for item in items[-length:]]
    clicks = [encoder.padding.tolist()] * (length - len(clicks)) + clicks
    w1, b1 = encoder.gate_of_item.weight.tolist(), encoder.gate_of_item.bias.tolist()
    w2, b2 = encoder.gate_of_user.weight.tolist(), encoder.gate_of_user.bias.tolist()
    of_item, of_user = encoder.instance_of_item[:, 0].tolist(), encoder.instance_of_user.T.tolist()  # [d], [L][d]
    gated, gates = [], []
    for place, click in enumerate(clicks):
        through = [click[i] * sigmoid(dot(w1[i], click) + b1[i] + dot(w2[i], user) + b2[i]) for i in range(d)]
        gates.append(sigmoid(dot(through, of_item) + dot(user, of_user[place])))
        gated.append([gates[-1] * x for x in through])
    if pooling == "max":
        s = [max(click[i] for click in gated) for i in range(d)]
    else:
        s = [sum(click[i] for click in gated) / sum(gates) for i in range(d)]
    plain = [sum(click[i] for click in clicks) if item_product else 0.0 for i in range(d)]
    return [u + a + b for u, a, b in zip(user, s, plain, strict=True)]


@pytest.mark.parametrize(
    "switches", [{}, {"window": 1}, {"window": 9}, {"pooling": "max"}, {"item_product": False}, {"feature_width": 3}]
)
@torch.no_grad()
def test_the_query_is_the_paper_s(switches):
    encoder = model_of(name="hgn", **switches).eval().double().encoder
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    batch = batch_of([1, 7, 3], [0] * 3, [0] * 3)
    found = encoder.encode(batch)
    options = {key: switches[key] for key in ("pooling", "item_product") if key in switches}
    for p in range(len(batch.row)):
        user = encoder.users.user.weight[batch.user[batch.row[p]]].tolist()
        wanted = query_of(encoder, batch.short[batch.row[p], : batch.position[p] + 1], user, **options)
        torch.testing.assert_close(found[p, 0], torch.tensor(wanted, dtype=torch.float64))


@torch.no_grad()
def test_the_score_is_the_sum_of_the_papers_three_products_and_the_bias():
    model = model_of(name="hgn").eval()
    model.output_bias.weight.normal_()
    batch = batch_of([6], [0], [0])
    scores = model.score(model(batch).query, model.item_vectors())  # [6, n]
    encoder, clicks = model.encoder, model.encoder.items(batch.short[0])  # [6, d]
    user = encoder.users(batch)
    s = encoder.pooled(clicks[1:][None], user)[0]  # of the last point's window of five
    for item in range(1, SIZES.n_candidates + 1):
        row = model.output.weight[item]  # the prediction table, not that of inputs
        wanted = user[0] @ row + s @ row + (clicks[1:] @ row).sum() + model.output_bias.weight[item, 0]
        assert float(scores[-1, item - 1]) == pytest.approx(float(wanted), abs=1e-5)


def test_the_gates_over_clicks_are_trained():
    """In the authors' code they are no parameters and keep the values that they were drawn with."""
    model = model_of(name="hgn").train()
    before = [weight.detach().clone() for weight in (model.encoder.instance_of_item, model.encoder.instance_of_user)]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = batch_of([6, 6], [0, 0], [0, 0])
    config = load_config("hgn").objective
    losses(model, batch, torch.arange(36).reshape(12, 3) % 25 + 1, config, np.random.default_rng(0)).total.backward()
    optimizer.step()
    after = [model.encoder.instance_of_item, model.encoder.instance_of_user]
    assert all((old != new).all() for old, new in zip(before, after, strict=True))


def test_the_preset_s_loss_is_the_authors_but_for_its_scale():
    """BPR over pairs of one of the next three clicks and one negative: the mean, with them the sum."""
    config = load_config("hgn")
    model = model_of(name="hgn").eval()
    batch = batch_of([6, 6], [0, 0], [0, 0])
    targets = torch.arange(36).reshape(12, 3) % 25 + 1
    found = losses(model, batch, targets, config.objective, np.random.default_rng(5))
    drawn = torch.from_numpy(Uniform(25, 1).own(np.random.default_rng(5), targets.flatten().numpy()).items).reshape(12, 3)
    wanted = 0.0
    with torch.no_grad():
        query = model(batch).query
        positive, negative = (model.score(query, model.scored(items)).tolist() for items in (targets, drawn))
    for p in range(12):
        for j in range(3):
            if drawn[p, j] not in targets[p]:
                wanted -= math.log(sigmoid(positive[p][j] - negative[p][j])) / 36
    assert float(found.softmax.detach()) == pytest.approx(wanted, abs=1e-6)
    assert config.training.weight_decay * 4096 * 3 == pytest.approx(1e-3)


def test_first_weights_are_the_authors():
    model = model_of(name="hgn", width=50)
    encoder = model.encoder
    for table in (encoder.items.tables[0], encoder.users.user, model.output):
        assert float(table.weight[1:].detach().std()) == pytest.approx(1 / 50, rel=0.15)
        assert not table.weight[0].any()
    assert encoder.padding.any()
    assert not model.output_bias.weight.any()
    assert float(encoder.instance_of_user.detach().abs().max()) <= math.sqrt(6 / 55)
