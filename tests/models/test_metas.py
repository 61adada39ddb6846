"""METAS: scores, the mining of triplets and their loss once more in NumPy, one action at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import SIZES, batch_of, model_of
from xdm.models.metas import norm
from xdm.models.shared.exposures import CLICKED, SKIPPED, Acted
from xdm.training.config import load_config

LENGTHS, LONG, UNCLICKED = [1, 7, 3, 2], [0, 4, 1, 0], [3, 0, 2, 1]


@pytest.fixture
def batch():
    return batch_of(LENGTHS, LONG, UNCLICKED)


def metas(**settings):
    """A model of weights as large as a trained one's; nobody acted on anything."""
    model = model_of(name="metas", **{"width": 6, "dropout": 0.0, "strangers": 0.0, **settings}).double()
    with torch.no_grad():
        for table in (model.item_table, model.encoder.users.vectors, model.scoring.types):
            table.weight[1:] += torch.randn_like(table.weight[1:]) * 0.6
    model.encoder.acted = dict.fromkeys((CLICKED, SKIPPED), Acted.nobody(SIZES.n_items))
    assert (model.item_table.weight.norm(dim=1) > 1).any()
    assert (model.item_table.weight[1:].norm(dim=1) < 1).any()
    return model


def ball(x):
    return x / max(1.0, np.linalg.norm(x))


def network(layers, parts):
    """``relu(W x + b)`` of the concatenated ``parts``, layer by layer, one number at a time."""
    x = np.concatenate(parts)
    for layer in layers:
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        sums = [sum(w * value for w, value in zip(row, x, strict=True)) for row in weight]
        x = np.array([max(0.0, total + b) for total, b in zip(sums, bias, strict=True)])
    return x


class Paper:
    """The equations over the weights of a model."""

    def __init__(self, model):
        self.scoring = model.scoring
        self.items, self.types = (table.weight.detach().numpy() for table in (model.item_table, model.scoring.types))

    def distance(self, user, item, kind):
        """|g(u, t) - f(u, i, t)|: g and f have layers of their own, all looked-up vectors are cut to length 1."""
        u, i, t = ball(user), ball(self.items[item]), ball(self.types[kind])
        g, f = network(self.scoring.behaviour.layers, [u, t]), network(self.scoring.action.layers, [u, i, t])
        return np.sqrt(sum((g - f) ** 2))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_scores_are_distances_of_actions_from_the_behaviour(batch, layers):
    model = metas(layers=layers)
    model.encoder.users.met[1:] = True
    with torch.no_grad():
        found = model.eval().score(model(batch).query, model.item_vectors()).numpy()
    paper, users = Paper(model), model.encoder.users.vectors.weight.detach().numpy()
    for row in range(len(LENGTHS)):
        wanted = [-paper.distance(users[int(batch.user[row])], item, CLICKED) for item in range(1, SIZES.n_candidates + 1)]
        for p in (batch.row == row).nonzero()[:, 0].tolist():
            np.testing.assert_allclose(found[p], wanted)


def skips_of(batch, draws, p):
    """The skipped items that ``draws[p]`` pick of those shown before point ``p``; 0 for one that cannot be recommended."""
    last = int(batch.stream_position[p]) + 1
    stream, actions = batch.stream[batch.stream_row[p], :last].tolist(), batch.stream_action[batch.stream_row[p], :last].tolist()
    shown = [item for item, action in zip(stream, actions, strict=True) if action == SKIPPED]
    picked = [shown[int(draw * len(shown))] for draw in draws[p]]
    return [item if item <= SIZES.n_candidates else 0 for item in picked]


def loss_in_loops(paper, batch, queries, labels, rng, *, candidates, negatives, skips, margin, acted):
    """The mean hinge of the triplets, and how many there are of each type; random numbers in the order in which the model draws."""
    points = len(labels)
    draws = rng.random((points, skips))
    drawn = rng.choice(SIZES.n_candidates, candidates, replace=False) + 1
    hinges, counts = [], {}
    for kind in (CLICKED, SKIPPED):
        positives = [[label] for label in labels] if kind == CLICKED else [skips_of(batch, draws, p) for p in range(points)]
        order, counts[kind] = rng.random((points, len(positives[0]), candidates)), 0
        for p in range(points):
            user = int(batch.user[batch.row[p]])
            free = [int(c) if c not in positives[p] and (user, int(c)) not in acted[kind] else 0 for c in drawn]
            for k, item in enumerate(positives[p]):
                if item == 0:
                    continue
                near = paper.distance(queries[p], item, kind)
                far = [paper.distance(queries[p], c, kind) if c else None for c in free]
                hard = [m for m, distance in enumerate(far) if distance is not None and distance <= near + margin]
                for m in sorted(hard, key=lambda m: -order[p, k, m])[:negatives]:
                    hinges.append(max(0.0, near - far[m] + margin))
                    counts[kind] += 1
    return np.mean(hinges), counts


@pytest.mark.parametrize("margin", [0.3, 2.0])
def test_the_loss_is_the_mean_hinge_of_the_triplets_that_violate_the_margin(batch, margin):
    model = metas(candidates=12, negatives=3, skips=2, margin=margin)
    users = batch.user.tolist()
    acted = {CLICKED: {(u, i) for u in users for i in (3, 4, 9)}, SKIPPED: {(u, i) for u in users for i in (1, 20)}}
    model.encoder.acted = {kind: Acted(*np.array(sorted(pairs)).T, SIZES.n_items) for kind, pairs in acted.items()}
    targets = torch.randint(1, SIZES.n_candidates + 1, (len(batch.row), 2), generator=torch.Generator().manual_seed(0))
    queries = model.train().encoder.encode(batch)
    loss = model.encoder.own_loss(queries, targets, batch, model, np.random.default_rng(5))
    assert model.scoring.training  # mining leaves it as it was
    wanted, counts = loss_in_loops(
        Paper(model), batch, queries[:, 0].detach().numpy(), targets[:, 0].tolist(), np.random.default_rng(5), candidates=12,
        negatives=3, skips=2, margin=margin, acted=acted,
    )  # fmt: skip
    assert min(counts.values()) > 5
    assert loss.item() == pytest.approx(wanted)
    loss.backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


@pytest.mark.parametrize("kind", [CLICKED, SKIPPED])
def test_no_positive_of_the_user_is_mined_as_a_negative_however_many_stand_side_by_side(batch, kind):
    """The authors' list loses every second of such neighbours only, as it is changed while it is walked through."""
    model = metas(candidates=24, negatives=24, margin=100.0)
    own = np.arange(1, 21)
    model.encoder.acted[kind] = Acted(np.repeat(batch.user.numpy(), 20), np.tile(own, len(batch.user)), SIZES.n_items)
    asked, mined = [], type(model.encoder).mined

    def spied(*given):
        asked.append((given[4], mined(model.encoder, *given)))
        return asked[-1][1]

    model.encoder.mined = spied
    targets = torch.full((len(batch.row), 1), 7)
    model.encoder.own_loss(model.encoder.encode(batch), targets, batch, model, np.random.default_rng(1))
    of_kind = {which: set(negatives.unique().tolist()) for which, negatives in asked}
    assert of_kind[kind] <= {0, 21, 22, 23, 24, 25}
    assert len(of_kind[kind]) > 3
    other = of_kind[SKIPPED if kind == CLICKED else CLICKED]
    assert other & set(own.tolist())  # of the other type they may be


def test_without_a_triplet_left_the_loss_is_zero_and_so_are_its_gradients(batch):
    model = metas(candidates=5, margin=0.0)
    everything = np.arange(1, SIZES.n_items + 1)
    all_of_it = Acted(np.repeat(np.arange(1, 10), len(everything)), np.tile(everything, 9), SIZES.n_items)
    model.encoder.acted = dict.fromkeys((CLICKED, SKIPPED), all_of_it)
    loss = model.encoder.own_loss(
        model.encoder.encode(batch), torch.ones((len(batch.row), 1), dtype=torch.int64), batch, model, np.random.default_rng(1)
    )
    loss.backward()
    assert loss.item() == 0
    assert not any(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_mining_in_parts_is_mining_at_once_and_sees_no_dropout(batch, monkeypatch):
    model = metas(candidates=15, dropout=0.5).train()
    queries, targets = model.encoder.encode(batch), torch.full((len(batch.row), 1), 7)
    users = model.scoring.queries(queries)[:, 0]
    candidates = torch.arange(1, 16)
    free = torch.rand(len(users), 15, generator=torch.Generator().manual_seed(4)) < 0.7
    found = []
    for at_once in (1 << 18, 15 * 6 * 2):
        monkeypatch.setattr("xdm.models.metas.AT_ONCE", at_once)
        torch.manual_seed(at_once)
        found.append(model.encoder.mined(users, targets, candidates, free, CLICKED, model, np.random.default_rng(2)))
    assert torch.equal(*found)
    assert found[0].any()
    losses = [model.encoder.own_loss(queries, targets, batch, model, np.random.default_rng(2)).item() for _ in range(2)]
    assert losses[0] != losses[1]  # the triplets' own distances do


def test_a_distance_of_zero_has_a_gradient_of_zero():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    norm(x).sum().backward()
    assert norm(x).tolist() == [0.0, 5.0]
    assert x.grad.tolist() == [[0.0, 0.0], [pytest.approx(0.6), pytest.approx(0.8)]]


def test_a_stranger_is_asked_for_by_the_mean_of_what_was_clicked_and_training_takes_some_users_for_strangers(batch):
    batch = replace(batch, user=torch.tensor([3, 0, 5, 7]))
    model = metas(strangers=0.4)
    model.encoder.users.met[3] = True
    items, users = model.item_table.weight.detach(), model.encoder.users.vectors.weight.detach()
    means = [items[batch.short[r, : t + 1]].mean(0) for r, t in zip(batch.row.tolist(), batch.position.tolist(), strict=True)]
    with torch.no_grad():
        found = model.eval().encoder.encode(batch)[:, 0]
        for p, row in enumerate(batch.row.tolist()):
            torch.testing.assert_close(found[p], users[3] if row == 0 else means[p])
        model.train()
        taken = torch.stack([(model.encoder.encode(batch)[:, 0] - torch.stack(means)).abs().sum(1) < 1e-9 for _ in range(200)])
    known = (batch.user > 0)[batch.row]
    assert 0.35 < taken[:, known].double().mean() < 0.45
    assert taken[:, ~known].all()


def test_first_weights_and_settings_are_the_authors():
    torch.manual_seed(1)
    model = model_of(name="metas", width=60, layers=2)
    for table, rows in ((model.item_table, 31), (model.encoder.users.vectors, 10), (model.scoring.types, 3)):
        limit = (6 / (rows + 60)) ** 0.5
        assert 0.9 * limit < table.weight.abs().max() <= limit
        assert not table.weight[0].any()
    for network, parts in ((model.scoring.behaviour, 2), (model.scoring.action, 3)):
        for layer, inputs in zip(network.layers, (parts * 60, 60), strict=True):
            limit = (6 / (inputs + 60)) ** 0.5
            assert 0.95 * limit < layer.weight.abs().max() <= limit
            assert 0.8 * (3 / 60) ** 0.5 < layer.bias.abs().max() <= (3 / 60) ** 0.5
    config = load_config("metas")
    assert (config.model.width, config.model.layers, config.model.dropout) == (250, 1, 0.5)
    assert (config.model.margin, config.model.candidates, config.model.negatives) == (2.0, 400, 3)
    assert (config.training.batch_size, config.training.learning_rate, config.training.order) == (200, 1e-3, "points")
