"""Every encoder goes the whole road by the command line: train, evaluate, recommend, roll; alone and with skips."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.learning import call, sets
from xdm.bundle.model import load_model
from xdm.bundle.reading import load_recommender
from xdm.log.store import Store
from xdm.models.registry import MODELS
from xdm.training.config import load_config

ENCODERS = tuple(name for name in MODELS if name not in ("sdm", "sdm_actions"))  # of SDM: the other tests


@pytest.mark.parametrize("name", ENCODERS)
def test_train_evaluate_and_recommend_with_skips(name, simulated, tmp_path, capfd):
    skips = sets("unclicked.enabled=true")
    bundle = tmp_path / "bundle"
    assert call("train", simulated, "--out", bundle, "--model", name, *fast(name), *skips, "--quiet") == 0
    assert capfd.readouterr().out.startswith(f"xdm({name}): best of 1 epochs")
    manifest = load_recommender(bundle).manifest
    assert (manifest["model"], manifest["interests"]) == (f"xdm({name})", {"comirec": 4, "comirec_dr": 4, "mind": 5}.get(name, 1))
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
