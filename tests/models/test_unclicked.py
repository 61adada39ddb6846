"""XDM beside SDM: equal where nothing was left unclicked, and what the extension computes where something was."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.learning import SMALL, memory_store
from tests.models.batches import XDM_SWITCHES, batch_of, model_of
from xdm.behaviours.rules import BehaviourRules
from xdm.data.catalogue import build_catalogue
from xdm.data.rows import TrainingRows
from xdm.models.registry import build_model
from xdm.training.config import load_config
from xdm.training.loop import Loop

switches = pytest.mark.parametrize("switches", XDM_SWITCHES.values(), ids=XDM_SWITCHES)


@switches
@pytest.mark.parametrize("training", [False, True])
def test_xdm_without_unclicked_is_sdm_to_the_bit(switches, training):
    sdm, xdm = model_of(seed=5), model_of(seed=5, unclicked=switches)
    shared = sdm.state_dict()
    assert all(torch.equal(xdm.state_dict()[name], weight) for name, weight in shared.items())
    batch = batch_of([1, 7, 3], [0, 4, 1], [0, 0, 0])
    found = []
    for model in (sdm.train(training), xdm.train(training)):
        torch.manual_seed(3)  # the same dropout
        found.append(model(batch).query)
    assert torch.equal(*found)


@switches
def test_only_points_with_unclicked_items_differ_from_sdm(switches):
    sdm, xdm = model_of(seed=5).eval(), model_of(seed=5, unclicked=switches).eval()
    batch = batch_of([1, 7, 3], [0, 4, 1], [0, 5, 0])
    with torch.no_grad():
        plain, found = sdm(batch).query, xdm(batch)
    assert torch.equal(found.clicked, plain)
    differ = (found.query != plain).any(dim=-1)[:, 0]
    assert torch.equal(differ, batch.row == 1)
    assert torch.equal(found.has_unclicked, batch.row == 1)


def test_training_xdm_on_a_log_of_clicks_is_training_sdm():
    """Where everything shown was clicked both runs take the same steps: losses, weights, item vectors."""
    rng = np.random.default_rng(0)
    users = [[(int(rng.integers(1, 12)), 50 * n, True, None) for n in range(12)] for _ in range(20)]
    store = memory_store(users)
    catalogue = build_catalogue(store, 10_000)
    runs = []
    for name in ("sdm", "xdm"):
        config = load_config(name, None, [*SMALL, "training.clip_norm=1000", "objective.negatives=4"])
        rows = TrainingRows(store, catalogue, BehaviourRules(), until=10_000)
        loop = Loop(build_model(config.model, config.unclicked, catalogue, seed=4), rows, config)
        steps = []
        loop.run_epoch(steps.append)
        runs.append(([step["loss"] for step in steps], loop.model.state_dict()))
    (sdm_losses, sdm), (xdm_losses, xdm) = runs
    assert len(sdm_losses) > 0
    assert sdm_losses == xdm_losses
    assert all(torch.equal(xdm[name], weight) for name, weight in sdm.items())


@switches
def test_representation_and_fusion_one_item_at_a_time(switches):
    model = model_of(unclicked=switches).eval().double()
    extension, encoder = model.unclicked, model.encoder
    batch = batch_of([2, 4, 1], [1, 0, 2], [3, 1, 6])
    with torch.no_grad():
        found = model(batch)
        user = encoder.users(batch)
        for p in range(len(batch.row)):
            b = int(batch.row[p])
            who = torch.tanh(extension.user_query(user[b]))
            items = [torch.tanh(extension.item(encoder.items(item))) for item in batch.unclicked[batch.unclicked_of == b]]
            scores = [float(x @ who) / math.sqrt(8) for x in items]
            if switches["pooling"] == "sum":
                weights = [1 / (1 + math.exp(-score)) for score in scores]
            else:
                weights = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
            n = sum(weight * x for weight, x in zip(weights, items, strict=True))
            h = found.clicked[p, 0]
            g = torch.sigmoid(extension.confidence(torch.cat([h, n, h * n, user[b]])))
            fuse = extension.fuse
            z = h - g * fuse(n) if switches["fusion"] == "subtract" else (1 - g) * h + g * fuse(torch.cat([h, n]))
            torch.testing.assert_close(found.unclicked[p], n)
            torch.testing.assert_close(found.query[p, 0], z)


@switches
def test_the_order_of_unclicked_items_does_not_matter_and_their_number_does(switches):
    model = model_of(unclicked=switches).eval()
    batch = batch_of([3], [2], [4])
    with torch.no_grad():
        found = model(batch).query
        turned = model(replace(batch, unclicked=batch.unclicked.flip(0))).query
        fewer = model(replace(batch, unclicked=batch.unclicked[:2], unclicked_of=batch.unclicked_of[:2])).query
    torch.testing.assert_close(turned, found, atol=1e-6, rtol=0)
    assert not torch.allclose(fewer, found, atol=1e-4)


def test_evidence_adds_up_in_sums_and_not_in_averages():
    one, two = batch_of([2], [1], [1]), batch_of([2], [1], [2])
    two = replace(two, unclicked=one.unclicked.repeat(2))
    with torch.no_grad():
        for pooling, factor in (("sum", 2), ("attention", 1)):
            model = model_of(unclicked={"pooling": pooling}).eval()
            torch.testing.assert_close(model(two).unclicked, factor * model(one).unclicked)
