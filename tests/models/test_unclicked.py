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
from xdm.models.retrieval_model import build_model
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
    # without a fusion n enters the loss alone
    assert torch.equal(differ, (batch.row == 1) & (switches.get("fusion") != "none"))
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


def pooled(extension, switches, items, user):
    """n of one sequence of item vectors, item by item."""
    pooling, kind = extension.pooling, switches.get("pooling", "sum")
    if kind == "mean":
        return sum(items) / len(items)
    if kind == "gru":
        return pooling.recurrent(torch.stack(items)[None])[0][0, -1]
    if kind == "self_attention":
        items = list(pooling.block(torch.stack(items)[None], torch.ones((1, len(items), len(items)), dtype=bool))[0])
    scores = [float(pooling.score(x)) for x in items]
    if pooling.query is not None:
        who = torch.tanh(pooling.query(user))
        scores = [score + float(x @ who) / math.sqrt(8) for score, x in zip(scores, items, strict=True)]
    if kind == "sum":
        weights = [1 / (1 + math.exp(-score)) for score in scores]
    else:
        weights = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
    return sum(weight * x for weight, x in zip(weights, items, strict=True))


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
            listed = batch.unclicked[batch.unclicked_of == b]
            if switches.get("items") != "input":  # items 26 to 30 have no vector that is scored
                items = [model.output.weight[i] if i <= 25 else torch.zeros(8).double() for i in listed]
            else:
                items = [torch.tanh(extension.item(encoder.items(item))) for item in listed]
            n = pooled(extension, switches, items, user[b])
            torch.testing.assert_close(found.unclicked[p], n)
            h, fusion = found.clicked[p, 0], switches.get("fusion", "subtract")
            if fusion == "none":
                z = h
            else:
                g = torch.sigmoid(extension.confidence(torch.cat([h, n, h * n, user[b]])))
                assert len(g) == (1 if fusion == "scalar" else 8)
                fuse = extension.fuse
                z = (1 - g) * h + g * fuse(torch.cat([h, n])) if fusion == "gate" else h - g * fuse(n)
            torch.testing.assert_close(found.query[p, 0], z)


@switches
def test_order_matters_to_a_recurrent_pooling_alone_and_the_number_of_items_to_all(switches):
    model = model_of(unclicked=switches).eval()
    batch = batch_of([3], [2], [4])
    with torch.no_grad():
        found = model(batch).unclicked
        turned = model(replace(batch, unclicked=batch.unclicked.flip(0))).unclicked
        fewer = model(replace(batch, unclicked=batch.unclicked[:2], unclicked_of=batch.unclicked_of[:2])).unclicked
    assert torch.allclose(turned, found, atol=1e-6) == (switches.get("pooling") != "gru")
    assert not torch.allclose(fewer, found, atol=1e-4)


@switches
def test_sequences_over_the_whole_catalogue_and_over_the_listed_items_are_the_same(switches):
    """Long lists take a table of all items, short ones of those that they name; a model must not know the difference."""
    model = model_of(unclicked=switches).eval()
    many, few = batch_of([2, 2], [1, 1], [40, 3]), batch_of([2, 2], [1, 1], [40, 3])
    sequence = many.unclicked_of == 1
    few = replace(
        few, unclicked=many.unclicked[sequence], unclicked_of=torch.ones(3, dtype=torch.long)
    )  # the first session's list is empty
    with torch.no_grad():
        long, short = model(many), model(few)
    torch.testing.assert_close(short.unclicked[2:], long.unclicked[2:])
    assert not short.unclicked[:2].any()


def test_evidence_adds_up_in_sums_and_not_in_averages():
    one, two = batch_of([2], [1], [1]), batch_of([2], [1], [2])
    two = replace(two, unclicked=one.unclicked.repeat(2))
    with torch.no_grad():
        for pooling, factor in (("sum", 2), ("attention", 1), ("mean", 1)):
            model = model_of(unclicked={"pooling": pooling}).eval()
            torch.testing.assert_close(model(two).unclicked, factor * model(one).unclicked)


def test_a_new_branch_pushes_skipped_items_away_and_training_says_how_much():
    """Before any step the skipped item itself loses most: it is nearest to its own vector."""
    torch.manual_seed(0)
    model = model_of(unclicked={}).eval()
    with torch.no_grad():
        model.output.weight.normal_()
        one = batch_of([2], [1], [1])
        one = replace(one, unclicked=torch.tensor([7]))
        found = model(one)
        lost = (found.clicked - found.query)[0, 0] @ model.item_vectors().T
    assert int(lost.argmax()) == 7 - 1
    assert model.unclicked.fuse.weight.requires_grad
