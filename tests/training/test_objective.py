"""The configured objective on models: what is compared with what, against plain loops; that each of them trains."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.learning import memory_store
from tests.models.batches import batch_of, model_of
from xdm.data.catalogue import build_catalogue
from xdm.models.shared.scoring import PairScoring
from xdm.objectives.samplers import InBatch, Popularity, Uniform
from xdm.schema import ConfigError, InternalError
from xdm.training.config import WITHOUT_NEGATIVES, ObjectiveConfig, ObjectiveName, load_config, parse_config
from xdm.training.loop import Loop, new_model, training_rows
from xdm.training.objective import Objective
from xdm.training.steps import losses

N = 25
CLICKS = np.arange(N, 0, -1.0) ** 1.5
NAMES = [name for name in get_args(ObjectiveName) if name not in WITHOUT_NEGATIVES]  # those: test_item2vec.py
RANKING = [name for name in NAMES if name not in ("softmax", "sampled_softmax")]


class Distance(PairScoring):
    """A score that no inner product makes: minus the distance, of K interests the nearest."""

    def scores(self, queries, vectors):
        between = queries[:, :, None] - (vectors[None, None] if vectors.dim() == 2 else vectors[:, None])  # [P, K, S, d]
        return -(between.square().sum(-1) + 1e-6).sqrt().amin(dim=1)


def pair_model(**settings):
    model = model_of(name="comirec", **settings)
    model.encoder.scoring = Distance()
    return model


MODELS = {
    "sdm": lambda: model_of(), "xdm": lambda: model_of(unclicked={}), "comirec": lambda: model_of(name="comirec"),
    "pairs": pair_model,
}  # fmt: skip


@pytest.fixture
def batch():
    return batch_of([3, 5, 2], [1, 0, 4], [2, 0, 6])


def labels_of(batch, targets=1):
    """``[P, targets]``: every third row has one target alone."""
    wanted = (torch.arange(len(batch.row))[:, None] * 3 + torch.arange(targets) * 8) % N + 1
    wanted[::3, 1:] = 0
    return wanted


def found(model, batch, targets, rng=0, clicks=CLICKS, **objective):
    config = ObjectiveConfig(metric="none", **objective)
    made = Objective.of(config, N, clicks)
    return losses(model, batch, targets, config, np.random.default_rng(rng), objective=made).total


def value_of(*of, **objective):
    with torch.no_grad():
        return float(found(*of, **objective))


def scores(model, batch):
    """``[P, n]`` of every item at every point, of K interests the one that scores the label highest."""
    with torch.no_grad():
        queries = model(batch).query
        if not model.scoring.foldable:
            return model.score(queries, model.item_vectors())
        of_interests = queries @ model.item_vectors().T  # [P, K, n]
        best = of_interests[torch.arange(len(queries)), :, labels_of(batch)[:, 0] - 1].argmax(dim=1)
        return of_interests[torch.arange(len(queries)), best]


# --- every objective on every kind of model -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_every_objective_trains_every_kind_of_model(name, make, batch):
    """A label that is always the same for what was clicked can be learned: the loss over fixed draws falls, and the label rises."""
    torch.manual_seed(0)
    model, targets = make(), labels_of(batch)
    settings = {"name": name, "negatives": 8, "bpreg": 0.01}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

    def judged():
        model.eval()
        with torch.no_grad():
            loss = sum(value_of(model, batch, targets, rng=draw, **settings) for draw in range(5))
        model.train()
        of_all = scores(model, batch)
        return loss, int((of_all.argsort(dim=1, descending=True)[:, :5] == targets - 1).sum())

    before = judged()
    for step in range(30):
        optimizer.zero_grad()
        found(model, batch, targets, rng=100 + step, **settings).backward()
        optimizer.step()
    after = judged()
    assert after[0] < 0.9 * before[0]
    assert after[1] > before[1]


@pytest.mark.parametrize("sampler", ["log_uniform", "uniform", "popularity", "in_batch", "mixed"])
@pytest.mark.parametrize("negatives_for", ["batch", "label"])
def test_every_sampler_trains(sampler, negatives_for, batch):
    if negatives_for == "label" and sampler in ("in_batch", "mixed"):
        return  # refused, see below
    model, targets, values = model_of(dropout=0.0), labels_of(batch, 3), []
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(30):
        optimizer.zero_grad()
        loss = found(model, batch, targets, rng=step, name="bpr", negatives=6, negatives_for=negatives_for, sampler=sampler)
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert np.mean(values[-5:]) < 0.7 * np.mean(values[:5])


# --- what is compared with what -------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


NAIVE = {
    "bce": lambda r, others: -math.log(sigmoid(r)) - sum(math.log(1 - sigmoid(x)) for x in others),
    "bpr": lambda r, others: -sum(math.log(sigmoid(r - x)) for x in others) / len(others),
    "top1": lambda r, others: sum(sigmoid(x - r) + sigmoid(x * x) for x in others) / len(others),
    "hinge": lambda r, others: sum(max(0.4 - r + x, 0) for x in others) / len(others),
}


@pytest.mark.parametrize("make", [model_of, lambda: model_of(name="comirec"), pair_model], ids=["sdm", "comirec", "pairs"])
@pytest.mark.parametrize("name", NAIVE)
def test_shared_negatives_by_a_loop(name, make, batch):
    model, targets = make().eval(), labels_of(batch, 3)
    of_all = scores(model, batch).tolist()
    drawn = Uniform(N, 9).shared(np.random.default_rng(4), targets[:, 0].numpy()).items.tolist()
    wanted = 0.0
    for row, own in zip(of_all, targets.tolist(), strict=True):
        own = [item for item in own if item]
        others = [row[item - 1] for item in drawn if item not in own]
        wanted += sum(NAIVE[name](row[item - 1], others) for item in own) / len(own) / len(targets)
    value = value_of(model, batch, targets, rng=4, name=name, negatives=9, ranking_margin=0.4)
    assert value == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("make", [model_of, lambda: model_of(name="comirec"), pair_model], ids=["sdm", "comirec", "pairs"])
@pytest.mark.parametrize("masked", [True, False])
def test_each_label_has_negatives_of_its_own(make, masked, batch):
    """With three targets that is Caser's loss: of each target, and of one negative drawn for it; and so for a softmax."""
    model, targets = make().eval(), labels_of(batch, 3)
    of_all, pairs = scores(model, batch).tolist(), torch.nonzero(targets)
    drawn = Uniform(N, 4).own(np.random.default_rng(4), np.ones(len(pairs), np.int64)).items.tolist()
    binary = softmax = 0.0
    for (p, m), negatives in zip(pairs.tolist(), drawn, strict=True):
        row, own = of_all[p], [item for item in targets[p].tolist() if item]
        label = row[int(targets[p, m]) - 1]
        others = [row[item - 1] for item in negatives if not (masked and item in own)]
        binary += NAIVE["bce"](label, others) / len(own) / len(targets)
        softmax += (math.log(math.exp(label) + sum(map(math.exp, others))) - label) / len(own) / len(targets)
    settings = {"negatives": 4, "negatives_for": "label", "mask_hits": masked, "sampler": "uniform", "rng": 4}
    assert value_of(model, batch, targets, name="bce", **settings) == pytest.approx(binary, rel=1e-5)
    # the correction of uniform draws is one number, which no softmax sees
    assert value_of(model, batch, targets, name="sampled_softmax", **settings) == pytest.approx(softmax, rel=1e-5)


def test_the_labels_of_the_batch_with_the_correction_on_every_column(batch):
    """Yi et al. 2019: the score of each label, its own as well, less the log of how often it is expected in the batch."""
    model, targets = model_of().eval(), labels_of(batch)
    targets[4] = targets[1]  # two points with one label
    of_all, labels = scores(model, batch), targets[:, 0].tolist()
    share = CLICKS / CLICKS.sum()
    wanted = 0.0
    for p, label in enumerate(labels):
        columns = [j for j in range(len(labels)) if labels[j] != label]
        logit = [float(of_all[p, labels[j] - 1]) - math.log(len(labels) * share[labels[j] - 1]) for j in [p, *columns]]
        wanted += math.log(sum(map(math.exp, logit))) - logit[0]
    value = value_of(model, batch, targets, name="sampled_softmax", sampler="in_batch")
    assert value == pytest.approx(wanted / len(labels), rel=1e-5)


def test_the_columns_of_gru4rec(batch):
    """The batch's labels and drawn items, doubles and hits kept, with raw supports; cross-entropy and BPR-max by their authors'
    formulas over the matrix whose diagonal is the labels."""
    model, targets = model_of().eval(), labels_of(batch)
    targets[4] = targets[1]
    labels = targets[:, 0].numpy()
    drawn = InBatch(CLICKS, 100, Popularity(CLICKS, 0.5, 12)).shared(np.random.default_rng(4), labels).items[len(labels) :]
    assert set(drawn) & set(labels)
    columns = np.concatenate([labels, drawn])
    matrix = scores(model, batch)[:, torch.from_numpy(columns - 1)].double()
    supports = np.concatenate([np.log(CLICKS[labels - 1]), 0.5 * np.log(CLICKS[drawn - 1])])
    settings = {"sampler": "mixed", "alpha": 0.5, "negatives": 12, "mask_hits": False, "logq": "support", "rng": 4}
    chances = torch.softmax(matrix - torch.from_numpy(supports), dim=1)
    value = value_of(model, batch, targets, name="sampled_softmax", **settings)
    assert value == pytest.approx(float(-torch.diag(chances).log().mean()), rel=1e-5)

    matrix = F.elu(matrix, 0.5)
    others = 1 - torch.eye(*matrix.shape)
    weights = matrix.exp() * others / (matrix.exp() * others).sum(1, keepdim=True)
    diagonal = torch.diag(matrix)[:, None]
    wanted = -(torch.sigmoid(diagonal - matrix) * weights).sum(1).log() + 0.9 * (matrix.square() * weights).sum(1)
    value = value_of(model, batch, targets, name="bpr_max", elu=0.5, bpreg=0.9, **settings)
    assert value == pytest.approx(float(wanted.mean()), rel=1e-5)


@pytest.mark.parametrize("sampler", ["uniform", "popularity", "in_batch", "mixed"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("logq", ["expected", "none"])
def test_a_sampled_softmax_in_blocks_is_the_same(sampler, masked, logq, batch, monkeypatch):
    targets = labels_of(batch, 3)
    settings = {"sampler": sampler, "negatives": 9, "mask_hits": masked, "logq": logq}
    results = []
    for few in (0, 1 << 18):
        monkeypatch.setattr("xdm.training.objective.FEW_SCORES", few)
        model = model_of(name="comirec").eval()
        loss = found(model, batch, targets, name="sampled_softmax", **settings)
        results.append((loss, torch.autograd.grad(loss, model.encoder.items.tables[0].weight)[0]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_labels_of_the_batch_alone_are_enough(batch):
    """Without anything drawn, mixed is in_batch."""
    model, targets = model_of().eval(), labels_of(batch)
    mixed = found(model, batch, targets, name="sampled_softmax", sampler="mixed", negatives=0)
    assert torch.equal(mixed, found(model, batch, targets, name="sampled_softmax", sampler="in_batch"))


def test_no_more_labels_of_the_batch_than_asked_for(batch):
    model, targets = model_of().eval(), labels_of(batch)
    few, all_of_them = (value_of(model, batch, targets, name="top1", sampler="in_batch", batch_columns=n) for n in (3, 10))
    assert few != all_of_them
    point = InBatch(CLICKS, 3).shared(np.random.default_rng(0), targets[:, 0].numpy()).point
    of_all, wanted = scores(model, batch).tolist(), 0.0
    for p, row in enumerate(of_all):
        others = [row[int(targets[j, 0]) - 1] for j in point if targets[j, 0] != targets[p, 0]]
        wanted += NAIVE["top1"](row[int(targets[p, 0]) - 1], others) / len(targets)
    assert few == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", ["bce", "gbce", "bpr", "hinge", "warp"])
def test_half_of_the_catalogue_is_not_sampled(name, batch):
    """All other items are then the negatives, once each, whatever was drawn; the label never is."""
    model, targets = model_of().eval(), labels_of(batch)
    values = [value_of(model, batch, targets, rng, name=name, negatives=13, mask_hits=bool(rng)) for rng in (0, 1)]
    assert len(set(values)) == 1
    assert value_of(model, batch, targets, 0, name=name, negatives=12) != values[0]
    if name == "bce":
        of_all = scores(model, batch).tolist()
        wanted = [NAIVE["bce"](row[t], row[:t] + row[t + 1 :]) for row, t in zip(of_all, (targets[:, 0] - 1).tolist(), strict=True)]
        assert values[0] == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)


def test_by_popularity_all_items_stand_in_a_softmax_alone(batch):
    model, targets = model_of().eval(), labels_of(batch)
    full = found(model, batch, targets, name="softmax")
    assert torch.equal(found(model, batch, targets, name="sampled_softmax", sampler="popularity", negatives=13), full)
    drawn = [value_of(model, batch, targets, rng, name="bpr", sampler="popularity", negatives=13) for rng in (0, 1)]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    "settings",
    [{"sampler": "popularity"}, {"sampler": "popularity", "negatives_for": "label"},
     {"sampler": "log_uniform", "negatives_for": "label"}],
    ids=str,
)  # fmt: skip
def test_a_corrected_sample_points_where_the_full_softmax_does(settings, batch):
    """Averaged over many samples, nearly: what is expected of the label is taken off as well. Without the correction, less so."""
    model, targets = model_of().eval(), labels_of(batch)

    def gradient(rounds, **objective):
        model.zero_grad()
        for rng in range(rounds):
            (found(model, batch, targets, rng, CLICKS, **objective) / rounds).backward()
        return model.output.weight.grad[1:].flatten().clone()

    full = gradient(1, name="softmax")
    corrected, raw = (
        float(torch.cosine_similarity(gradient(100, name="sampled_softmax", negatives=11, logq=logq, **settings), full, dim=0))
        for logq in ("expected", "none")
    )
    assert corrected > 0.95
    assert corrected > raw + 0.02


# --- the settings ----------------------------------------------------------------------------------------------------------


KEYS = {
    "name": ({"name": "bpr"}, {"name": "bce"}),
    "sampler": ({"name": "bpr", "sampler": "uniform"}, {"name": "bpr", "sampler": "popularity"}),
    "negatives": ({"name": "bpr", "negatives": 3}, {"name": "bpr", "negatives": 5}),
    "negatives_for": ({"name": "bpr", "negatives": 3}, {"name": "bpr", "negatives": 3, "negatives_for": "label"}),
    "split": ({"name": "bpr", "negatives": 3}, {"name": "bpr", "negatives": 3, "split": 2}),
    "batch_columns": ({"name": "bpr", "sampler": "in_batch"}, {"name": "bpr", "sampler": "in_batch", "batch_columns": 3}),
    "alpha": ({"name": "bpr", "sampler": "popularity"}, {"name": "bpr", "sampler": "popularity", "alpha": 0.1}),
    "mask_hits": ({"sampler": "mixed", "negatives": 9}, {"sampler": "mixed", "negatives": 9, "mask_hits": False}),
    "logq": ({"sampler": "in_batch"}, {"sampler": "in_batch", "logq": "none"}),
    "t": ({"name": "gbce", "negatives": 3}, {"name": "gbce", "negatives": 3, "t": 0.2}),
    "bpreg": ({"name": "bpr_max"}, {"name": "bpr_max", "bpreg": 0.2}),
    "elu": ({"name": "bpr_max"}, {"name": "bpr_max", "elu": 0.0}),
    "ranking_margin": ({"name": "hinge"}, {"name": "hinge", "ranking_margin": 0.2}),
}


def test_every_key_of_the_objective_changes_it(batch):
    model, targets = model_of().eval(), labels_of(batch)
    of_the_rest = {"metric", "distance", "metric_weight", "margin", "not_to_recommend"}  # see test_steps
    assert set(ObjectiveConfig.model_fields) == set(KEYS) | of_the_rest
    same = [key for key, both in KEYS.items() if len({value_of(model, batch, targets, **one) for one in both}) == 1]
    assert same == []


def test_the_usual_sampler_of_each_name():
    assert {name: ObjectiveConfig(name=name).sampler for name in NAMES} == {
        name: "uniform" if name in RANKING else "log_uniform" for name in NAMES
    }
    assert parse_config({"objective": {"name": "bpr"}}).to_dict()["objective"]["sampler"] == "uniform"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "in_batch", "split": 2}, "sampler in_batch takes the labels of the whole batch; leave split at 1"),
        ({"sampler": "mixed", "split": 2}, "sampler mixed takes the labels of the whole batch; leave split at 1"),
        ({"sampler": "in_batch", "negatives_for": "label"}, "leave negatives_for at batch"),
        ({"sampler": "mixed", "negatives_for": "label"}, "leave negatives_for at batch"),
        ({"negatives_for": "label", "split": 2}, "negatives_for label gives each label a set of its own"),
        ({"negatives": 0}, "negatives 0 leaves nothing to compare with"),
        ({"logq": "support"}, "logq support is made for labels of the batch"),
        ({"name": "gbce", "sampler": "popularity"}, "gbce is calibrated for sampler uniform"),
        ({"name": "bpr_maxx"}, "objective.name"), ({"t": 1.5}, "objective.t"), ({"alpha": -1}, "objective.alpha"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(settings, message):
    with pytest.raises(ConfigError, match="objective") as caught:
        parse_config({"objective": settings})
    assert message in str(caught.value)


def test_a_sampler_by_clicks_wants_them(batch):
    config = ObjectiveConfig(name="bpr", sampler="popularity")
    with pytest.raises(InternalError, match="clicks of each of 25 items"):
        losses(model_of(), batch, labels_of(batch), config, np.random.default_rng(0))


def test_skips_in_the_objective_want_inner_products_before_any_step():
    with pytest.raises(ConfigError, match="not_to_recommend needs scores that are inner products"):
        Loop(pair_model(), None, parse_config({"objective": {"not_to_recommend": 0.1}}))


def test_an_objective_is_made_of_three_things():
    made = Objective.of(ObjectiveConfig(name="bpr"), N, CLICKS)
    assert {field.name for field in fields(made)} == {"config", "n", "sampler"}
    assert made.sampler == Uniform(N, 2000)


def test_a_loop_goes_by_the_clicks_of_its_catalogue():
    """Up to the end of training: item 1 is clicked by all eight users, item 2 by six; what comes later counts for nothing."""
    users = [
        [(item, 10 * item + user, True, None) for item in range(1, 5) if user < 10 - 2 * item] + [(4, 500, True, None)]
        for user in range(8)
    ]
    store = memory_store(users)
    settings = ["objective.name=bpr", "objective.sampler=mixed", "objective.negatives=2", "model.width=8", "training.batch_size=3"]
    config = load_config("gru4rec", None, [*settings, "training.order=rows"])
    catalogue = build_catalogue(store, 100)
    loop = Loop(new_model(config, catalogue), training_rows(store, catalogue, config, until=100), config)
    assert loop.objective.sampler.clicks.tolist() == [8, 6, 4, 2]
    records = []
    loop.run_epoch(records.append)
    assert len(records) > 1
    assert all(record["softmax"] > 0 for record in records)
