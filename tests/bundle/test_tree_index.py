"""TDM from a store to a bundle and back: the tree in the bundle, resumed runs, the tree of a later catalogue."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bundle.test_bundle import points_of
from xdm.bundle.model import load_model
from xdm.bundle.reading import load_recommender, read_manifest
from xdm.bundle.writing import torch_retriever
from xdm.data.catalogue import build_catalogue
from xdm.folders import file_sha256
from xdm.log.store import Store
from xdm.retrieval.tree import TreeRetriever
from xdm.schema import BundleError
from xdm.training.config import load_config
from xdm.training.loop import Loop, new_model
from xdm.training.rolling import carry_over
from xdm.training.run import Run

SETTINGS = (
    "model.width=8", "model.windows=[1,1,2,4]", "model.hidden=[12]", "model.attention_hidden=6", "model.beam=3",
    "training.batch_size=32", "training.threads=1", "training.epochs=3", "training.seed=1", "training.learning_rate=0.01",
)  # fmt: skip
VARIANTS = ["inner_product", "attention"]


def run_of(store: Path, out: Path, variant: str) -> Run:
    return Run(Store(store), load_config("tdm", None, [*SETTINGS, f"model.variant={variant}"]), out)


@pytest.fixture(scope="module", params=VARIANTS)
def bundle(request, simulated, tmp_path_factory):
    out = tmp_path_factory.mktemp("tdm") / "bundle"
    run_of(simulated, out, request.param).train()
    return out


def test_the_bundle_searches_its_tree_as_the_model_does(bundle, simulated):
    manifest, recommender = read_manifest(bundle), load_recommender(bundle, threads=1)
    assert (manifest["index"], manifest["beam"]) == ("tree", 3)
    assert 0.2 < manifest["search_recall@50"] <= 1
    points = points_of(recommender, Store(simulated))
    found = recommender.behaviours(points)
    known = np.flatnonzero(found.session >= 0)
    queries = recommender.queries(found, known, points)
    model = load_model(bundle).model
    own = torch_retriever(model)
    assert isinstance(own, TreeRetriever)
    exclude = [np.array([1 + q % 7]) for q in range(len(points))]
    scores, items = own.top_k(queries, 5, [exclude[q] for q in known])
    answer = recommender.top_k(points, 5, exclude)
    assert np.array_equal(answer.items[known], items)
    np.testing.assert_allclose(answer.scores[known], scores, atol=1e-4)
    every = torch_retriever(model, exhaustive=True)
    assert not isinstance(every, TreeRetriever)
    wide = TreeRetriever(own.item_vectors, replace(own.tree, beam=len(own)), own.scorer)
    assert np.array_equal(wide.top_k(queries, 5)[1], every.top_k(queries, 5)[1])


def test_an_index_of_a_later_version_is_refused(bundle, tmp_path):
    manifest = json.loads((bundle / "manifest.json").read_text())
    copy = tmp_path / "bundle"
    copy.mkdir()
    for file in bundle.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "index": "graph"}))
    with pytest.raises(BundleError, match="an index of the kind 'graph', which this version of xdm does not know"):
        load_recommender(copy)


class Killed(Exception):
    """Stands for the end of the process."""


def test_a_run_that_is_gone_on_with_learns_the_same_trees(bundle, simulated, tmp_path, monkeypatch):
    """Stopped in its last epoch, after a tree was learned: what comes is what would have come."""
    variant = load_config(None, bundle / "config.yaml").model.variant
    step, total = Loop._step, len((bundle / "steps.jsonl").read_text().splitlines())

    def until(self, which):
        if self.step == total - 2:
            raise Killed
        return step(self, which)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", until)
        with pytest.raises(Killed):
            run_of(simulated, tmp_path / "bundle", variant).train()
    run_of(simulated, tmp_path / "bundle", variant).train(resume=True)
    for name in ("weights.safetensors", "tree_nodes.npy", "tree_leaves.npy", "steps.jsonl", "metrics.json"):
        assert file_sha256(tmp_path / "bundle" / name) == file_sha256(bundle / name), name


def test_a_later_catalogue_gets_a_tree_of_its_own_from_what_is_known(bundle, simulated):
    trained, store = load_model(bundle), Store(simulated)
    start, end = store.time_range
    early = build_catalogue(store, start + (end - start) // 8)
    late = build_catalogue(store, end)
    assert early.n_candidates < late.n_candidates
    old, new = new_model(trained.config, early), new_model(trained.config, late)
    with torch.no_grad():
        for weight in old.parameters():
            weight.add_(torch.randn_like(weight))
    before = new.encoder.leaves.clone()
    carry_over(old, early, new, late)
    assert not torch.equal(new.encoder.leaves, before)
    assert torch_retriever(new.eval()).tree.leaves.shape == (late.n_candidates,)  # checks that it is a tree of the items
    places = late.items.vocabulary.indices(early.items.vocabulary.ids[: early.n_candidates])
    known = places <= late.n_candidates
    assert known.any()
    assert torch.equal(new.item_vectors()[places[known] - 1], old.item_vectors()[torch.from_numpy(known)])
