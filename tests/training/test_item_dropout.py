"""Item dropout: what is left out, and that every model takes a hole for what it is."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from tests.models.batches import batch_of, model_of
from tests.training.test_points_order import loop_of
from xdm.models.bert4rec import masked_places
from xdm.models.registry import MODELS
from xdm.schema import ConfigError
from xdm.training.config import load_config
from xdm.training.item_dropout import without_some

LENGTHS = [7, 7, 7, 7]
SPARE = 27  # an item that no row of the batch holds


def test_whole_clicks_are_left_out_and_nothing_else_changes():
    batch = batch_of([50] * 40, [3] * 40, [1] * 40).map(lambda tensor: tensor.numpy())
    holed = without_some(batch, 0.25, seed=1, step=5)
    dropped = holed.short != batch.short
    assert not holed.short[dropped].any()
    assert 0.2 < dropped.mean() < 0.3
    for field in fields(batch):
        if field.name != "short":
            assert np.array_equal(getattr(holed, field.name), getattr(batch, field.name)), field.name
    assert np.array_equal(without_some(batch, 0.25, 1, 5).short, holed.short)
    assert not np.array_equal(without_some(batch, 0.25, 1, 6).short, holed.short)
    assert not np.array_equal(without_some(batch, 0.25, 2, 5).short, holed.short)
    assert not np.array_equal(without_some(batch, 0.25, 1, 5, part=1).short, holed.short)
    assert without_some(batch, 0.0, 1, 5) is batch


@pytest.mark.parametrize("order", ["rows", "points", "session_parallel"])
def test_every_order_of_training_reads_holes_and_asks_for_the_same_labels(order, monkeypatch):
    seen = {}
    for share in (0.0, 0.5):
        loop = loop_of(f"training.order={order}", f"data.item_dropout={share}", "data.label_scope=session", model="gru4rec")
        read, labels = [], []
        states = loop.model.encoder._states
        monkeypatch.setattr(loop.model.encoder, "_states", lambda items, state, states=states, read=read: (
            read.append(items.numpy().copy()), states(items, state))[1])  # fmt: skip
        inputs = loop._inputs
        monkeypatch.setattr(loop, "_inputs", lambda *which, inputs=inputs, labels=labels: (
            found := inputs(*which), labels.append(found[1].numpy()))[0])  # fmt: skip
        loop.run_epoch(lambda record: None)
        seen[share] = [np.concatenate([one.reshape(-1) for one in part]) for part in (read, labels)]
    (plain, asked), (holed, asked_again) = seen[0.0], seen[0.5]
    assert np.array_equal(asked, asked_again)
    clicks = plain > 0
    assert 0.3 < (holed[clicks] == 0).mean() < 0.7
    assert np.array_equal(holed[holed > 0], plain[holed > 0])


def query(model, batch, late):
    with torch.no_grad():
        asked = model(batch).query[late]
        # rows of a query that is a set may stand in another order: what they score is the same
        return asked if model.scoring.foldable else model.score(asked, model.item_vectors())


def put(batch, place, item):
    """``batch`` with ``item`` at ``place`` of every row; None: another item than stands there."""
    short = batch.short.clone()
    short[:, place] = short[:, place] % 25 + 1 if item is None else item
    return replace(batch, short=short)


@pytest.mark.parametrize("name", MODELS)
def test_a_hole_is_a_vector_of_zeros_and_not_the_end(name):
    """What a hole gives is what an item gives whose vectors are zeros; where clicks are a set without order, what the rest gives."""
    whole_row = {"triplet": {"window": 10}, "masr": {"members": 10}}  # sets whose window the hole would move
    model = model_of(name=name, **whole_row.get(name, {})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        for table in model.encoder.items.tables:
            table.weight[0] = 0
        model.encoder.items.tables[0].weight[SPARE] = 0
        model.encoder.items.codes[1:, SPARE] = 0
    batch = batch_of(LENGTHS, [2, 3, 0, 1], [1, 0, 2, 0])
    batch = replace(batch, short=torch.where(batch.short == SPARE, 1, batch.short))
    late = batch.position >= 4
    holed = put(batch, 2, 0)
    found = query(model, holed, late)
    assert torch.isfinite(found).all()
    rest = [column for column in range(7) if column != 2]
    shorter = {name: getattr(batch, name)[:, rest] for name in ("short", "short_time", "short_session")}
    without = replace(batch, **shorter, short_length=batch.short_length - 1, position=(batch.position - 1).clamp(min=0))
    wanted = [query(model, put(batch, 2, SPARE), late), query(model, without, late)]
    assert any(torch.allclose(found, one, atol=1e-6, rtol=0) for one in wanted)
    for place in (1, 3):  # what stands before and behind a hole counts as ever
        plain = torch.equal(query(model, batch, late), query(model, put(batch, place, None), late))
        assert torch.equal(found, query(model, put(holed, place, None), late)) == plain
    nothing = replace(batch, short=torch.zeros_like(batch.short))
    assert torch.isfinite(query(model, nothing, late)).all()


def test_a_click_that_was_left_out_is_no_label_of_a_mask():
    items = np.array([[3, 0, 4, 0, 0]])
    for seed in range(20):
        places = masked_places(items, np.array([4]), 1.0, 25, np.random.default_rng(seed))
        assert places.tolist() == [[True, False, True, False, False]]


def reads_clicks(name):
    """Whether a query of a known user in training comes out otherwise where most clicks are left out."""
    model, batch = model_of(name=name).train(), batch_of(LENGTHS, [2, 3, 0, 1], [1, 0, 2, 0])
    batch = replace(batch, user=torch.tensor([1, 2, 3, 4]))
    holed = replace(batch, short=batch.short * (torch.arange(7) % 3 == 2))
    found = []
    for one in (batch, holed):
        torch.manual_seed(0)
        found.append(model(one).query)
    return found[0].shape != found[1].shape or not torch.equal(*found)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_exposures_or_one_whose_training_reads_no_clicks_refuses_it(name):
    set_so, of_exposures = ["data.item_dropout=0.25"], bool(load_config(name, None, []).behaviours.stream_max)
    if reads_clicks(name) and not of_exposures:
        assert load_config(name, None, set_so).data.item_dropout == 0.25
        return
    message = "reads the stream of exposures" if of_exposures else "learns from the user's vector alone"
    with pytest.raises(ConfigError, match=f"this model {message}"):
        load_config(name, None, set_so)
