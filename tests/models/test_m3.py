"""M3: the equations once more, one click at a time, in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import batch_of, model_of
from xdm.models.m3 import spans
from xdm.training.config import load_config


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(layer, x):
    found = layer.weight.detach().numpy() @ x
    return found if layer.bias is None else found + layer.bias.detach().numpy()


def gru_state(gru, clicks):
    """The state of torch's GRU after ``clicks``, each ``[d]``."""
    w, u, b, c = (getattr(gru, f"{name}_l0").detach().numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    state = np.zeros(gru.hidden_size)
    for z in clicks:
        of_input, of_state = np.split(w @ z + b, 3), np.split(u @ state + c, 3)
        reset, kept = sigmoid(of_input[0] + of_state[0]), sigmoid(of_input[1] + of_state[1])
        state = (1 - kept) * np.tanh(of_input[2] + reset * of_state[2]) + kept * state
    return state


def convolved(filters, window, clicks):
    """The filters over the last ``window`` of ``clicks``, with zeros before the first."""
    last = [np.zeros_like(clicks[0])] * window + list(clicks)
    weight = filters.weight.detach().numpy()  # [d, d, window]
    total = sum(weight[:, :, k] @ last[len(last) - window + k] for k in range(window))
    return np.maximum(total + filters.bias.detach().numpy(), 0)


def span(seconds):
    """In whole powers of two, counted by halving."""
    number = 1
    while seconds >= 1 and number < 32:
        seconds, number = seconds // 2, number + 1
    return number


def query_of(encoder, items, times, asked):
    """The query after ``items``, clicked at ``times``, where the question is ``asked``."""
    clicks, context = [], np.zeros(0)
    for t, item in enumerate(items):
        if encoder.since_click is not None:
            number = span(times[t] - times[t - 1]) if t else 0
            context = encoder.since_click.weight[number].detach().numpy()
        clicks.append(np.maximum(dense(encoder.enter, np.concatenate([encoder.items(torch.tensor(item)).numpy(), context])), 0))
    z = clicks[-1]
    if hasattr(encoder.short, "gru"):
        short = gru_state(encoder.short.gru, clicks)
    else:
        short = convolved(encoder.short.filters, encoder.short.window, clicks)
    asking = dense(encoder.long.query, z)
    weights = np.exp([asking @ dense(encoder.long.key, one) / np.sqrt(len(z)) for one in clicks])
    long = sum(w * dense(encoder.long.value, one) for w, one in zip(weights / weights.sum(), clicks, strict=True))
    g = sigmoid(dense(encoder.gate, np.concatenate([z, context])))
    mixed = g[0] * z + g[1] * short + g[2] * long
    if encoder.until_question is not None:
        mixed = np.concatenate([mixed, encoder.until_question.weight[span(asked - times[-1])].detach().numpy()])
    return dense(encoder.leave, np.maximum(dense(encoder.hidden, mixed), 0))


@pytest.mark.parametrize("switches", [
    {}, {"short": "convolution"}, {"short": "convolution", "window": 2, "context_width": 3}, {"context_width": 4, "feature_width": 3},
])  # fmt: skip
@torch.no_grad()
def test_the_query_is_the_mixture_of_the_three_ranges(switches):
    encoder = model_of(name="m3", **switches).eval().double().encoder
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    batch = batch_of([1, 9, 6, 8], [0] * 4, [0] * 4)
    batch.time[0] += 5_000_000
    found = encoder.encode(batch)
    for p in range(len(batch.row)):
        row, until = batch.row[p], batch.position[p] + 1
        wanted = query_of(encoder, batch.short[row, :until].tolist(), batch.short_time[row, :until].tolist(), int(batch.time[p]))
        np.testing.assert_allclose(found[p, 0].numpy(), wanted, atol=1e-9)


def with_gate(encoder, *open_):
    """``encoder`` with a gate that is open or shut, whatever was clicked."""
    torch.nn.init.zeros_(encoder.gate.weight)
    encoder.gate.bias.copy_(torch.tensor([200.0 if one else -200.0 for one in open_]))
    return encoder


@torch.no_grad()
def test_all_three_may_be_on_and_all_three_off():
    """A softmax among the three, as in ports, could give neither."""
    batch = batch_of([6], [0], [0])
    mixtures = []
    for one in ([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]):
        mixtures.append(with_gate(model_of(name="m3").eval().encoder, *one).mixture(batch))
    torch.testing.assert_close(mixtures[3], mixtures[0] + mixtures[1] + mixtures[2])
    assert not mixtures[4].any()
    assert mixtures[3].abs().max() > 1e-3


@torch.no_grad()
def test_the_long_range_is_blind_to_order_and_the_short_one_is_not():
    batch = batch_of([6], [0], [0])
    turned = replace(batch, short=batch.short[:, [3, 1, 0, 4, 2, 5]])  # the last click, which asks, stays
    for gate, blind in (([0, 0, 1], True), ([0, 1, 0], False), ([1, 0, 0], True)):
        for short in ("recurrent", "convolution"):
            encoder = with_gate(model_of(name="m3", short=short).eval().encoder, *gate)
            one, other = encoder.mixture(batch)[0, -1], encoder.mixture(turned)[0, -1]
            assert torch.allclose(one, other, atol=1e-7) == blind


@torch.no_grad()
def test_each_range_reaches_as_far_back_as_it_should():
    batch = batch_of([9], [0], [0])
    older = replace(batch, short=torch.cat([batch.short[:, :6] % 30 + 1, batch.short[:, 6:]], dim=1))
    for gate, short, same in (
        ([1, 0, 0], "recurrent", True),
        ([0, 1, 0], "convolution", True),
        ([0, 1, 0], "recurrent", False),
        ([0, 0, 1], "convolution", False),
    ):
        encoder = with_gate(model_of(name="m3", short=short, window=3).eval().encoder, *gate)
        assert torch.equal(encoder.mixture(batch)[0, -1], encoder.mixture(older)[0, -1]) == same


def test_spans_are_counted_by_powers_of_two():
    seconds = [0, 1, 2, 3, 4, 7, 8, 1023, 1024, 2**29, 2**30, 2**40]
    assert spans(torch.tensor(seconds)).tolist() == [span(one) for one in seconds]
    assert spans(torch.tensor(seconds)).tolist() == [1, 2, 3, 3, 4, 4, 5, 11, 12, 31, 32, 32]


def test_presets_and_the_table_of_its_own():
    assert load_config("m3").model.short == "recurrent"
    assert load_config("m3c").model.short == "convolution"
    assert not load_config("m3c").model.tie_item_embedding
    assert load_config("m3").behaviours.history_max == 200
