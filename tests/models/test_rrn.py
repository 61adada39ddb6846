"""RRN: both sides' equations once more, click by click and period by period; and what a question may know of an item's time."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import xdm.models.rrn as module
from tests.learning import memory_store
from tests.models.batches import BARE, batch_of, log_of, model_of
from xdm.data.catalogue import build_catalogue
from xdm.data.clicks import Clicks, TrainingLog
from xdm.models.retrieval_model import build_model
from xdm.models.rrn import RRN
from xdm.models.shared.inputs import NoUserInputs
from xdm.models.shared.visits import Visits
from xdm.schema import DAY
from xdm.training.config import load_config
from xdm.training.rolling import carry_over

HALF_DAY = DAY // 2


def rrn(**settings):
    """A model of large double weights, told what happened anew with them."""
    model = model_of(name="rrn", **settings).double()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "weight" in name or "bias" in name:
                weight.copy_(torch.randn_like(weight) * 0.5)
        for table in (module for module in model.modules() if isinstance(module, torch.nn.Embedding)):
            table.weight[0] = 0
        told(model, log_of().clicks)
    return model


@torch.no_grad()
def told(model, clicks, until=1_700_006_001):
    """The model with ``clicks`` as its training part."""
    model.encoder.before_training(model, SimpleNamespace(clicks=clicks, until=until))
    return model


def lstm(layer, inputs):
    """The states after each of ``inputs`` (vectors), gate by gate."""
    cell = layer.layers[0]
    h = c = torch.zeros(cell.hidden_size, dtype=torch.float64)
    after = []
    for x in inputs:
        i, f, g, o = (cell.weight_ih_l0 @ x + cell.bias_ih_l0 + cell.weight_hh_l0 @ h + cell.bias_hh_l0).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        after.append(h)
    return after


def tau(time, span):
    """The wall clock of one time."""
    share = min(max((time - span[0]) / (span[1] - span[0]), 0), 1)
    hour, week = 2 * math.pi * (time % DAY) / DAY, 2 * math.pi * (time % (7 * DAY)) / (7 * DAY)
    return [share, math.sin(hour), math.cos(hour), math.sin(week), math.cos(week)]


def steps(times, span, *, own):
    """``[own ; newbie ; τ_t ; τ_{t-1}]`` of each step; ``own``: the numbers that stand in front."""
    clocks = [tau(time, span) for time in times]
    return [
        torch.tensor([*front, float(n == 0), *clocks[n], *(clocks[n - 1] if n else [0.0] * 5)], dtype=torch.float64)
        for n, front in enumerate(own)
    ]  # fmt: skip


def state_of(encoder, clicks, item, before):
    """The state of ``item`` by what happened in the periods that ended at or before ``before`` (seconds): the paper's item side."""
    side, length = encoder.item_side, encoder.config.period
    span = [int(clicks.time[0]), 1_700_006_001]
    happened = {}
    for user, one, time in zip(*(part.tolist() for part in (clicks.user, clicks.item, clicks.time)), strict=True):
        if one == item and (time // length + 1) * length <= before:
            happened.setdefault(time // length, []).append(user)
    periods = sorted(happened)
    facts = steps([p * length + length // 2 for p in periods], span, own=[[math.log1p(len(happened[p]))] for p in periods])
    inputs = [
        sum(side.raters.weight[user] for user in happened[p]) / len(happened[p])
        + side.of_visit.weight @ told_of + side.of_visit.bias
        for p, told_of in zip(periods, facts, strict=True)
    ]  # fmt: skip
    return [torch.zeros(encoder.config.hidden, dtype=torch.float64), *lstm(side.recurrent, inputs)][-1]


def vector_of(model, clicks, item, before):
    """``[B m_t + b ; m]`` of an item at a time."""
    row, map_ = model.output.weight[item], model.encoder.item_side.map.weight
    width = model.encoder.config.width
    return torch.cat([map_ @ state_of(model.encoder, clicks, item, before) + row[:width], row[width:]])


def end_of_periods(time, length):
    """When the last whole period before ``time`` ended."""
    return time // length * length


@pytest.mark.parametrize("switches", [{}, {"feature_width": 3}, {"stationary": 0}, {"items": "static"}])
@torch.no_grad()
def test_the_query_is_the_paper_s_user_side(switches):
    model = rrn(**switches).eval()
    encoder = model.encoder
    batch = batch_of([1, 9, 6], [0] * 3, [0] * 3)
    if not isinstance(encoder.users, NoUserInputs):
        encoder.users.met[batch.user[:2]] = True
        encoder.users.met[batch.user[2]] = False
    found, span = encoder.encode(batch), encoder.span.tolist()
    for p, (row, position) in enumerate(zip(batch.row.tolist(), batch.position.tolist(), strict=True)):
        items, times = batch.short[row, : position + 1], batch.short_time[row, : position + 1].tolist()
        facts = steps(times, span, own=[[]] * len(times))
        inputs = [
            encoder.project(encoder.items(item)) + encoder.of_click.weight @ fact + encoder.of_click.bias
            for item, fact in zip(items, facts, strict=True)
        ]  # fmt: skip
        wanted = encoder.user_map.weight @ lstm(encoder.user_states, inputs)[-1] + encoder.user_map.bias
        if not isinstance(encoder.users, NoUserInputs):
            known = float(encoder.users.met[batch.user[row]])
            wanted = torch.cat([wanted, known * encoder.users.vectors.weight[batch.user[row]]])
        torch.testing.assert_close(found[p, 0], wanted, atol=1e-6, rtol=1e-6)  # a clock is single precision


@pytest.mark.parametrize("period", [DAY, 5 * 3600])
@torch.no_grad()
def test_exported_item_vectors_are_the_paper_s_item_side_at_the_end_of_training(period):
    model, clicks = rrn(period=period), log_of().clicks
    found = model.item_vectors()
    for item in range(1, 26):
        torch.testing.assert_close(found[item - 1], vector_of(model, clicks, item, np.inf), atol=1e-6, rtol=1e-6)
    none = torch.zeros_like(found[0])
    torch.testing.assert_close(model.scored(torch.tensor([3, 0, 26, 9])), torch.stack([found[2], none, none, found[8]]))


@pytest.mark.parametrize("switches", [{}, {"items_a_step": 3}, {"period": HALF_DAY}])
def test_the_loss_asks_for_every_item_as_it_was_in_the_periods_before_the_question(switches):
    """A softmax over all items, each by its vector at the point's own time: derived again, item by item."""
    model, clicks = rrn(**switches), log_of().clicks
    batch = batch_of([3, 1, 4], [0] * 3, [0] * 3)
    batch = replace(batch, time=batch.time - torch.arange(8) * HALF_DAY)  # of several days, in no order
    targets = torch.tensor([[5, 7], [1, 0], [2, 0], [25, 3], [9, 0], [5, 0], [14, 0], [3, 0]])
    queries = torch.randn(8, 1, model.encoder.width, dtype=torch.float64)
    with torch.no_grad():
        found = model.encoder.own_loss(queries, targets, batch, model, np.random.default_rng(0))
        total = 0.0
        for p in range(8):
            before = end_of_periods(int(batch.time[p]), model.encoder.config.period)
            scores = torch.stack([vector_of(model, clicks, item, before) @ queries[p, 0] for item in range(1, 26)])
            own = [label for label in targets[p].tolist() if label]
            total += float(torch.logsumexp(scores, 0) - scores[[label - 1 for label in own]].mean())
    assert float(found) == pytest.approx(total / 8, abs=1e-5)


# --- leaks ------------------------------------------------------------------------------------------------------------


def changed_from(clicks, time, rng):
    """Clicks that are the same before ``time``; from then on every one is another, and there are more."""
    before = clicks.time < time
    many = 3 * int((~before).sum()) + 40
    later = (rng.integers(1, 10, many), rng.integers(1, 31, many), np.sort(rng.integers(time, 1_700_006_001, many)))
    kept = (clicks.user[before], clicks.item[before], clicks.time[before])
    return Clicks(*(np.concatenate(pair) for pair in zip(kept, later, strict=True)))


@pytest.mark.parametrize("period", [DAY, HALF_DAY, 3600])
@pytest.mark.parametrize("days_ago", [0.0, 1.3, 4.9])
@torch.no_grad()
def test_nothing_at_or_after_the_end_of_a_period_reaches_a_question_before(period, days_ago):
    clicks, asked = log_of().clicks, torch.tensor(1_700_000_000 - int(days_ago * DAY))
    cut = end_of_periods(int(asked), period)
    model = rrn(period=period)
    encoder, every = model.encoder, torch.arange(1, 26)

    def vectors(clicks):
        told(model, clicks)
        fresh = encoder.item_side.fresh(torch.tensor([2, 3, 11]))
        return encoder.as_of(asked // period, model, every, model.vectors(every), fresh)

    before = vectors(clicks)
    for seed in range(3):
        after = vectors(changed_from(clicks, cut, np.random.default_rng(seed)))
        torch.testing.assert_close(after, before, atol=1e-13, rtol=0)  # sums over batches of another shape are rounded otherwise
    assert (vectors(changed_from(clicks, cut - period, np.random.default_rng(0))) - before).abs().max() > 1e-3


@torch.no_grad()
def test_a_label_s_own_period_is_not_seen_and_the_one_before_is():
    """One click on the label's day, or on the day before, is all that differs."""
    day = 1_700_000_000 // DAY
    rest = Clicks(*np.array([[1, 4], [9, 9], [(day - 6) * DAY, (day - 5) * DAY]]))
    model, batch = rrn(), batch_of([2], [0], [0])
    targets, queries = torch.tensor([[9], [9]]), torch.randn(2, 1, model.encoder.width, dtype=torch.float64)

    def loss(time):
        more = Clicks(*(np.append(part, one) for part, one in zip((rest.user, rest.item, rest.time), (7, 9, time), strict=True)))
        return float(told(model, more).encoder.own_loss(queries, targets, batch, model, np.random.default_rng(0)))

    alone = float(told(model, rest).encoder.own_loss(queries, targets, batch, model, np.random.default_rng(0)))
    assert loss(int(batch.time[0]) - 1) == loss(day * DAY) == alone
    assert loss(day * DAY - 1) != alone


@torch.no_grad()
def test_queries_in_training_know_nothing_of_the_end_of_the_training_part():
    """XDM's extension reads item vectors: those of no time."""
    model, batch = rrn(unclicked={}).eval(), batch_of([3, 5], [0, 0], [4, 9])
    before, scored = model(batch).query, model.item_vectors()
    model.encoder.latest.add_(1.0)
    assert torch.equal(model(batch).query, before)
    assert not torch.equal(model.item_vectors(), scored)


# --- the states, and training by them ---------------------------------------------------------------------------------


def test_only_the_items_of_a_step_carry_a_gradient_and_their_states_are_kept():
    model = rrn(items_a_step=1)
    side, batch = model.encoder.item_side, batch_of([4], [0], [0])
    cache = side.cache.clone()
    with torch.no_grad():
        side.of_visit.bias.add_(0.5)  # the weights have moved since
    targets = torch.tensor([[3]] * 4)
    queries = torch.randn(4, 1, model.encoder.width, dtype=torch.float64)
    model.encoder.own_loss(queries, targets, batch, model, np.random.default_rng(0)).backward()
    mine = side.visits.of_items(torch.tensor([3]))[0]
    moved = (side.cache != cache).any(dim=1).nonzero().flatten()
    assert moved.tolist() == (mine + 1).tolist() != []
    today = 1_700_000_000 // DAY  # whose clicks no question of today knows
    earlier = mine[side.visits.period[mine] < today]
    users = set(side.visits.users_of(earlier)[0].tolist())
    assert set(side.raters.weight.grad.abs().sum(1).nonzero().flatten().tolist()) == users


@torch.no_grad()
def test_after_an_epoch_all_states_are_those_of_the_weights(monkeypatch):
    model = rrn()
    model.encoder.item_side.recurrent.layers[0].weight_hh_l0.mul_(0.5)
    model.encoder.after_epoch(model)
    whole, vectors = model.encoder.item_side.cache.clone(), model.item_vectors()
    monkeypatch.setattr(module, "STATES_AT_ONCE", 7)
    model.encoder.item_side.cache.zero_()
    model.encoder.after_epoch(model)
    torch.testing.assert_close(model.encoder.item_side.cache, whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(vectors[2], vector_of(model, log_of().clicks, 3, np.inf), atol=1e-6, rtol=1e-6)


def test_visits_are_the_periods_with_clicks():
    clicks = Clicks(
        np.array([1, 2, 2, 3, 1, 5]), np.array([2, 2, 3, 2, 9, 2]), np.array([100, 150, 210, 199, 210, 730])
    )  # fmt: skip
    visits = Visits.of(clicks, 3, 100)
    assert visits.period.tolist() == [1, 7, 2]  # item 2 twice, then item 3; item 9 cannot be recommended
    assert visits.first.tolist() == [0, 0, 0, 2, 3]
    assert [part.tolist() for part in visits.users_of(torch.tensor([2, 0]))] == [[2, 1, 2, 3], [0, 1]]
    items = torch.tensor([0, 1, 2, 3])
    before = {0: [0, 0, 0, 0], 1: [0, 0, 0, 0], 2: [0, 0, 1, 0], 3: [0, 0, 1, 3], 7: [0, 0, 1, 3], 99: [0, 0, 2, 3]}
    for period, wanted in before.items():
        assert visits.before(items, torch.tensor(period)).tolist() == wanted
    assert visits.last().tolist() == [0, 0, 2, 3]


@torch.no_grad()
def test_an_item_that_nobody_clicked_is_its_row_and_a_log_without_clicks_trains():
    nobody = Clicks(*np.zeros((3, 0), np.int64))
    model = told(rrn(), nobody)
    assert torch.equal(model.item_vectors(), model.output.weight[1:])
    loss = model.encoder.own_loss(
        torch.randn(1, 1, 10, dtype=torch.float64), torch.tensor([[4]]), batch_of([1], [0], [0]), model, np.random.default_rng(0)
    )
    assert torch.isfinite(loss)
    static = model_of(name="rrn", items="static")
    assert torch.equal(static.item_vectors(), static.output.weight[1:])


@torch.no_grad()
def test_a_user_whom_training_never_met_has_no_stationary_vector():
    model, batch = rrn().eval(), batch_of([2, 3], [0, 0], [0, 0])
    assert not model.encoder.encode(batch)[..., 6:].any()
    assert model.encoder.encode(batch)[..., :6].all()
    assert isinstance(model_of(BARE, name="rrn", stationary=0).encoder.users, NoUserInputs)


def test_a_window_that_goes_on_has_the_states_of_its_own_log():
    """At the second cut item 3 leads and every index has moved: states follow from the new log, not from the old rows."""
    users = [
        [(1, 0, True, None), (2, 1, True, None), (2, 2, True, None), (3, 3, False, None)],
        [(3, 11, True, None), (3, 12, True, None), (3, 13, True, None), (4, 12, True, None), (5, 90, True, None)],
    ]
    store, config = memory_store(users), load_config("rrn", None, ["model.width=6"])
    logs = [TrainingLog(store, build_catalogue(store, until), until) for until in (10, 20)]
    old, new = (build_model(config.model, config.unclicked, log.catalogue, seed) for seed, log in enumerate(logs))
    with torch.no_grad():
        old.encoder.before_training(old, logs[0])
        carry_over(old, logs[0].catalogue, new, logs[1].catalogue)
        assert not new.encoder.latest.any()
        new.encoder.before_training(new, logs[1])
        vectors = new.item_vectors()
        assert torch.equal(new.encoder.span, torch.tensor([0, 20]))
        assert new.encoder.latest[1:].any(dim=1).all()  # items 3, 2, 1 and 4 were clicked
        place = {item: n for n, item in enumerate(logs[1].catalogue.items.vocabulary.ids.to_pylist())}
        before = logs[0].catalogue.items.vocabulary.ids.to_pylist()
        carried = old.item_vectors()[before.index(2)]
        # what happened to item 2 is the same in both parts; the span by which its clock goes is not
        torch.testing.assert_close(new.output.weight[1 + place[2]], old.output.weight[1 + before.index(2)])
        assert not torch.equal(vectors[place[2]], carried)


def test_defaults_are_the_authors_as_far_as_they_are_known():
    config = load_config("rrn").model
    assert (config.width, config.stationary, config.hidden, config.item_width, config.period) == (20, 20, 40, 40, DAY)
    assert load_config("rrn-user").model.items == "static"
    assert RRN.of_catalogue == ("latest",)
