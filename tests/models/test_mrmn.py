"""MRMN: scores and loss once more in NumPy, pair by pair, and which skipped items it reads of a stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import SIZES, batch_of, model_of
from xdm.models.shared.exposures import CLICKED, SKIPPED, Acted, skipped_before
from xdm.schema import ConfigError
from xdm.training.config import load_config

LENGTHS, LONG, UNCLICKED = [1, 7, 3, 2], [0, 4, 1, 0], [3, 0, 2, 1]


@pytest.fixture
def batch():
    return batch_of(LENGTHS, LONG, UNCLICKED)


def ball(x):
    return x / max(1.0, np.linalg.norm(x))


def relation(p, q, keys, memory, softmax=False):
    """``r = Σ_n w_n M_n`` of the pair (p, q): one slot after the other."""
    weights = np.array([sum(p[i] * q[i] * keys[i, n] for i in range(len(p))) for n in range(keys.shape[1])])
    if softmax:
        weights = np.exp(weights - weights.max()) / np.exp(weights - weights.max()).sum()
    return sum(weight * slot for weight, slot in zip(weights, memory, strict=True))


def score(p, q, r):
    return -np.sqrt(sum((p + r - q) ** 2) + 1e-3)


def numbers(tensor):
    return tensor.detach().numpy()


def mrmn(**settings):
    """A model of weights as large as a trained one's, and its weights as arrays."""
    model = model_of(name="mrmn", **{"width": 6, "slots": 4, "deviation": 0.8, **settings}).double()
    scoring, encoder = model.scoring, model.encoder
    held = {"keys": scoring.keys, "memory": scoring.memory, "items": model.item_table.weight}
    held["skipped"] = getattr(encoder, "skipped_keys", scoring.keys)
    return model, {name: numbers(weight) for name, weight in held.items()}


@pytest.mark.parametrize("weights", ["linear", "softmax"])
def test_scores_are_distances_over_each_pairs_relation_as_a_click(batch, weights):
    model, held = mrmn(weights=weights)
    model.encoder.users.met[1:] = True
    with torch.no_grad():
        found = model.eval().score(model(batch).query, model.item_vectors()).numpy()
    users = numbers(model.encoder.users.vectors.weight)
    for p, row in enumerate(batch.row.tolist()):
        u = ball(users[int(batch.user[row])])
        for item in range(1, SIZES.n_candidates + 1):
            q = ball(held["items"][item])
            assert found[p, item - 1] == pytest.approx(
                score(u, q, relation(u, q, held["keys"], held["memory"], weights == "softmax"))
            )


def test_without_a_softmax_the_memory_is_one_matrix_a_type(batch):
    """``r = (p ⊙ q) (K M)``: what the authors' code computes is a bilinear map, of which the slots are a factorisation."""
    model, held = mrmn()
    matrix = held["keys"] @ held["memory"]  # [d, d]
    with torch.no_grad():
        model.encoder.users.met[1:] = True
        query = model.eval()(batch).query
        found = model.score(query, model.item_vectors()).numpy()
    u, v = query[:, 0].numpy(), model.item_vectors().detach().numpy()
    apart = u[:, None] + (u[:, None] * v) @ matrix - v
    np.testing.assert_allclose(found, -np.sqrt((apart**2).sum(-1) + 1e-3), atol=1e-6)


@pytest.mark.parametrize("negative_relation", ["clicked", "positive", "own"])
@pytest.mark.parametrize("skipped_as", ["type", "negative"])
def test_the_loss_is_the_hinge_of_clicks_and_of_skips(batch, negative_relation, skipped_as):
    model, held = mrmn(
        negatives=3, skips=2, margin=0.9, skipped_margin=0.4, negative_relation=negative_relation, skipped_as=skipped_as
    )
    n, points = SIZES.n_candidates, len(batch.row)
    targets = torch.randint(1, n + 1, (points, 2), generator=torch.Generator().manual_seed(0))
    queries = model.train().encoder.encode(batch)
    loss = model.encoder.own_loss(queries, targets, batch, model, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    drawn, draws = rng.integers(1, n + 1, (points, 3)), rng.random((points, 2))
    others = rng.integers(1, n + 1, (points, 2))

    def hinge(u, positive, negative, keys, margin):
        if negative in (positive, 0) or positive == 0:
            return 0.0
        q, other, memory = ball(held["items"][positive]), ball(held["items"][negative]), held["memory"]
        r = relation(u, q, keys, memory)
        r_other = {
            "clicked": relation(u, q, held["keys"], memory), "positive": r, "own": relation(u, other, keys, memory),
        }[negative_relation]  # fmt: skip
        return max(0.0, margin - score(u, q, r) + score(u, other, r_other))

    wanted, of_skips = 0.0, 0
    for p in range(points):
        u, label = ball(numbers(queries[p, 0])), int(targets[p, 0])
        stream, actions = batch.stream[batch.stream_row[p]].tolist(), batch.stream_action[batch.stream_row[p]].tolist()
        shown = [i for i, a in list(zip(stream, actions, strict=True))[: batch.stream_position[p] + 1] if a == SKIPPED]
        wanted += sum(hinge(u, label, int(j), held["keys"], 0.9) for j in drawn[p])
        for k in range(2):
            item = shown[int(draws[p, k] * len(shown))]
            item = item if item <= n else 0
            of_skips += item > 0
            if skipped_as == "type":
                wanted += hinge(u, item, int(others[p, k]), held["skipped"], 0.4)
            else:
                wanted += hinge(u, label, item, held["keys"], 0.9)
    assert of_skips
    assert loss.item() == pytest.approx(wanted / points)
    loss.backward()
    moved = [model.scoring.memory, model.scoring.keys, model.item_table.weight, model.encoder.users.vectors.weight]
    moved += [model.encoder.skipped_keys] if skipped_as == "type" else []
    assert all(weight.grad.any() for weight in moved)


def test_a_log_without_skips_trains_the_keys_of_clicks_alone(batch):
    model, _ = mrmn(skips=2)
    clicked = replace(batch, stream_action=torch.where(batch.stream > 0, CLICKED, 0))
    targets = torch.ones((len(batch.row), 1), dtype=torch.int64)
    queries = model.train().encoder.encode(clicked)
    model.encoder.own_loss(queries, targets, clicked, model, np.random.default_rng(5)).backward()
    assert not model.encoder.skipped_keys.grad.any()
    assert model.scoring.keys.grad.any()
    empty = batch.stream[:0, :0]
    nothing = replace(batch, stream=empty, stream_action=empty, stream_row=torch.zeros_like(batch.stream_row))
    assert not skipped_before(nothing, np.zeros((len(batch.row), 2)), 25).any()


def test_no_type_is_scored_but_the_click_and_no_later_skip_is_read(batch):
    model, _ = mrmn(skips=2)
    assert not torch.equal(model.encoder.skipped_keys, model.scoring.keys)
    for p in range(len(batch.row)):
        later = torch.arange(batch.stream.shape[1]) > batch.stream_position[p]
        changed = replace(batch, stream=torch.where(later & (batch.stream > 0), 25, batch.stream))
        draws = np.linspace(0, 0.999, 20)[None].repeat(len(batch.row), 0)
        before, after = skipped_before(batch, draws, 25)[p], skipped_before(changed, draws, 25)[p]
        assert torch.equal(before, after)
        row = batch.stream_row[p]
        shown = batch.stream[row][~later & (batch.stream_action[row] == SKIPPED)]
        assert set(before.tolist()) == {i if i <= 25 else 0 for i in shown.tolist()}


def test_a_stranger_is_asked_for_by_the_mean_of_what_was_clicked(batch):
    model, held = mrmn()
    batch = replace(batch, user=torch.tensor([3, 0, 0, 7]))
    model.encoder.users.met[3] = True  # 7 was never met
    with torch.no_grad():
        found = model.eval()(batch).query[:, 0].numpy()
    for p, (row, position) in enumerate(zip(batch.row.tolist(), batch.position.tolist(), strict=True)):
        clicked = np.mean([held["items"][i] for i in batch.short[row, : position + 1].tolist()], axis=0)
        own = numbers(model.encoder.users.vectors.weight)[3]
        np.testing.assert_allclose(found[p], ball(own if row == 0 else clicked), atol=1e-7)


def test_the_preset_reads_the_stream_and_a_model_without_one_is_refused():
    config, original = load_config("mrmn"), load_config("mrmn-original")
    assert config.behaviours.stream_max == 50
    assert (config.model.width, config.model.slots, config.model.margin) == (50, 100, 0.25)
    assert config.model.negative_relation == "own"
    assert original.model.negative_relation == "clicked"
    assert config.training.order == original.training.order == "points"
    with pytest.raises(ConfigError, match="reads the stream of exposures"):
        load_config("mrmn", None, ["behaviours.stream_max=0"])


def test_who_acted_on_what_is_told_for_each_action_up_to_the_end_of_training(simulated):
    from xdm.data.catalogue import build_catalogue
    from xdm.data.clicks import TrainingLog
    from xdm.log.store import Store

    store = Store(simulated)
    until = store.time_range[1] - 2 * 86400
    catalogue = build_catalogue(store, until)
    log = TrainingLog(store, catalogue, until)
    wanted = {CLICKED: set(), SKIPPED: set()}
    for first, stored in store.parts():
        events = stored.in_catalogue(catalogue.of_store)
        for user in range(events.n_users):
            for at in range(events.offsets[user], events.offsets[user + 1]):
                if events.time[at] < until:
                    wanted[CLICKED if events.clicked[at] else SKIPPED].add((first + user + 1, int(events.item[at])))
    users = np.arange(0, catalogue.n_users + 1)
    items = np.arange(1, catalogue.n_items + 1)[None].repeat(len(users), 0)
    for action, pairs in wanted.items():
        found = Acted(*log.pairs(action == CLICKED), catalogue.n_items).holds(users, items)
        assert {(u, i + 1) for u, i in np.argwhere(found)} == {pair for pair in pairs if pair[1]}
        assert len(pairs) > 100
    assert not Acted.nobody(30).holds(np.array([1]), np.array([[2]])).any()
