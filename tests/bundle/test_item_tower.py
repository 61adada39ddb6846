"""Vectors of new items by their features alone: the exported graph against the torch model, for every way of scoring."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.models.batches import N_ITEMS, SIZES
from tests.models.settings import SMALL_MODELS
from xdm.bundle.format import ITEM_TOWER, ITEM_TOWER_INPUT
from xdm.bundle.model import load_model
from xdm.bundle.reading import load_recommender, open_graph, read_manifest
from xdm.bundle.writing import write_index
from xdm.folders import MANIFEST, write_json
from xdm.models.registry import MODELS, model_config
from xdm.models.retrieval_model import RetrievalModel
from xdm.models.unclicked import UnclickedConfig
from xdm.retrieval.changes import ItemChange, NewVectors


def model_with_features(name: str, features: bool = True) -> tuple[RetrievalModel, np.ndarray]:
    """A model of random weights whose item vectors are sums with their features', and the feature codes ``[items + 1, F]``."""
    torch.manual_seed(3)
    rng = np.random.default_rng(0)
    codes = np.stack([np.arange(N_ITEMS + 1)] + [rng.integers(0, n + 1, N_ITEMS + 1) for n in SIZES.features.values()])
    codes[:, 0] = 0
    config = model_config({"name": name, **SMALL_MODELS.get(name, SMALL_MODELS["sdm"])})
    model = RetrievalModel(config, UnclickedConfig(), SIZES, codes, features)
    with torch.no_grad():
        for weight in model.parameters():  # weights of a trained model are not small
            weight.add_(torch.randn_like(weight) * 0.3)
        for table in model.output_features:
            table.weight[0] = 0
    return model.eval(), codes[1:].T


def without_rows_of_their_own(model: RetrievalModel) -> np.ndarray:
    """The vectors ``[candidates, d']`` of a model in which every item's own row and bias are zeros."""
    with torch.no_grad():
        model.item_table.weight.zero_()
        if model.scoring.bias:
            model.output_bias.weight.zero_()
        return model.item_vectors().numpy()


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_makes_the_vectors_of_the_model(name, tmp_path):
    model, codes = model_with_features(name)
    write_index(model, tmp_path)
    graph = open_graph(tmp_path / ITEM_TOWER, threads=1)
    wanted = without_rows_of_their_own(model)
    asked = codes[1 : len(wanted) + 1].astype(np.int64)
    found = graph.run(None, {ITEM_TOWER_INPUT: asked})[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert len(np.unique(found.round(4), axis=0)) > 10  # features tell items apart
    for n in (0, 1):  # any number of items
        assert graph.run(None, {ITEM_TOWER_INPUT: asked[:n]})[0].shape == (n, wanted.shape[1])


def test_without_features_in_the_vectors_there_is_no_graph(tmp_path):
    write_index(model_with_features("sdm", features=False)[0], tmp_path)
    assert not (tmp_path / ITEM_TOWER).exists()


def test_a_bundle_makes_vectors_of_features_as_its_model_does(trained):
    recommender, model = load_recommender(trained), load_model(trained).model
    wanted = without_rows_of_their_own(model)
    codes = np.stack([feature.codes for feature in recommender.items.features.values()], axis=1)[1 : len(wanted) + 1]
    found = recommender.new_item_vectors(codes)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert found.shape == recommender.retriever.item_vectors.shape
    assert np.abs(found).sum(1).max() > 0


def test_a_bundle_of_before_there_was_such_a_graph_loads_and_makes_none(trained, tmp_path):
    bundle = Path(shutil.copytree(trained, tmp_path / "bundle"))
    manifest = read_manifest(bundle)
    (bundle / ITEM_TOWER).unlink()
    del manifest["files"][ITEM_TOWER], manifest["scoring"]
    write_json(bundle / MANIFEST, manifest)
    assert load_recommender(bundle).new_item_vectors(np.ones((2, 1))) is None


@pytest.mark.parametrize(
    ("name", "scoring"),
    [
        ("sdm", {"kind": "inner_product", "bias": False}), ("caser", {"kind": "inner_product", "bias": True}),
        ("hstu", {"kind": "cosine", "bias": False}), ("cml", {"kind": "squared_distance", "bias": False}),
        ("transrec", {"kind": "squared_distance", "bias": True}),
    ],
)  # fmt: skip
def test_the_kind_of_scoring_is_that_of_the_vectors(name, scoring):
    """What the manifest says of a model must fold a plain vector as the model folds it."""
    model, _ = model_with_features(name)
    assert {"kind": model.scoring.kind, "bias": model.scoring.bias} == scoring
    plain, bias = torch.randn(4, model.encoder.width), torch.randn(4)
    folded = {"cosine": plain / plain.norm(dim=1, keepdim=True)}.get(scoring["kind"], plain)
    last = -plain.square().sum(1) if scoring["kind"] == "squared_distance" else torch.zeros(4)
    last = last + bias if scoring["bias"] else last
    if scoring["bias"] or scoring["kind"] == "squared_distance":
        folded = torch.cat([folded, last[:, None]], dim=1)
    torch.testing.assert_close(model.scoring.items(plain, bias if scoring["bias"] else None), folded)


def test_scores_of_pairs_are_named_so():
    found = {name for name in MODELS if model_with_features(name)[0].scoring.kind.startswith("pairs")}
    assert found == {name for name, entry in MODELS.items() if entry.retrieved == "scoring every pair"} >= {"lrml", "masr"}


@pytest.mark.parametrize("name", MODELS)
def test_a_posted_vector_is_folded_as_the_model_folds(name):
    """By what the manifest says of the scoring alone: the service has no torch."""
    model, _ = model_with_features(name)
    manifest = {"scoring": {"kind": model.scoring.kind, "bias": model.scoring.bias}, "width": model.encoder.width}
    recommender = SimpleNamespace(manifest=manifest, retriever=SimpleNamespace(item_vectors=model.item_vectors().detach().numpy()))
    for plain in 3 * torch.randn(model.encoder.width), 0.01 * torch.randn(model.encoder.width):
        change = ItemChange("new", vector=tuple(plain.tolist()), fingerprint="f")
        posted, reason = NewVectors(recommender, "f", int).of(change, has_own=False)
        if name == "metas":  # whose fold is a layer of its own
            assert posted is None
            assert "through a layer" in reason
            continue
        bias = torch.zeros(()) if model.scoring.bias else None
        np.testing.assert_allclose(posted, model.scoring.items(plain, bias).detach(), atol=1e-5)
