"""Caser: its equations once more, one filter at one place at a time in plain loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import SIZES, batch_of, model_of
from xdm.objectives.samplers import Uniform
from xdm.training.config import load_config
from xdm.training.steps import losses

ACTIVATIONS = {
    "relu": lambda x: max(x, 0.0), "tanh": math.tanh, "sigmoid": lambda x: 1 / (1 + math.exp(-x)), "identity": lambda x: x,
}  # fmt: skip


def window_of(encoder, items):
    """E, L lists of d numbers: the last L of ``items``, and the padding's vector before them."""
    rows = [encoder.project(encoder.items(item)).tolist() for item in items[-encoder.window :]]
    return [encoder.padding.tolist()] * (encoder.window - len(rows)) + rows


def z_of(encoder, window, conv, dense):
    """z, d numbers, of a window without dropout."""
    length, d = len(window), len(window[0])
    weights, biases = encoder.vertical.weight.tolist(), encoder.vertical.bias.tolist()
    found = []
    for weight, bias in zip(weights, biases, strict=True):
        found += [sum(weight[place] * window[place][i] for place in range(length)) + bias for i in range(d)]
    for height, layer in enumerate(encoder.horizontal, start=1):
        for weight, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True):  # weight [d][height]
            found.append(
                max(
                    ACTIVATIONS[conv](
                        sum(weight[i][k] * window[begin + k][i] for k in range(height) for i in range(d)) + bias
                    )
                    for begin in range(length - height + 1)
                )
            )
    rows = zip(encoder.dense.weight.tolist(), encoder.dense.bias.tolist(), strict=True)
    return [ACTIVATIONS[dense](sum(w * x for w, x in zip(row, found, strict=True)) + bias) for row, bias in rows]


@pytest.mark.parametrize(
    "switches",
    [
        {}, {"window": 1, "vertical": 1}, {"window": 8, "horizontal": 3}, {"conv_activation": "tanh", "dense_activation": "sigmoid"},
        {"conv_activation": "identity", "dense_activation": "identity"}, {"feature_width": 3}, {"user_width": 0}, {"user_width": 5},
    ],
)  # fmt: skip
@torch.no_grad()
def test_the_query_is_the_paper_s(switches):
    encoder = model_of(name="caser", **switches).eval().double().encoder
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    batch = batch_of([1, 7, 3], [0] * 3, [0] * 3)
    found = encoder.encode(batch)
    conv, dense = switches.get("conv_activation", "relu"), switches.get("dense_activation", "relu")
    for p in range(len(batch.row)):
        window = window_of(encoder, batch.short[batch.row[p], : batch.position[p] + 1])
        user = encoder.users.user.weight[batch.user[batch.row[p]]].tolist() if encoder.users.width else []
        wanted = torch.tensor([*z_of(encoder, window, conv, dense), *user], dtype=torch.float64)
        torch.testing.assert_close(found[p, 0], wanted)


def test_the_preset_s_loss_is_the_authors():
    """Over the next three clicks: -mean log σ of them, and -mean log(1 - σ) of as many negatives."""
    config = load_config("caser", None, ["training.learning_rate=0.01"])
    model = model_of(name="caser").eval()
    batch = batch_of([6, 6], [0, 0], [0, 0])
    targets = torch.arange(36).reshape(12, 3) % 25 + 1
    found = losses(model, batch, targets, config.objective, np.random.default_rng(5))
    drawn = torch.from_numpy(Uniform(25, 1).own(np.random.default_rng(5), targets.flatten().numpy()).items).reshape(12, 3)
    kept = torch.tensor([[item not in row for item in own] for row, own in zip(targets.tolist(), drawn.tolist(), strict=True)])
    assert kept.float().mean() > 0.7
    with torch.no_grad():
        query = model(batch).query
        positive, negative = (torch.sigmoid(model.score(query, model.scored(items))) for items in (targets, drawn))
    wanted = -torch.log(positive).mean() - torch.where(kept, torch.log(1 - negative), 0).mean()
    assert float(found.softmax.detach()) == pytest.approx(float(wanted), abs=1e-6)


@torch.no_grad()
def test_clicks_before_the_window_are_forgotten():
    encoder = model_of(name="caser", window=3).eval().encoder
    batch = batch_of([6], [0], [0])
    other = replace(batch, short=torch.cat([batch.short[:, :2] % 30 + 1, batch.short[:, 2:]], dim=1))
    before, after = encoder.encode(batch)[:, 0], encoder.encode(other)[:, 0]
    same = [bool(torch.equal(one, two)) for one, two in zip(before, after, strict=True)]
    assert same == [False, False, False, False, True, True]


@torch.no_grad()
def test_a_score_is_the_product_with_the_wide_row_and_its_bias():
    model = model_of(name="caser", user_width=5).eval()
    model.output_bias.weight.normal_()
    batch = batch_of([2, 4], [0, 0], [0, 0])
    plain = model.encoder.encode(batch)[:, 0]  # [P, 8 + 5]
    scores = model(batch).query[:, 0] @ model.item_vectors().T  # [P, n]
    assert model.output.weight.shape == (SIZES.n_candidates + 1, 13)
    for p in range(len(plain)):
        for item in range(1, SIZES.n_candidates + 1):
            wanted = sum(float(a) * float(b) for a, b in zip(plain[p], model.output.weight[item], strict=True))
            assert float(scores[p, item - 1]) == pytest.approx(wanted + float(model.output_bias.weight[item]), abs=1e-5)


def test_defaults_and_first_weights_are_the_authors():
    config = load_config("caser").model
    assert (config.width, config.user_width, config.window, config.horizontal, config.vertical) == (50, 50, 5, 16, 4)
    assert (config.dropout, config.conv_activation, config.dense_activation) == (0.5, "relu", "relu")
    model = model_of(name="caser", width=50, user_width=50, horizontal=16)
    encoder = model.encoder
    for table, width in ((encoder.items.tables[0], 50), (encoder.users.user, 50), (model.output, 100)):
        assert float(table.weight[1:].detach().std()) == pytest.approx(1 / width, rel=0.15)
        assert not table.weight[0].any()
    assert encoder.padding.any()
    assert [tuple(one.weight.shape) for one in encoder.horizontal] == [(16, 50, h) for h in (1, 2, 3, 4, 5)]
