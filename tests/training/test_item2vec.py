"""Item vectors trained ahead of the model: word2vec's steps, what they learn from, and what stays frozen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.learning import SMALL, memory_store
from tests.models.batches import batch_of, model_of
from tests.training.test_run import Killed, kill_after, same_files
from xdm.bundle.model import load_model
from xdm.data.catalogue import build_catalogue
from xdm.data.clicks import TrainingLog
from xdm.log.store import Store
from xdm.models.registry import MODELS
from xdm.models.shared.scoring import Cosine, SquaredDistance
from xdm.schema import ConfigError
from xdm.training.config import ObjectiveConfig, load_config
from xdm.training.item2vec import Item2VecConfig, freeze, item2vec, pretrain, skip_gram, weights_of
from xdm.training.loop import Loop, new_model, training_rows
from xdm.training.rolling import Windows, roll
from xdm.training.run import Run
from xdm.training.steps import losses

BEFOREHAND = "item_vectors.pretrained=item2vec"
FROZEN = (BEFOREHAND, "item_vectors.frozen=true", "item_vectors.features=false", "item_vectors.item2vec.epochs=2")
UNTIED = (BEFOREHAND, "item_vectors.inputs=true", "model.tie_item_embedding=false")
M4 = (*FROZEN, "objective.name=cosine", "item_vectors.scoring=cosine", "objective.metric=none")
BINN = (*FROZEN, "objective.name=squared_error", "item_vectors.scoring=squared_distance", "objective.metric=none")


def clicks_of(*users):
    """The training log of users' items, a click a minute; indices are the items themselves."""
    events = [[(item, 60 * place, True, None) for place, item in enumerate(items)] for items in users]
    store = memory_store(events)
    catalogue = build_catalogue(store, 10_000)
    return TrainingLog(store, catalogue, 10_000)


ONLY_4 = np.array([0.0, 0.0, 0.0, 1.0])  # every negative is item 4


def test_the_steps_are_word2vec_s():
    """Two sequences in a window of 1, in plain loops: pair by pair, a rate that falls click by click, negatives after the pair."""
    rng = np.random.default_rng(0)
    into, out = (rng.standard_normal((5, 6)).astype(np.float32) for _ in range(2))
    u, v = into.astype(np.float64), out.astype(np.float64)
    items, offsets, weights = np.array([1, 2, 3, 2, 1]), np.array([0, 3, 5]), np.array([1, 2, 1, 1, 0.5], np.float32)
    pairs = [(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3)]  # places: none reaches from one sequence into the other
    for epoch in range(2):
        for place, beside in pairs:
            rate = 0.1 * (1 - (5 * epoch + place) / 10) * weights[place]
            centre, moved = items[place], np.zeros(6)
            for other, label in [(items[beside], 1), (4, 0), (4, 0), (4, 0)]:
                pull = rate * (label - 1 / (1 + np.exp(-(u[centre] @ v[other]))))
                moved += pull * v[other]
                v[other] += pull * u[centre]
            u[centre] += moved
    skip_gram(offsets, items, weights, ONLY_4, into, out, 1, 3, 2, 0.1, np.random.default_rng(1))
    np.testing.assert_allclose(into, u, atol=1e-5)
    np.testing.assert_allclose(out, v, atol=1e-5)


def test_a_small_step_goes_down_the_gradient_of_the_loss():
    rng = np.random.default_rng(0)
    into, out = (rng.standard_normal((5, 6)).astype(np.float32) for _ in range(2))
    u, v = (torch.tensor(table, requires_grad=True) for table in (into, out))
    loss = sum(
        weight * -(F.logsigmoid(u[a] @ v[b]) + F.logsigmoid(-(u[a] @ v[4]))) for a, b, weight in ((1, 2, 1.0), (2, 1, 0.5))
    )  # the second click's rate is half of the first's
    loss.backward()
    held = into.copy(), out.copy()
    skip_gram(np.array([0, 2]), np.array([1, 2]), np.ones(2, np.float32), ONLY_4, into, out, 1, 1, 1, 1e-3, rng)
    for table, before, weight in ((into, held[0], u), (out, held[1], v)):
        np.testing.assert_allclose((table - before) / -1e-3, weight.grad, atol=5e-3)


def test_what_stands_together_comes_together():
    rng = np.random.default_rng(0)
    users = [list(rng.permutation(np.arange(1, 6) + 5 * (user % 2))) for user in range(60)]
    log = clicks_of(*users)
    vectors = item2vec(log.clicks, 10, 10, 8, Item2VecConfig(epochs=30), seed=1)
    assert vectors.shape == (11, 8)
    assert vectors.dtype == np.float32
    assert not vectors[0].any()
    unit = vectors[1:] / np.linalg.norm(vectors[1:], axis=1, keepdims=True)
    group = np.array([int(item) > 5 for item in log.catalogue.items.vocabulary.external(np.arange(1, 11)).to_pylist()])
    cosines, same = unit @ unit.T, group[:, None] == group
    assert cosines[same].min() > cosines[~same].max() + 0.1


def test_the_seed_decides_and_every_setting_changes_something():
    rng = np.random.default_rng(0)
    log = clicks_of(*[rng.integers(1, 9, 12).tolist() for _ in range(9)])

    def vectors(seed=1, **settings):
        return item2vec(log.clicks, 8, 8, 4, Item2VecConfig(**settings), seed)

    plain = vectors()
    assert np.array_equal(plain, vectors())
    assert not np.array_equal(plain, vectors(seed=2))
    others = {"window": 2, "negatives": 1, "epochs": 2, "learning_rate": 0.1, "power": 0.0, "weighted": True}
    assert others.keys() == Item2VecConfig.model_fields.keys()
    for name, value in others.items():
        assert not np.array_equal(plain, vectors(**{name: value})), name


def test_a_click_weighs_by_how_often_its_item_stands_in_its_own_sequence():
    user, items = np.array([1, 1, 1, 2, 2]), np.array([7, 7, 8, 7, 9])
    np.testing.assert_allclose(weights_of(user, items), np.array([2, 2, 1, 1, 1]) / 1.4)


def test_nothing_at_or_after_the_end_of_the_training_part_is_learned_from():
    before = [(item, 60 * item, True, None) for item in (1, 2, 3, 4)]
    logs = [TrainingLog(store := memory_store([[*before, (later, 600, True, None)], before]), build_catalogue(store, 600), 600)
            for later in (1, 4)]  # fmt: skip
    one, other = (item2vec(log.clicks, log.catalogue.n_candidates, log.catalogue.n_items, 4, Item2VecConfig(), 1) for log in logs)
    assert np.array_equal(one, other)


def loop_of(*settings, model="gru4rec-rows"):
    rng = np.random.default_rng(0)
    log = clicks_of(*[rng.integers(1, 20, rng.integers(2, 12)).tolist() for _ in range(12)])
    config = load_config(model, None, ["model.width=8", "training.batch_size=4", *settings])
    model = new_model(config, log.catalogue)
    pretrain(model, log, config.item_vectors, config.training.seed)
    return Loop(model, training_rows(log.store, log.catalogue, config, until=10_000), config)


@pytest.mark.parametrize("settings", [M4, BINN], ids=["cosine", "squared error"])
def test_frozen_vectors_stay_and_the_rest_learns(settings):
    loop = loop_of(*settings, "training.learning_rate=0.01", "model.hidden_dropout=0")
    before = {name: weight.detach().clone() for name, weight in loop.model.named_parameters()}
    found = []
    for _ in range(15):
        loop.run_epoch(lambda record: found.append(record["loss"]))
    assert found[-1] < 0.8 * found[0]
    for name, weight in loop.model.named_parameters():
        assert torch.equal(weight, before[name]) == ("tables" in name), name
    assert not hasattr(loop.model, "output_bias")  # the encoder's own score has one


def test_what_is_not_frozen_begins_as_trained_and_learns():
    loop = loop_of(*UNTIED, "model.item_width=8")
    config, log = loop.config, loop.rows.log
    vectors = item2vec(log.clicks, log.catalogue.n_candidates, log.catalogue.n_items, 8, config.item_vectors.item2vec, 1)
    for table in (loop.model.item_table, loop.model.encoder.items.tables[0]):
        assert np.array_equal(table.weight.detach(), vectors[: len(table.weight)])
    loop.run_epoch(lambda record: None)
    assert not np.array_equal(loop.model.item_table.weight.detach(), vectors[: len(loop.model.item_table.weight)])


def test_inputs_of_another_width_are_refused():
    with pytest.raises(ConfigError, match="input vectors have the width 5, item vectors 8"):
        loop_of(*UNTIED, "model.item_width=5")


@pytest.mark.parametrize("name", MODELS)
def test_any_model_s_item_vectors_can_be_frozen_or_it_says_why_not(name):
    model = model_of(name=name).train()
    try:
        freeze(model, inputs=False)
    except ConfigError as error:
        assert "makes or moves its item vectors itself" in str(error)  # noqa: PT017 — either outcome is right, by the model
        return
    held = model.item_table.weight.detach().clone()
    batch = batch_of([4, 2, 1], [2, 0, 1], [1, 0, 2])
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for settings in ({"negatives": 5}, {"name": "softmax"}, {"name": "bpr", "negatives_for": "label"}):
        optimizer.zero_grad()
        losses(model, batch, torch.arange(1, 8)[:, None], ObjectiveConfig(**settings), np.random.default_rng(0)).total.backward()
        optimizer.step()
    assert torch.equal(model.item_table.weight, held)


def test_distances_are_what_they_are_called():
    torch.manual_seed(0)
    q, v = torch.randn(3, 1, 4), torch.randn(3, 2, 4)
    for bias in (False, True):
        b = torch.randn(3, 2) if bias else None
        cosine, squared = Cosine(0.1, bias), SquaredDistance(bias)
        for p in range(3):
            for m in range(2):
                x, y = q[p, 0].tolist(), v[p, m].tolist()
                dot, lengths = sum(a * c for a, c in zip(x, y, strict=True)), sum(a * a for a in x) * sum(c * c for c in y)
                found = cosine.distances(cosine.queries(q), cosine.items(v, b))[p, m]
                assert float(found) == pytest.approx(1 - dot / lengths**0.5, abs=1e-5)
                found = squared.distances(squared.queries(q), squared.items(v, b))[p, m]
                assert float(found) == pytest.approx(sum((a - c) ** 2 for a, c in zip(x, y, strict=True)), abs=1e-5)


def test_a_loss_without_negatives_collapses_item_vectors_that_learn():
    """Why the configuration refuses it."""
    torch.manual_seed(0)
    table, query = (torch.randn(20, 8, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.Adam([table, query], 0.05)
    for _ in range(1500):
        optimizer.zero_grad()
        rows = torch.arange(20)
        (1 - F.cosine_similarity(query[rows], table[(rows + 1) % 20])).mean().backward()
        (1 - F.cosine_similarity(query[rows], table[(rows + 2) % 20])).mean().backward()
        optimizer.step()
    unit = F.normalize(table.detach(), dim=1)
    assert float((unit @ unit.T).min()) > 0.99


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("objective.name=cosine",), "objective.name cosine has no negatives: item vectors that learn would all become one"),
        (("objective.name=squared_error", *FROZEN), "item_vectors.scoring=squared_distance"),
        (("objective.name=cosine", *FROZEN, "item_vectors.scoring=squared_distance"), "item_vectors.scoring=cosine"),
        (("item_vectors.frozen=true",), "pretrained is none"),
        (("item_vectors.frozen=true", BEFOREHAND, "item_vectors.features=true"), "item_vectors.features=false"),
    ],
)
def test_what_would_collapse_or_not_stay_frozen_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        load_config("gru4rec-rows", None, list(settings))


@pytest.mark.parametrize(("name", "scoring"), [("lrml", "cosine"), ("tdm", "squared_distance")])
def test_a_score_that_finds_items_in_its_own_way_stays(name, scoring, simulated):
    config = load_config(name, None, [f"item_vectors.scoring={scoring}"])
    store = Store(simulated)
    with pytest.raises(ConfigError, match=r"item_vectors\.scoring: items of"):
        new_model(config, build_catalogue(store, store.time_range[1]))


@pytest.mark.parametrize("name", ["comirec", "mind"])
def test_squared_distances_go_with_one_interest(name, simulated):
    store, several = Store(simulated), ["item_vectors.scoring=squared_distance"]
    catalogue = build_catalogue(store, store.time_range[1])
    with pytest.raises(ConfigError, match=r"squared distances of the \d+ interests of"):
        new_model(load_config(name, None, several), catalogue)
    new_model(load_config(name, None, [*several, "model.interests=1"]), catalogue)


def test_vectors_frozen_in_windows_that_go_on_are_refused(simulated, tmp_path):
    store = Store(simulated)
    windows = Windows(store.time_range[1] - 7200, 3600, 1, 3600, warm_epochs=1)
    with pytest.raises(ConfigError, match="has no trained vectors for new items"):
        roll(store, load_config("gru4rec-rows", None, list(FROZEN)), windows, tmp_path / "rolled")


@pytest.mark.parametrize("settings", [M4, BINN], ids=["cosine", "squared error"])
def test_a_resumed_run_is_the_same_bits_and_the_bundle_answers_as_the_model(simulated, tmp_path, monkeypatch, settings):
    small = [one for one in SMALL if not one.startswith("model.")] + ["model.width=8", "training.checkpoint_steps=3", *settings]

    def train(out, resume=False):
        return Run(Store(simulated), load_config("gru4rec-rows", None, small), tmp_path / out).train(resume=resume)

    train("whole")
    with monkeypatch.context() as patch:
        kill_after(patch, 5)
        with pytest.raises(Killed):
            train("killed")
    train("killed", resume=True)
    assert all(same_files(tmp_path / "whole", tmp_path / "killed").values())
    model = load_model(tmp_path / "whole").model
    stored = np.load(tmp_path / "whole" / "item_vectors.npy")
    np.testing.assert_allclose(stored, model.item_vectors().detach(), atol=1e-6)
    assert not any(weight.requires_grad for name, weight in model.named_parameters() if "tables" in name)
