"""CML, TransRec and LRML against their equations, pair by pair in NumPy: their authors' code is TensorFlow and C++."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import N_ITEMS, N_USERS, SIZES, batch_of
from xdm.models.cml import CML, CMLConfig
from xdm.models.lrml import LRML, LRMLConfig
from xdm.models.shared.scoring import SquaredDistance
from xdm.models.shared.users import into_ball
from xdm.models.transrec import TransRec, TransRecConfig

LENGTHS, LONG, UNCLICKED = [1, 7, 3, 2], [0, 4, 1, 0], [3, 0, 2, 1]
CODES = np.stack([np.arange(N_ITEMS + 1), np.zeros(N_ITEMS + 1, int), np.zeros(N_ITEMS + 1, int)])


@pytest.fixture
def batch():
    return batch_of(LENGTHS, LONG, UNCLICKED)


def encoder_of(kind, config, met=(), seed=1):
    """An encoder with weights of the size of a trained one, whose training met the users ``met``."""
    torch.manual_seed(seed)
    encoder = kind(config, SIZES, CODES).eval()
    with torch.no_grad():
        for table in (encoder.users.user, encoder.items.tables[0]):
            table.weight[1:] += torch.randn_like(table.weight[1:]) * 0.3
    if met:
        encoder.users.met[list(met)] = True
    return encoder


def numbers(tensor):
    return tensor.detach().double().numpy()


# --- whose vector is asked with --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "config"), [(CML, CMLConfig(width=6)), (LRML, LRMLConfig(width=6))])
def test_the_query_is_the_user_or_the_mean_of_what_was_clicked(kind, config, batch):
    batch = replace(batch, user=torch.tensor([3, 5, 0, 7]))
    encoder = encoder_of(kind, config, met=(3, 7))
    with torch.no_grad():
        found = numbers(encoder.encode(batch))
    users, items = numbers(encoder.users.user.weight), numbers(encoder.items.tables[0].weight)
    for p, (row, position) in enumerate(zip(batch.row.tolist(), batch.position.tolist(), strict=True)):
        user = int(batch.user[row])
        clicked = batch.short[row, : position + 1].tolist()
        wanted = users[user] if user in (3, 7) else sum(items[i] for i in clicked) / len(clicked)
        np.testing.assert_allclose(found[p, 0], wanted, atol=1e-6)


def test_training_marks_the_users_that_it_meets_and_the_mark_is_saved(batch):
    batch = replace(batch, user=torch.tensor([3, 5, 0, 3]))
    encoder = encoder_of(CML, CMLConfig(width=6))
    encoder.encode(batch)
    assert not encoder.users.met.any()
    encoder.train().encode(batch)
    assert encoder.users.met.nonzero()[:, 0].tolist() == [3, 5]
    other = CML(CMLConfig(width=6), SIZES, CODES).eval()
    other.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(other.encode(batch), encoder.eval().encode(batch))


@pytest.mark.parametrize("radius", [0.5, 1.0])
def test_the_ball_cuts_what_is_longer_and_nothing_else(radius):
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [-0.1, 0.05]], requires_grad=True)
    cut = into_ball(x, radius)
    wanted = [row / np.linalg.norm(row) * radius if np.linalg.norm(row) > radius else row for row in numbers(x)]
    np.testing.assert_allclose(numbers(cut), wanted, atol=1e-7)
    cut.sum().backward()
    assert torch.isfinite(x.grad).all()


# --- CML ---------------------------------------------------------------------------------------------------------------


def test_cml_scores_are_squared_distances(batch):
    encoder = encoder_of(CML, CMLConfig(width=6), met=range(1, N_USERS + 1))
    assert isinstance(encoder.scoring, SquaredDistance)
    assert not encoder.scoring.bias
    vectors = encoder.items.tables[0].weight[1:]
    with torch.no_grad():
        query = encoder.encode(batch)[:, 0]
        found = numbers(encoder.scoring.queries(query) @ encoder.scoring.items(vectors, None).T)
    users, items = numbers(encoder.users.user.weight), numbers(vectors)
    for p, row in enumerate(batch.row.tolist()):
        u = users[int(batch.user[row])]
        wanted = [-sum((u - v) ** 2) + sum(u**2) for v in items]
        np.testing.assert_allclose(found[p], wanted, atol=1e-5)


def test_cml_starts_and_stays_in_the_ball(batch):
    torch.manual_seed(0)
    fresh = CML(CMLConfig(width=64), SIZES, CODES)
    for table in (fresh.users.vectors, fresh.items.tables[0]):
        assert 0.9 / 8 < float(table.weight[1:].detach().std()) < 1.1 / 8  # 1 / sqrt(d)
        assert not table.weight[0].any()
    encoder = encoder_of(CML, CMLConfig(width=6, radius=0.8))
    before = [table.weight.detach().clone() for table in (encoder.users.vectors, encoder.items.tables[0])]
    assert any(float(weight.norm(dim=1).max()) > 0.8 for weight in before)
    with torch.no_grad():
        encoder.after_step(None)
    for table, weight in zip((encoder.users.vectors, encoder.items.tables[0]), before, strict=True):
        norms, held = table.weight.norm(dim=1), weight.norm(dim=1)
        torch.testing.assert_close(norms, held.clamp(max=0.8))
        torch.testing.assert_close(table.weight * held[:, None], weight * norms[:, None])  # directions stay


def test_cml_covariances_are_those_of_users_and_clicked_items(batch):
    encoder = encoder_of(CML, CMLConfig(width=4, covariance=0.7))
    users, items = numbers(encoder.users.user.weight), numbers(encoder.items.tables[0].weight)
    rows = [users[u] for u in batch.user.tolist()] + [items[i] for i in batch.short.flatten().tolist() if i]
    wanted = 0.0
    for a in range(4):
        for b in range(4):
            if a != b:
                one, other = [row[a] for row in rows], [row[b] for row in rows]
                mean_a, mean_b = sum(one) / len(rows), sum(other) / len(rows)
                wanted += (sum((x - mean_a) * (y - mean_b) for x, y in zip(one, other, strict=True)) / len(rows)) ** 2
    assert float(encoder.penalty(encoder.encode(batch), batch).detach()) == pytest.approx(0.7 * wanted, rel=1e-5)
    assert encoder_of(CML, CMLConfig(width=4)).penalty(encoder.encode(batch), batch) is None


# --- TransRec ----------------------------------------------------------------------------------------------------------


def test_transrec_scores_are_translations_from_the_last_click(batch):
    batch = replace(batch, user=torch.tensor([3, 5, 0, 7]))
    encoder = encoder_of(TransRec, TransRecConfig(width=5))
    assert encoder.scoring.bias
    vectors, bias = encoder.items.tables[0].weight[1:], torch.randn(N_ITEMS)
    with torch.no_grad():
        found = numbers(encoder.scoring.queries(encoder.encode(batch)[:, 0]) @ encoder.scoring.items(vectors, bias).T)
    items, t, beta = numbers(encoder.items.tables[0].weight), numbers(encoder.translation), numbers(bias)
    users = numbers(encoder.users.user.weight)
    for p, (row, position) in enumerate(zip(batch.row.tolist(), batch.position.tolist(), strict=True)):
        at = (
            items[int(batch.short[row, position])] + t + users[int(batch.user[row])]
        )  # of an unknown user, row 0: zeros
        wanted = [beta[j - 1] - sum((at - items[j]) ** 2) + sum(at**2) for j in range(1, N_ITEMS + 1)]
        np.testing.assert_allclose(found[p], wanted, atol=2e-5)


def test_transrec_starts_with_unit_vectors_and_no_translation_of_ones_own():
    torch.manual_seed(0)
    encoder = TransRec(TransRecConfig(), SIZES, CODES)
    weight = encoder.items.tables[0].weight
    torch.testing.assert_close(weight[1:].norm(dim=1), torch.ones(N_ITEMS))
    assert not weight[0].any()
    assert encoder.translation.norm().item() == pytest.approx(1)
    assert not encoder.users.user.weight.any()
    with torch.no_grad():
        weight[3], weight[4] = 5 * weight[3], 0.5 * weight[4]
        encoder.translation.mul_(3)
        encoder.after_step(None)
    norms = weight.detach().norm(dim=1)
    assert (float(norms[3]), float(norms[4])) == (pytest.approx(1), pytest.approx(0.5))
    assert encoder.translation.norm().item() == pytest.approx(3)


def test_transrec_penalty_is_the_mean_squared_norm_of_what_a_point_reads(batch):
    encoder = encoder_of(TransRec, TransRecConfig(width=5, l2=0.3))
    items, t, users = (
        numbers(x) for x in (encoder.items.tables[0].weight, encoder.translation, encoder.users.user.weight)
    )
    squares = [
        sum(items[int(batch.short[row, position])] ** 2) + sum(users[int(batch.user[row])] ** 2) + sum(t**2)
        for row, position in zip(batch.row.tolist(), batch.position.tolist(), strict=True)
    ]
    assert float(encoder.penalty(encoder.encode(batch), batch).detach()) == pytest.approx(0.3 * np.mean(squares), rel=1e-5)
    assert encoder_of(TransRec, TransRecConfig(width=5)).penalty(encoder.encode(batch), batch) is None


# --- LRML --------------------------------------------------------------------------------------------------------------


def pair_score(p, q, keys, memory, relation_of=None):
    """``-sqrt(|p + r - q|² + 1e-3)``; r of (p, q), or of another pair."""
    logits = [sum(p * (q if relation_of is None else relation_of) * keys[:, n]) for n in range(keys.shape[1])]
    weights = np.exp(np.array(logits) - max(logits))
    r = sum(weight * slot for weight, slot in zip(weights / weights.sum(), memory, strict=True))
    return -np.sqrt(sum((p + r - q) ** 2) + 1e-3)


def ball(x):
    return x / max(1.0, np.linalg.norm(x))


def lrml(unit_ball=True, **settings):
    encoder = encoder_of(
        LRML, LRMLConfig(width=6, slots=4, deviation=0.8, unit_ball=unit_ball, **settings), range(1, N_USERS + 1)
    )
    assert (encoder.items.tables[0].weight.norm(dim=1) > 1).any()
    return encoder


@pytest.mark.parametrize("unit_ball", [True, False])
def test_lrml_scores_are_distances_over_each_pairs_own_relation(batch, unit_ball):
    encoder = lrml(unit_ball)
    keys, memory = numbers(encoder.scoring.keys), numbers(encoder.scoring.memory)
    vectors = encoder.items.tables[0].weight[1:]
    rng = torch.Generator().manual_seed(0)
    own = torch.randint(1, N_ITEMS + 1, (len(batch.row), 3), generator=rng)
    with torch.no_grad():
        query = encoder.scoring.queries(encoder.encode(batch))
        shared = numbers(encoder.scoring.scores(query, encoder.scoring.items(vectors, None)))
        of_own = numbers(encoder.scoring.scores(query, encoder.scoring.items(encoder.items(own), None)))
    cut = ball if unit_ball else lambda x: x
    users, items = numbers(encoder.users.user.weight), numbers(encoder.items.tables[0].weight)
    for p, row in enumerate(batch.row.tolist()):
        u = cut(users[int(batch.user[row])])
        wanted = [pair_score(u, cut(items[i]), keys, memory) for i in range(1, N_ITEMS + 1)]
        np.testing.assert_allclose(shared[p], wanted, atol=1e-5)
        np.testing.assert_allclose(of_own[p], [wanted[i - 1] for i in own[p].tolist()], atol=1e-5)


def test_lrml_own_loss_scores_negatives_with_the_positive_relation(batch):
    from tests.models.batches import model_of

    model = model_of(name="lrml", width=6, slots=4, deviation=0.8, negatives=3, margin=0.5)
    model.train()
    targets = torch.randint(1, SIZES.n_candidates + 1, (len(batch.row), 2), generator=torch.Generator().manual_seed(0))
    queries = model.encoder.encode(batch)
    loss = model.encoder.own_loss(queries, targets, batch, model, np.random.default_rng(5))
    drawn = np.random.default_rng(5).integers(1, SIZES.n_candidates + 1, (len(targets), 3))
    keys, memory = numbers(model.encoder.scoring.keys), numbers(model.encoder.scoring.memory)
    items, wanted, hits = numbers(model.encoder.items.tables[0].weight), 0.0, 0
    for p, label in enumerate(targets[:, 0].tolist()):
        u, q = ball(numbers(queries[p, 0])), ball(items[label])
        for j in drawn[p]:
            far = pair_score(u, ball(items[j]), keys, memory, relation_of=q)
            wanted += max(0.0, 0.5 - pair_score(u, q, keys, memory) + far) if j != label else 0.0
            hits += j == label
    assert hits
    assert loss.item() == pytest.approx(wanted / len(targets), rel=1e-5)
    loss.backward()
    assert model.encoder.scoring.memory.grad.any()
    assert model.encoder.scoring.keys.grad.any()  # what a public port forgets to train
    model.encoder.config.negative_relation = "own"
    assert model.encoder.own_loss(queries, targets, batch, model, np.random.default_rng(5)) is None
