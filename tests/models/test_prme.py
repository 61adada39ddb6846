"""PRME against its equations, point by point in NumPy, and what public ports get wrong."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.models.batches import N_ITEMS, N_USERS, batch_of, model_of
from xdm.models.shared.scoring import TwoSquaredDistances
from xdm.retrieval.changes import ItemChange, NewVectors

K = 6


@pytest.fixture
def batch():
    return batch_of([1, 7, 3, 2], [0, 0, 0, 0], [0, 0, 0, 0])


def prme(met=range(1, N_USERS + 1), **settings):
    """A model with weights of the size of a trained one's, whose training met the users ``met``."""
    model = model_of(name="prme", **{"width": K, "deviation": 0.5, "l2": 0.0, **settings}).eval()
    model.encoder.users.met[list(met)] = True
    return model


def by_hand(model, batch, alpha, tau):
    """``-D`` of every point and item, in loops, ``[P, N]``."""
    table = model.encoder.items.tables[0].weight.detach().double().numpy()
    users = model.encoder.users.vectors.weight.detach().double().numpy()
    x, s = table[:, :K], table[:, K:]
    scores = []
    for p in range(len(batch.row)):
        row, place = int(batch.row[p]), int(batch.position[p])
        clicked, user = batch.short[row, : place + 1].tolist(), int(batch.user[row])
        known = bool(model.encoder.users.met[user])
        x_u = users[user] if known else sum(x[i] for i in clicked) / len(clicked)
        gap = int(batch.time[p]) - int(batch.short_time[row, place])
        of_point = []
        for i in range(1, model.sizes.n_candidates + 1):
            preference = sum((x_u[k] - x[i, k]) ** 2 for k in range(K))
            sequence = sum((s[clicked[-1], k] - s[i, k]) ** 2 for k in range(K))
            of_point.append(-(alpha * preference + (1 - alpha) * sequence) if gap <= tau else -preference)
        scores.append(of_point)
    return np.array(scores)


def found(model, batch):
    with torch.no_grad():
        return model.score(model(batch).query, model.item_vectors()).double().numpy()


def without_constants(scores):
    """A score less the point's first: what ranks, and what BPR learns from."""
    return scores - scores[:, :1]


def test_scores_are_the_paper_s_on_both_sides_of_tau(batch):
    times = batch.time.clone()
    times[::2] += 1000  # every other question comes late
    batch = replace(batch, time=times, user=torch.tensor([3, 5, 0, 7]))
    model = prme(met=(3, 7), alpha=0.3, tau=500)
    gaps = times - batch.short_time[batch.row, batch.position]
    assert {bool(gap <= 500) for gap in gaps} == {True, False}
    wanted = by_hand(model, batch, alpha=0.3, tau=500)
    np.testing.assert_allclose(without_constants(found(model, batch)), without_constants(wanted), atol=1e-5)


def test_what_follows_the_last_click_counts_up_to_tau_and_no_second_longer(batch):
    model = prme(tau=3600)
    last = batch.short_time[batch.row, batch.position]
    at, after, much_later = (found(model, replace(batch, time=last + gap)) for gap in (3600, 3601, 10**7))
    np.testing.assert_array_equal(after, much_later)
    assert np.abs(without_constants(at) - without_constants(after)).max(axis=1).min() > 1e-3
    # past τ the last item says nothing of its own: only the user ranks
    for p, row in enumerate(batch.row.tolist()):
        np.testing.assert_allclose(after[p], after[batch.row.tolist().index(row)], atol=1e-5)


def test_both_spaces_matter_and_alpha_weighs_them(batch):
    """A port has .2 and .8 fixed, whatever its settings."""
    one, other = found(prme(alpha=0.0), batch), found(prme(alpha=1.0), batch)
    wanted = [by_hand(prme(alpha=alpha), batch, alpha, tau=40) for alpha in (0.0, 1.0)]
    for scores, by_definition in zip((one, other), wanted, strict=True):
        np.testing.assert_allclose(without_constants(scores), without_constants(by_definition), atol=1e-5)


def test_users_and_both_halves_of_items_are_learned(batch):
    """A port holds a table of users that nothing reads."""
    model = prme().train()
    query = model(batch).query
    model.score(query, model.scored(torch.arange(1, 9))).logsumexp(dim=1).sum().backward()
    assert model.encoder.users.vectors.weight.grad[batch.user].abs().sum(1).min() > 0
    of_clicked = model.encoder.items.tables[0].weight.grad[1:9]
    assert of_clicked[:, :K].abs().sum(1).min() > 0
    assert of_clicked[:, K:].abs().sum(1).min() > 0


def test_first_weights_have_the_deviation_that_is_set():
    table = prme(deviation=0.5).encoder.items.tables[0].weight.detach()
    assert 0.4 < float(table[1:].std()) < 0.6
    assert not table[0].any()


def test_an_item_that_is_left_out_of_the_row_has_no_sequel(batch):
    """Where training leaves an item out, a 0 stands in the row: nothing follows it, and the user alone ranks."""
    short = batch.short.clone()
    short[1, 4] = 0
    holed = replace(batch, short=short)
    model = prme(tau=10**9)
    point = int(torch.nonzero((batch.row == 1) & (batch.position == 4))[0, 0])
    late = found(model, replace(batch, time=batch.time + 2 * 10**9))[point]
    np.testing.assert_allclose(found(model, holed)[point], late, atol=1e-6)


def test_the_penalty_is_the_mean_of_what_a_point_reads(batch):
    model = prme(l2=0.7)
    users = model.encoder.users.vectors.weight.detach().double().numpy()
    items = model.encoder.items.tables[0].weight.detach().double().numpy()
    wanted = 0.0
    for row, place in zip(batch.row.tolist(), batch.position.tolist(), strict=True):
        wanted += sum(users[int(batch.user[row])] ** 2) + sum(items[int(batch.short[row, place])] ** 2)
    found = model.encoder.penalty(model(batch).fused, batch)
    assert float(found.detach()) == pytest.approx(0.7 * wanted / len(batch.row), rel=1e-5)
    assert prme().encoder.penalty(model(batch).fused, batch) is None


def test_the_weight_of_a_query_is_left_alone_by_the_unclicked_extension():
    batch = batch_of([3, 2], [0, 0], [4, 2])
    model = model_of(name="prme", width=K, unclicked={}).eval()
    queries = model(batch)
    assert queries.fused.shape[-1] == queries.clicked.shape[-1] == model.encoder.width == 2 * K
    assert not torch.equal(queries.fused, queries.clicked)
    torch.testing.assert_close(queries.query[..., -2:], torch.tensor([0.2, 0.8]).expand(5, 1, 2))


def test_posted_vectors_and_means_are_folded_as_the_model_folds():
    """The service has no torch: it must fold a plain vector, and the mean of known ones, by the kind of scoring alone."""
    vectors = TwoSquaredDistances().items(torch.randn(N_ITEMS, 2 * K), None).numpy()
    manifest = {"scoring": {"kind": "two_squared_distances", "bias": False}, "width": 2 * K}
    recommender = SimpleNamespace(manifest=manifest, retriever=SimpleNamespace(item_vectors=vectors))
    new = NewVectors(recommender, "f", int)
    plain = torch.randn(2 * K)
    posted, _ = new.of(ItemChange("new", vector=tuple(plain.tolist()), fingerprint="f"), has_own=False)
    np.testing.assert_allclose(posted, TwoSquaredDistances().items(plain, None), atol=1e-6)
    mean, _ = new.of(ItemChange("new", similar_to=(2, 5)), has_own=False)
    middle = torch.from_numpy((vectors[1] + vectors[4])[: 2 * K] / 2)
    np.testing.assert_allclose(mean, TwoSquaredDistances().items(middle, None), atol=1e-6)
