"""SASRec and ComiRec: their equations once more, one place at a time in plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from tests.models.batches import batch_of, model_of
from xdm.schema import ConfigError
from xdm.training.config import load_config


def points_of(encoder, lengths=(1, 6, 3)):
    """``(item inputs up to the point [t + 1, d], the encoder's vectors [K, d])`` of every point of a batch."""
    batch = batch_of(list(lengths), [0] * len(lengths), [0] * len(lengths))
    with torch.no_grad():
        found = encoder.encode(batch)
        for p in range(len(batch.row)):
            items = batch.short[batch.row[p], : batch.position[p] + 1]
            yield encoder.project(encoder.items(items)), found[p]


def norm(layer, x):
    deviation = torch.sqrt(((x - x.mean()) ** 2).mean() + 1e-8)
    return (x - x.mean()) / deviation * layer.weight + layer.bias


def softmax(scores):
    chances = [math.exp(float(score)) for score in scores]
    return [chance / sum(chances) for chance in chances]


@pytest.mark.parametrize("kind", ["pre", "original"])
@pytest.mark.parametrize("heads", [1, 2])
def test_sasrec(kind, heads):
    encoder = model_of(name="sasrec", norm=kind, heads=heads).eval().double().encoder
    for weight in encoder.blocks.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    for items, found in points_of(encoder):
        x = [item * math.sqrt(8) + encoder.positions[t] for t, item in enumerate(items)]
        for block in encoder.blocks:
            normed = [norm(block.norm_attention, one) for one in x]
            query = [block.query(one) for one in normed]
            key, value = zip(*(block.key_value(one).chunk(2) for one in (normed if kind == "pre" else x)), strict=True)
            after, width = [], 8 // heads
            for t in range(len(x)):
                mixed = []
                for part in (slice(head * width, (head + 1) * width) for head in range(heads)):
                    weights = softmax([query[t][part] @ key[s][part] / math.sqrt(width) for s in range(t + 1)])
                    mixed.append(sum(weights[s] * value[s][part] for s in range(t + 1)))
                y = (x if kind == "pre" else normed)[t] + torch.cat(mixed)
                inner = norm(block.norm_forward, y)
                after.append((y if kind == "pre" else inner) + block.outer(torch.relu(block.inner(inner))))
            x = after
        torch.testing.assert_close(found[0], norm(encoder.norm, x[-1]))


@pytest.mark.parametrize("interests", [1, 4])
def test_comirec(interests):
    encoder = model_of(name="comirec", interests=interests).eval().double().encoder
    torch.nn.init.normal_(encoder.outer.weight)
    assert encoder.inner.weight.shape == (32, 8)
    for items, found in points_of(encoder):
        inner = [torch.tanh(encoder.inner(item + encoder.positions[t])) for t, item in enumerate(items)]
        assert found.shape == (interests, 8)
        for k in range(interests):
            weights = softmax([encoder.outer.weight[k] @ one for one in inner])
            wanted = sum(weight * item for weight, item in zip(weights, items, strict=True))
            torch.testing.assert_close(found[k], wanted)


@pytest.mark.parametrize("name", ["sasrec", "comirec"])
def test_the_items_are_tied_and_drawn_by_glorot(name):
    model = model_of(name=name, width=100, **({"heads": 1} if name == "sasrec" else {}))
    limit = math.sqrt(6 / (31 + 100))
    assert 0.95 * limit < model.item_vectors().abs().max() <= limit
    assert torch.equal(model.item_vectors(), model.encoder.items.tables[0].weight[1:26])
    apart = model_of(name=name, tie_item_embedding=False)
    assert not torch.equal(apart.item_vectors(), apart.encoder.items.tables[0].weight[1:26])


def test_defaults_are_the_authors():
    sasrec, comirec = (load_config(name).model for name in ("sasrec", "comirec"))
    assert (sasrec.width, sasrec.blocks, sasrec.heads, sasrec.dropout, sasrec.length) == (50, 2, 1, 0.5, 50)
    assert (comirec.width, comirec.interests, comirec.hidden, comirec.length) == (64, 4, 4, 50)


@pytest.mark.parametrize("name", ["sasrec", "comirec"])
def test_a_session_longer_than_there_are_positions_is_refused(name):
    with pytest.raises(ConfigError, match=r"model\.length 50 is below behaviours\.session_max 60"):
        load_config(name, None, ["behaviours.session_max=60"])
    assert load_config(name, None, ["behaviours.session_max=60", "model.length=60"]).behaviours.session_max == 60


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="width 50 cannot be divided by 4 heads"):
        load_config("sasrec", None, ["model.heads=4"])
