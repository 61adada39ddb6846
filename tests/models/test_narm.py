"""NARM: its equations once more, one click and one number at a time in plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from tests.models.batches import batch_of, model_of
from xdm.models.shared import additive
from xdm.training.config import load_config

GATES = {"sigmoid": lambda x: 1 / (1 + math.exp(-x)), "hard_sigmoid": lambda x: min(1.0, max(0.0, 0.2 * x + 0.5))}


def product(matrix, vector):
    return [sum(w * x for w, x in zip(row, vector, strict=True)) for row in matrix]


def states_of(encoder, items, sigma):
    """h_1 … h_t of the clicks ``items``: the reset gate acts before the recurrent matrix."""
    hidden = encoder.gru.width
    w, u, bias = encoder.gru.input.tolist(), encoder.gru.recurrent.tolist(), encoder.gru.bias.tolist()
    h, found = [0.0] * hidden, []
    for item in items:
        x = encoder.items(item).tolist()
        of_x, of_h = [a + b for a, b in zip(product(w, x), bias, strict=True)], product(u[: 2 * hidden], h)
        reset = [sigma(of_x[i] + of_h[i]) for i in range(hidden)]
        update = [sigma(of_x[hidden + i] + of_h[hidden + i]) for i in range(hidden)]
        of_reset = product(u[2 * hidden :], [r * s for r, s in zip(reset, h, strict=True)])
        new = [math.tanh(of_x[2 * hidden + i] + of_reset[i]) for i in range(hidden)]
        h = [(1 - z) * s + z * n for z, s, n in zip(update, h, new, strict=True)]
        found.append(h)
    return found


def query_of(encoder, items, gate, softmax):
    """``B [c_l; c_g]`` of the clicks ``items``, attention first as in the code."""
    sigma = GATES[gate]
    h = states_of(encoder, items, sigma)
    asked = product(encoder.of_last.weight.tolist(), h[-1])
    scores = []
    for state in h:
        of_click = product(encoder.of_click.weight.tolist(), state)
        scores.append(sum(v * sigma(a + b) for v, a, b in zip(encoder.weigh.tolist(), asked, of_click, strict=True)))
    if softmax:
        total = sum(math.exp(s) for s in scores)
        scores = [math.exp(s) / total for s in scores]
    local = [sum(s * state[i] for s, state in zip(scores, h, strict=True)) for i in range(len(asked))]
    return product(encoder.decode.weight.tolist(), [*local, *h[-1]])


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("attention", ["softmax", "sum"])
@torch.no_grad()
def test_the_query_is_the_papers_or_the_codes(gate, attention):
    encoder = model_of(name="narm", gate=gate, attention=attention).eval().double().encoder
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.6)
    batch = batch_of([1, 7, 3], [0] * 3, [0] * 3)
    found = encoder.encode(batch)
    for p in range(len(batch.row)):
        items = batch.short[batch.row[p], : batch.position[p] + 1]
        wanted = query_of(encoder, items, gate, attention == "softmax")
        torch.testing.assert_close(found[p, 0], torch.tensor(wanted, dtype=torch.float64))


def test_attention_in_small_parts_is_the_same_and_so_are_its_gradients(monkeypatch):
    """A point's weights need every click of its row at once, all points' together far more than fits: they are taken in parts."""
    batch, gradients = batch_of([1, 12, 5], [0] * 3, [0] * 3), []
    for cells in (1 << 20, 100):
        monkeypatch.setattr(additive, "CELLS", cells)
        model = model_of(name="narm").eval()
        model(batch).query.square().sum().backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


def test_defaults_and_first_weights_are_the_authors():
    config = load_config("narm")
    assert (config.model.width, config.model.hidden, config.model.input_dropout, config.model.dropout) == (50, 100, 0.25, 0.5)
    assert (config.behaviours.session_max, config.training.batch_size, config.objective.name) == (19, 512, "softmax")
    encoder = model_of(name="narm", width=50, hidden=100).encoder
    for part in encoder.gru.recurrent.detach().chunk(3):
        torch.testing.assert_close(part @ part.T, torch.eye(100), atol=1e-4, rtol=0)
    assert float(encoder.of_click.weight.detach().std()) == pytest.approx((2 / 100) ** 0.5, rel=0.05)
    assert float(encoder.weigh.detach().std()) == pytest.approx(2**0.5, rel=0.25)
    assert float(encoder.decode.weight.detach().std()) == pytest.approx((2 / 50) ** 0.5, rel=0.05)  # a matrix of [d, 2H]
