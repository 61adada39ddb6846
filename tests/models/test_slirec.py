"""SLi-Rec: the cell with gates of time, both attentions and the weight between them once more in plain NumPy, click by click."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.models.batches import batch_of, model_of
from xdm.models.shared.prefixes import prefix_times, prefixes
from xdm.models.slirec import time_spans
from xdm.training.config import load_config

DAY = 86_400


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    shares = np.exp(x - x.max())
    return shares / shares.sum()


def made(**switches):
    """An encoder with weights of any size, and questions about clicks hours to weeks apart."""
    encoder = model_of(name="slirec", **switches).eval().encoder
    with torch.no_grad():
        for weight in encoder.parameters():
            torch.nn.init.normal_(weight, std=0.6)
        for table in encoder.items.tables:
            table.weight[0] = 0
    batch = batch_of([1, 7, 4], [0] * 3, [0] * 3)
    gaps = np.random.default_rng(5).integers(600, 9 * DAY, batch.short.shape).cumsum(axis=1)
    times = torch.where(batch.short > 0, 1_700_000_000 + torch.from_numpy(gaps), 0)
    return encoder, replace(batch, short_time=times, time=times[batch.row, batch.position] + 3 * DAY)


class Oracle:
    """The authors' equations, with the last state where theirs have the candidate."""

    def __init__(self, encoder):
        self.w = {name: weight.detach().double().numpy() for name, weight in encoder.named_parameters()}
        self.encoder = encoder

    def dense(self, name, x):
        return self.w[f"{name}.weight"] @ x + self.w.get(f"{name}.bias", 0.0)

    def network(self, name, x):
        first = sigmoid(self.dense(f"{name}.0", x))
        return self.dense(f"{name}.4", sigmoid(self.dense(f"{name}.2", first)))[0]

    def states(self, x, now, last):
        d, cell = self.encoder.width, lambda name, value: self.dense(f"short_term.{name}", value)
        h, c, found = np.zeros(d), np.zeros(d), []
        for one, since, before in zip(x, now, last, strict=True):
            tau_now, tau_last = np.tanh(cell("of_now", [since])), np.tanh(cell("of_last", [before]))
            gate_now = sigmoid(cell("now_of_input", one) + cell("now_of_time", tau_now))
            gate_last = sigmoid(cell("last_of_input", one) + cell("last_of_time", tau_last))
            i, j, f, o = np.split(cell("input", one) + cell("recurrent", h), 4)
            c = sigmoid(f + 1) * gate_last * c + sigmoid(i) * gate_now * np.tanh(j)
            h = sigmoid(o + cell("output_of_now", tau_now) + cell("output_of_last", tau_last)) * np.tanh(c)
            found.append(h)
        return found

    def query(self, items, times, asked):
        days = lambda seconds: np.log(max(seconds / DAY, 0.5))  # noqa: E731
        now = [days(asked - time) for time in times]
        last = [0.0] + [days(after - before) for before, after in pairwise(times)]
        x = [self.encoder.items(torch.tensor(item)).detach().double().numpy() for item in items]
        states = self.states(x, now, last)
        weights = softmax(np.array([self.dense("weigh_click", np.tanh(self.dense("of_click", one)))[0] for one in x]))
        long = sum(weight * one for weight, one in zip(weights, x, strict=True))
        if "long_to_short.weight" in self.w:
            long = self.dense("long_to_short", long)
        q = self.dense("ask", states[-1])
        q = np.where(q > 0, q, self.w["slopes"] * q)
        compared = [self.network("weigh_state", np.concatenate([q, h, q - h, q * h])) for h in states]
        short = sum(weight * h for weight, h in zip(softmax(np.array(compared)), states, strict=True))
        share = 0.2
        if self.encoder.weigh_long is not None:
            share = sigmoid(self.network("weigh_long", np.concatenate([states[-1], long, short, now[-1:]])))
        return self.dense("out", share * long + (1 - share) * short)


@pytest.mark.parametrize("switches", [{}, {"fusion": "fixed"}, {"item_width": 5}, {"window": 3}])
@torch.no_grad()
def test_the_query_is_that_of_the_equations(switches):
    encoder, batch = made(**switches)
    found, oracle = encoder.encode(batch), Oracle(encoder)
    for p, (row, position) in enumerate(zip(batch.row.tolist(), batch.position.tolist(), strict=True)):
        seen = slice(max(0, position + 1 - encoder.window), position + 1)
        wanted = oracle.query(batch.short[row, seen].tolist(), batch.short_time[row, seen].tolist(), int(batch.time[p]))
        np.testing.assert_allclose(found[p, 0], wanted, atol=1e-5)


def test_spans_are_days_since_the_click_before_and_until_the_question():
    """Not since the first click, as a port has them; at least half a day; padding and the first click have none."""
    times = torch.tensor([[0, 2 * DAY, 2 * DAY + 60, 12 * DAY], [5 * DAY, 0, 0, 0]])
    now, last = time_spans(times, torch.tensor([13 * DAY, 9 * DAY]), torch.tensor([[True] * 4, [True] + [False] * 3]))
    wanted = torch.tensor([[13, 11, 11 - 60 / DAY, 1], [4, 1, 1, 1]]).log()
    torch.testing.assert_close(now, wanted, atol=1e-5, rtol=0)
    wanted = torch.tensor([[1, 2, 0.5, 10 - 60 / DAY], [1, 1, 1, 1]]).log()
    torch.testing.assert_close(last, wanted, atol=1e-5, rtol=0)


def test_times_of_a_point_are_those_of_its_clicks():
    batch = batch_of([6, 2], [0] * 2, [0] * 2)
    items, lengths = prefixes(batch, 4)
    times = prefix_times(batch, 4)
    for p, (row, position) in enumerate(zip(batch.row.tolist(), batch.position.tolist(), strict=True)):
        seen = slice(max(0, position - 3), position + 1)
        n = int(lengths[p])
        assert times[p, :n].tolist() == batch.short_time[row, seen].tolist()
        assert items[p, :n].tolist() == batch.short[row, seen].tolist()
        assert not times[p, n:].any()


@torch.no_grad()
def test_a_state_is_another_one_when_it_is_asked_later():
    encoder, batch = made()
    found = encoder.encode(batch)
    later = encoder.encode(replace(batch, time=batch.time + 20 * DAY))
    assert not np.isclose(found, later).all(axis=-1).any()
    moved = batch.short_time.clone()
    moved[1, 4:] += 7 * DAY  # of what comes later, times are not known either
    again = encoder.encode(replace(batch, short_time=moved))
    early = (batch.row != 1) | (batch.position < 4)
    assert torch.equal(again[early], found[early])
    assert not torch.equal(again[~early], found[~early])


@torch.no_grad()
def test_padding_takes_no_share_of_the_long_term():
    """In the authors' code it does: a short row in a batch of long ones has another vector than alone."""
    encoder, batch = made()
    alone = replace(batch.at(batch.row == 0), short=batch.short[:1, :1], short_time=batch.short_time[:1, :1])
    torch.testing.assert_close(encoder.terms(alone)[1], encoder.long_to_short(encoder.items(batch.short[:1, 0])))
    torch.testing.assert_close(encoder.terms(batch)[1][:1], encoder.terms(alone)[1])
    torch.testing.assert_close(encoder.terms(batch)[3][:1], torch.full((1, 1), np.log(3.0)))  # not the padding's span


@torch.no_grad()
def test_features_reach_the_recurrent_layer():
    """A port feeds it the item alone."""
    encoder, batch = made()
    found = encoder.terms(batch)[0]
    encoder.items.tables[1].weight[1:] += 1
    assert not np.isclose(encoder.terms(batch)[0], found).all(axis=-1).any()


def test_defaults_and_first_weights_are_the_authors():
    config = load_config("slirec")
    model = config.model
    assert (model.width, model.item_width, model.feature_width, model.attention) == (36, 18, 18, 36)
    assert (config.training.batch_size, config.training.learning_rate, config.training.order) == (128, 1e-3, "points")
    encoder = model_of(name="slirec", width=36, item_width=18, feature_width=9, attention=40).encoder
    cell = encoder.short_term
    limit = (6 / (36 + 36 + 4 * 36)) ** 0.5
    for weight in (cell.input.weight, cell.recurrent.weight):
        assert 0.95 * limit < float(weight.detach().abs().max()) <= limit
    assert not cell.input.bias.any()
    assert cell.now_of_input.bias.any()
    assert float(encoder.of_click.weight.detach().std()) == pytest.approx(0.1, rel=0.1)
    assert encoder.slopes.tolist() == pytest.approx([0.1] * 36)
