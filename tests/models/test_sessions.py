"""Encoders of sessions and histories: what is tied, what the defaults are, what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from tests.models.batches import model_of
from xdm.schema import ConfigError
from xdm.training.config import load_config


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
