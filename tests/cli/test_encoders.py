"""Every encoder goes the whole road by the command line: train, evaluate, recommend, roll; alone and with skips."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.learning import SMALL, call, sets
from xdm.bundle.model import TrainedModel, load_model
from xdm.bundle.reading import load_recommender
from xdm.bundle.writing import torch_tower
from xdm.log.store import Store
from xdm.models.registry import MODELS
from xdm.retrieval.types import Points
from xdm.training.config import load_config

ENCODERS = tuple(name for name in MODELS if name not in ("sdm", "sdm_actions"))  # of SDM: the other tests


@pytest.mark.parametrize("name", ENCODERS)
def test_train_evaluate_and_recommend_with_skips(name, simulated, tmp_path, capfd):
    skips = sets("unclicked.enabled=true")
    bundle = tmp_path / "bundle"
    assert call("train", simulated, "--out", bundle, "--model", name, *fast(name), *skips, "--quiet") == 0
    assert capfd.readouterr().out.startswith(f"xdm({name}): best of 1 epochs")
    manifest = load_recommender(bundle).manifest
    interests = {"comirec": 4, "comirec_dr": 4, "mind": 5, "masr": 51}.get(name, 1)
    assert (manifest["model"], manifest["interests"]) == (f"xdm({name})", interests)
    assert call("evaluate", bundle, simulated, "--k", 5, "--out", tmp_path / "results", "--json") == 0
    figures = json.loads(capfd.readouterr().out)
    assert 0 < figures["hr@5"] <= 1
    user = Store(simulated).users.vocabulary.external_list(np.array([1]))[0]
    assert call("recommend", bundle, simulated, "--user", user, "--k", 7, "--json") == 0
    answer = json.loads(capfd.readouterr().out)
    assert len({item["item_id"] for item in answer["items"]}) == 7
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    trained = load_model(bundle)
    vectors = np.load(bundle / "item_vectors.npy")
    assert np.array_equal(trained.model.item_vectors().detach().numpy(), vectors)
    assert_the_tower_is_the_model(trained, Store(simulated))


@pytest.mark.parametrize("name", ["sdm", "xdm", "sdm_actions"])
def test_what_is_served_of_sdm_and_xdm_is_what_was_trained(name, simulated, tmp_path):
    assert call("train", simulated, "--out", tmp_path / "bundle", "--model", name, *sets(*SMALL, "training.epochs=1"), "--quiet") == 0
    assert_the_tower_is_the_model(load_model(tmp_path / "bundle"), Store(simulated))


def assert_the_tower_is_the_model(trained: TrainedModel, store: Store) -> None:
    """What is served answers as what was trained to 1e-4: all users of the log at three times, every third one a stranger."""
    recommender = trained.recommender
    mapping = np.concatenate([[0], recommender.catalogue.indices(store.items.vocabulary.ids)])
    (first, events), *_ = store.parts()
    events = events.in_catalogue(mapping)
    rows = np.arange(events.n_users)
    users = np.where(rows % 3, recommender.users.indices(store.users.vocabulary.ids.slice(first, len(rows))), 0).astype(np.int32)
    begin, end = store.time_range
    exported = recommender._tower
    for at in (begin + (end - begin) // 4, begin + (end - begin) // 2, end + 3600):
        points = Points(events, rows, users, np.full(len(rows), at))
        found = recommender.behaviours(points)
        known = np.flatnonzero(found.session >= 0)
        assert len(known) > 50
        served = recommender.queries(found, known, points)
        recommender._tower = lambda batch: torch_tower(trained.model, batch)
        np.testing.assert_allclose(served, recommender.queries(found, known, points), atol=1e-4, rtol=0)
        recommender._tower = exported


@pytest.mark.parametrize("name", ENCODERS)
def test_rolling_with_a_warm_start(name, simulated, tmp_path, capfd):
    arguments = ["--start", "2024-01-04", "--every", "1d", "--windows", 2, "--horizon", "16h", "--k", 5, "--warm-epochs", 1]
    out = tmp_path / "rolled"
    assert call("rolling", simulated, "--model", name, *fast(name), *arguments, "--out", out, "--json") == 0
    figures = json.loads(capfd.readouterr().out)
    assert figures["windows"] == 2
    assert 0 < figures["hr@5"] <= 1


def fast(name: str) -> list[str]:
    """Settings under which one epoch over the simulated store takes a moment."""
    negatives = min(20, load_config(name).objective.negatives)
    return sets("model.width=8", "training.threads=1", "training.epochs=1", "training.batch_size=32",
                f"objective.negatives={negatives}")  # fmt: skip
