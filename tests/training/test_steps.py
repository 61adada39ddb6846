"""One training step: what is drawn, in which order rows come, and which loss it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.batches import batch_of, model_of
from xdm.objectives.samplers import log_expected_count, log_uniform
from xdm.objectives.softmax import full_softmax, sampled_softmax
from xdm.objectives.triplet import triplet
from xdm.training.config import ObjectiveConfig
from xdm.training.steps import epoch_order, losses, seed_step


def drawn(seed: int, step: int) -> tuple[float, float]:
    rng = seed_step(seed, step)
    return float(torch.rand(())), float(rng.random())


def test_what_a_step_draws_depends_on_seed_and_step_alone():
    every = {(seed, step): drawn(seed, step) for seed in (0, 1, 2**31 - 1) for step in (0, 1, 5000)}
    torch.rand(17)  # what was drawn in between does not matter
    assert all(drawn(*of) == numbers for of, numbers in every.items())
    for kind in (0, 1):  # dropout's numbers and the sampler's
        assert len({numbers[kind] for numbers in every.values()}) == len(every)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 50), max_size=300), size=st.integers(1, 16), seed=st.integers(0, 9))
def test_an_epoch_holds_every_row_once_in_its_own_order(lengths, size, seed):
    lengths = np.array(lengths, np.int64)
    orders = [epoch_order(lengths, size, seed, epoch) for epoch in (0, 0, 1)]
    assert all(sorted(order.tolist()) == list(range(len(lengths))) for order in orders)
    assert orders[0].tolist() == orders[1].tolist()
    if len(lengths) > 20:
        assert orders[0].tolist() != orders[2].tolist()


def test_sessions_of_like_length_meet_and_batches_mix_between_epochs():
    lengths = np.random.default_rng(0).integers(1, 50, 1000)
    first, second = (epoch_order(lengths, 10, 1, epoch).reshape(-1, 10) for epoch in (0, 1))
    spread = np.ptp(lengths[first], axis=1)
    assert spread.mean() < 3  # of 49
    assert {frozenset(rows) for rows in first.tolist()}.isdisjoint(frozenset(rows) for rows in second.tolist())
    means = lengths[first].mean(axis=1)
    assert (np.diff(means) < 0).any()  # short sessions do not all come first


@pytest.fixture
def case():
    model = model_of(unclicked={}).eval()
    batch = batch_of([3, 5, 2], [1, 0, 4], [2, 0, 6])
    return model, batch, torch.arange(len(batch.row))[:, None] % 25 + 1


def of(case, **objective):
    with torch.no_grad():
        return losses(*case, ObjectiveConfig(**objective), np.random.default_rng(0))


def test_total_is_softmax_plus_weighted_metric(case):
    model, batch, labels = case
    with torch.no_grad():
        queries, vectors = model(batch), model.vectors(labels[:, 0])
        softmax = full_softmax(queries.query[:, 0], labels, model.item_vectors())
        metric = triplet(queries.clicked[:, 0], queries.unclicked, vectors, queries.has_unclicked, 0.7, "asymmetric")
    found = of(case, name="softmax", metric="asymmetric", margin=0.7, metric_weight=3.0)
    assert float(metric) > 0
    assert torch.equal(found.softmax, softmax)
    assert torch.equal(found.metric, metric)
    assert float(found.total) == pytest.approx(float(softmax + 3 * metric))
    none = of(case, name="softmax", metric="none", metric_weight=3.0)
    assert float(none.metric) == 0
    assert torch.equal(none.total, softmax)


def test_half_of_the_catalogue_is_not_sampled_but_summed(case):
    """25 candidates: 12 negatives are a sample, 13 are not worth one."""
    full = of(case, name="softmax", metric="none").total
    assert torch.equal(of(case, negatives=13, metric="none").total, full)
    assert not torch.equal(of(case, negatives=12, metric="none").total, full)


def test_the_sampled_loss_points_where_the_full_one_does(case):
    """Averaged over many samples its gradient has the full softmax's direction: the correction is right."""
    model, batch, labels = case
    gradients = []
    for rounds, objective in ((1, {"name": "softmax"}), (150, {"negatives": 8})):
        model.zero_grad()
        for draw in range(rounds):
            config = ObjectiveConfig(metric="none", **objective)
            losses(model, batch, labels, config, np.random.default_rng(draw)).total.backward()
        gradients.append(model.output.weight.grad[1:].flatten() / rounds)
    assert float(torch.cosine_similarity(*gradients, dim=0)) > 0.98


def test_several_targets_share_the_weight_of_one(case):
    """The softmax over the next three clicks is the mean of three softmaxes with one."""
    model, batch, labels = case
    targets = torch.cat([labels, labels % 25 + 1, (labels + 6) % 25 + 1], dim=1)
    found = of((model, batch, targets), name="softmax", metric="none").total
    alone = [float(of((model, batch, targets[:, [place]]), name="softmax", metric="none").total) for place in range(3)]
    assert float(found) == pytest.approx(sum(alone) / 3, abs=1e-5)
    gone = torch.where(torch.tensor([True, False, True]), targets, 0)
    found = of((model, batch, gone), name="softmax", metric="none").total
    assert float(found) == pytest.approx((alone[0] + alone[2]) / 2, abs=1e-5)
    sampled = of((model, batch, gone), negatives=8, metric="none").total
    assert torch.isfinite(sampled)
    assert float(sampled) != float(of(case, negatives=8, metric="none").total)


@pytest.mark.parametrize("split", [2, 3, 7, 100])
def test_each_group_of_labels_has_a_sample_of_its_own(case, split):
    """Ten labels in groups of equal size, the last may be smaller: the mean over all of them, group by group."""
    model, batch, labels = case
    size = math.ceil(len(labels) / split)
    rng, wanted = np.random.default_rng(0), 0.0
    with torch.no_grad():
        query = model(batch).query[:, 0]
        for begin in range(0, len(labels), size):
            sampled, draws = log_uniform(rng, 25, 8)
            expected = torch.from_numpy(log_expected_count(np.arange(1, 26), 25, draws)).float()
            items, own = torch.from_numpy(sampled), labels[begin : begin + size]
            part = query[begin : begin + size]
            positive = (part * model.vectors(own[:, 0])).sum(-1, keepdim=True) - expected[own - 1]
            negative = part @ model.vectors(items).T - expected[items - 1]
            mean = sampled_softmax(positive, negative, torch.ones_like(positive), items != own).mean()
            wanted += float(mean) * len(own) / len(labels)
    assert float(of(case, negatives=8, split=split, metric="none").total) == pytest.approx(wanted, abs=1e-6)
    assert float(of(case, negatives=8, metric="none").total) != pytest.approx(wanted, abs=1e-6)
