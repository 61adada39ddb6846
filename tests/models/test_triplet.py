"""The triplet network against its papers' equations, triplet by triplet in NumPy, and the traps of such losses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import batch_of, model_of
from xdm.models.triplet import semi_hard, triplet_loss

N = 25  # candidates
UNCLICKED = [3, 0, 12, 1]


@pytest.fixture
def batch():
    return batch_of([1, 7, 3, 2], [0, 0, 0, 0], UNCLICKED)


def triplet(**settings):
    return model_of(name="triplet", **settings).eval()


def numbers(tensor):
    return tensor.detach().double().numpy()


def network(model, e):
    """``W₂ relu(W₁ e)``, in loops."""
    inner, outer = numbers(model.encoder.inner.weight), numbers(model.encoder.outer.weight)
    hidden = [max(0.0, sum(w * x for w, x in zip(row, e, strict=True))) for row in inner]
    out = np.array([sum(w * x for w, x in zip(row, hidden, strict=True)) for row in outer])
    return out / np.linalg.norm(out) if model.encoder.config.unit else out


def anchors(model, batch, window):
    table = numbers(model.encoder.items.tables[0].weight)
    found = []
    for row, place in zip(batch.row.tolist(), batch.position.tolist(), strict=True):
        clicked = batch.short[row, max(0, place + 1 - window) : place + 1].tolist()
        found.append(network(model, sum(table[i] for i in clicked) / len(clicked)))
    return found


@pytest.mark.parametrize("unit", [False, True])
def test_three_copies_of_one_network_and_the_nearest_item_is_the_best(batch, unit):
    model = triplet(unit=unit, window=3)
    table = numbers(model.encoder.items.tables[0].weight)
    with torch.no_grad():
        scores = numbers(model.score(model(batch).query, model.item_vectors()))
    vectors = [network(model, table[i]) for i in range(1, N + 1)]
    for p, anchor in enumerate(anchors(model, batch, window=3)):
        wanted = [sum(anchor**2) - sum((anchor - v) ** 2) for v in vectors]
        np.testing.assert_allclose(scores[p], wanted, atol=1e-5)


def by_hand(name, margin, swap, anchor, positive, negative):
    """One triplet's loss; distances are not squared but for the hinge's."""
    power = 2 if name == "hinge" else 1
    near, far = np.linalg.norm(anchor - positive) ** power, np.linalg.norm(anchor - negative) ** power
    if swap:
        far = min(far, np.linalg.norm(positive - negative) ** power)
    if name == "ratio":
        weights = np.exp([near, far]) / sum(np.exp([near, far]))
        return weights[0] ** 2 + (weights[1] - 1) ** 2
    return max(0.0, near - far + margin) if name == "hinge" else np.log(1 + np.exp(near - far))


@pytest.mark.parametrize("name", ["ratio", "hinge", "soft_margin"])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("mining", ["all", "semi_hard"])
def test_the_loss_is_the_papers_over_triplets(batch, name, swap, mining):
    model = triplet(loss=name, swap=swap, mining=mining, margin=0.6, unit=name == "hinge", negatives=6)
    targets = torch.randint(1, N + 1, (len(batch.row), 2), generator=torch.Generator().manual_seed(0))
    found = model.encoder.own_loss(model(batch).fused, targets, batch, model, np.random.default_rng(5))
    drawn = np.random.default_rng(5).integers(1, N + 1, (len(targets), 6))
    table, total, hits = numbers(model.encoder.items.tables[0].weight), 0.0, 0
    for p, anchor in enumerate(anchors(model, batch, window=4)):
        label = int(targets[p, 0])
        positive, others = network(model, table[label]), [int(j) for j in drawn[p] if j != label]
        hits += len(others) < 6
        vectors = [network(model, table[j]) for j in others]
        if mining == "semi_hard":
            near = np.linalg.norm(anchor - positive)
            far = [np.linalg.norm(anchor - v) for v in vectors]
            if swap:
                far = [min(d, np.linalg.norm(positive - v)) for d, v in zip(far, vectors, strict=True)]
            beyond = [d for d in far if d > near]
            vectors = [vectors[far.index(min(beyond) if beyond else max(far))]]
        total += np.mean([by_hand(name, 0.6, swap, anchor, positive, v) for v in vectors])
    assert hits
    assert float(found.detach()) == pytest.approx(total / len(targets), rel=1e-4)


def test_semi_hard_negatives_are_beyond_the_positive_and_as_near_as_they_come():
    near = torch.tensor([[1.0], [1.0], [5.0]])
    far = torch.tensor([[0.5, 1.5, 1.2, 9.0], [2.0, 1.0, 1.5, 1.1], [1.0, 4.0, 2.0, 4.5]])
    valid = torch.ones_like(far, dtype=torch.bool)
    valid[1, 3] = valid[2, 3] = False  # the label itself
    assert semi_hard(near, far, valid).nonzero()[:, 1].tolist() == [2, 2, 1]


def test_the_loss_of_ratios_is_no_ratio_of_squares_and_has_no_margin():
    """Where both are equally far the loss is .5, however far; 1 more in distance counts the same everywhere."""
    near = torch.tensor([[0.0], [3.0]])
    assert triplet_loss(near, near, "ratio", 99.0).tolist() == [[0.5], [0.5]]
    one_more = triplet_loss(near, near + 1, "ratio", 0.0)
    torch.testing.assert_close(one_more, torch.full((2, 1), 2 / (1 + np.e) ** 2))


@pytest.mark.parametrize("settings", [{}, {"loss": "soft_margin", "swap": True}, {"loss": "hinge", "unit": True}])
def test_the_gradient_at_distance_zero_is_a_number(batch, settings):
    """A root has none at 0: an anchor that is its label, and all vectors at one place."""
    model = triplet(window=1, **settings).train()
    labels = batch.short[batch.row, batch.position].clamp(max=N)[:, None]  # what was clicked last
    for collapsed in (False, True):
        if collapsed:
            with torch.no_grad():
                model.encoder.outer.weight.zero_()
        model.zero_grad()
        loss = model.encoder.own_loss(model(batch).fused, labels, batch, model, np.random.default_rng(0))
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(weight.grad).all() for weight in model.parameters())


@pytest.mark.parametrize("settings", [{}, {"loss": "hinge", "unit": True, "mining": "semi_hard"}])
def test_vectors_do_not_fall_onto_one_place(batch, settings):
    """The cheapest way to make positives near: it is no way to make the loss small."""
    model = triplet(**settings).train()
    optimizer, labels = torch.optim.Adam(model.parameters(), lr=0.01), torch.arange(len(batch.row))[:, None] % N + 1

    def spread():
        vectors = model.item_vectors()[:, : model.encoder.width].detach()
        return float(torch.pdist(vectors).mean())

    before = spread()
    for step in range(40):
        optimizer.zero_grad()
        model.encoder.own_loss(model(batch).fused, labels, batch, model, np.random.default_rng(step)).backward()
        optimizer.step()
    assert spread() > 0.7 * before


def test_unclicked_negatives_are_of_the_point_s_own_sequence(batch):
    model = triplet(negative="unclicked", negatives=50)
    labels = torch.full((len(batch.row),), 3)
    found = model.encoder.negatives(labels, batch, N, np.random.default_rng(0))
    drawn = triplet(negatives=50).encoder.negatives(labels, batch, N, np.random.default_rng(0))
    begins = np.cumsum([0, *UNCLICKED])
    for p, row in enumerate(batch.row.tolist()):
        own = set(batch.unclicked[begins[row] : begins[row + 1]].tolist())
        allowed = {i for i in own if i <= N and i != 3}
        taken = [i for i, other in zip(found[p].tolist(), drawn[p].tolist(), strict=True) if i != other]
        assert set(taken) <= allowed
        if not own:
            assert torch.equal(found[p], drawn[p])
    assert set(found[batch.row == 2].flatten().tolist()) >= {i for i in batch.unclicked[3:15].tolist() if i <= N and i != 3}
    none = replace(batch, unclicked=batch.unclicked[:0], unclicked_of=batch.unclicked_of[:0])
    assert torch.equal(model.encoder.negatives(labels, none, N, np.random.default_rng(0)), drawn)


def test_what_cannot_be_recommended_has_zeros_for_a_vector():
    model = triplet(unit=True)
    assert not model.vectors(torch.tensor([0, N + 1])).any()


def test_vectors_of_features_go_through_the_network_too():
    model = model_of(name="triplet").eval()
    assert torch.equal(model.encoder.compose(model.item_table.weight[1:4], torch.zeros(3)), model.vectors(torch.arange(1, 4)))
