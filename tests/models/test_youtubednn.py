"""YouTubeDNN: the mean, the age and the tower once more, in plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.data.records import training_rows
from tests.learning import memory_store
from tests.models.batches import BARE, batch_of, model_of
from xdm.behaviours.rules import BehaviourRules
from xdm.models.shared.inputs import NoUserInputs
from xdm.models.youtubednn import YouTubeDNNConfig

DAY = 86_400


def tower(encoder, x):
    """The layers, one number at a time; ``x`` a list."""
    for number, layer in enumerate(encoder.layers, start=1):
        rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
        x = [sum(w * v for w, v in zip(row, x, strict=True)) + bias for row, bias in rows]
        if number < len(encoder.layers) or encoder.config.final_activation:
            x = [max(v, 0.0) for v in x]
    return x


def wanted(encoder, batch, p, age):
    row = batch.row[p]
    clicks = [encoder.items(item).tolist() for item in batch.short[row, : batch.position[p] + 1]][-encoder.config.window :]
    mean = [sum(column) / len(clicks) for column in zip(*clicks, strict=True)]  # over clicks, never over padding
    profile = encoder.users(batch)[row].tolist()
    return tower(encoder, [*mean, *profile, *([age] if encoder.config.example_age else [])])


@pytest.mark.parametrize(
    "switches",
    [{}, {"window": 3}, {"hidden": []}, {"final_activation": False}, {"feature_width": 3, "field_width": 0}, {"example_age": False}],
)
@torch.no_grad()
def test_the_query_is_the_paper_s(switches):
    encoder = model_of(name="youtubednn", **switches).eval().double().encoder
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    batch = batch_of([1, 7, 3], [0] * 3, [0] * 3)
    found = encoder.encode(batch)
    for p in range(len(batch.row)):
        torch.testing.assert_close(found[p, 0], torch.tensor(wanted(encoder, batch, p, 0.0), dtype=torch.float64))


@torch.no_grad()
def test_in_training_a_label_is_as_old_as_it_was_before_the_end():
    model = model_of(name="youtubednn").double()
    encoder = model.encoder
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    users = [[(1, 0, True, None), (2, 4 * DAY, True, None)], [(3, DAY, True, None), (1, 9 * DAY, True, None)]]
    _, rows = training_rows(memory_store(users), BehaviourRules(), until=8 * DAY)  # what comes later is not even seen
    encoder.before_training(model, rows.log)
    batch = batch_of([4], [0], [0])
    batch = replace(batch, time=torch.tensor([0, 2 * DAY, 6 * DAY, 8 * DAY - 1]))
    ages = [1.0, 0.75, 0.25, 1 / (8 * DAY)]
    found = encoder.train().encode(batch)
    for p, age in enumerate(ages):
        told = torch.tensor(wanted(encoder, batch, p, age), dtype=torch.float64)
        torch.testing.assert_close(found[p, 0], told, atol=1e-6, rtol=1e-6)
    late = replace(batch, time=torch.full((4,), 30 * DAY))
    assert torch.equal(encoder.eval().encode(batch), encoder.encode(late))  # in service the example is new, whenever it is asked


@torch.no_grad()
def test_the_last_activation_keeps_queries_from_being_negative():
    batch = batch_of([6, 6], [0, 0], [0, 0])
    kept, free = (model_of(name="youtubednn", final_activation=kept).encoder.encode(batch) for kept in (True, False))
    assert (kept >= 0).all()
    assert (free < 0).any()


@torch.no_grad()
def test_the_order_within_the_window_does_not_matter():
    encoder = model_of(name="youtubednn", window=4).eval().encoder
    batch = batch_of([7], [0], [0])
    turned = replace(batch, short=torch.cat([batch.short[:, :3], batch.short[:, 3:].flip(1)], dim=1))
    torch.testing.assert_close(encoder.encode(turned)[-1], encoder.encode(batch)[-1])


def test_a_log_without_profiles_has_no_user_inputs():
    assert isinstance(model_of(BARE, name="youtubednn").encoder.users, NoUserInputs)
    with pytest.raises(ValidationError, match="needs an item_width of width 8, not 6"):
        YouTubeDNNConfig(width=8, item_width=6, tie_item_embedding=True)


def test_a_window_further_along_forgets_the_first_clicks():
    encoder = model_of(name="youtubednn", window=2).eval().encoder
    batch = batch_of([5], [0], [0])
    other = replace(batch, short=torch.cat([batch.short[:, :1] % 30 + 1, batch.short[:, 1:]], dim=1))
    with torch.no_grad():
        one, two = encoder.encode(batch)[:, 0], encoder.encode(other)[:, 0]
    same = [bool(torch.allclose(a, b, atol=1e-6)) for a, b in zip(one, two, strict=True)]
    assert same == [False, False, True, True, True]
    assert np.isfinite(one.numpy()).all()
