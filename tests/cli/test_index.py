"""`xdm index`: a bundle gets an index, whole or not at all, is served through it, and loses it again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.bundle.test_bundle import points_of
from tests.learning import call, sets
from xdm.bundle import indexing
from xdm.bundle.indexing import sample_queries
from xdm.bundle.reading import load_recommender, read_manifest
from xdm.folders import file_sha256
from xdm.log.store import Store
from xdm.retrieval.ann import AnnRetriever
from xdm.retrieval.exact import ExactRetriever
from xdm.retrieval.tree import recall


@pytest.fixture
def bundle(trained, tmp_path) -> Path:
    shutil.copytree(trained, tmp_path / "bundle")
    return tmp_path / "bundle"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def indexed(bundle, simulated, capfd) -> tuple[Path, dict]:
    assert call("index", bundle, simulated, "--k", 5, "--queries", 60, "--min-recall", 0.9, "--json") == 0
    return bundle, json.loads(capfd.readouterr().out)


def test_the_manifest_names_the_index_and_what_it_reaches(indexed, trained):
    bundle, told = indexed
    manifest, before = read_manifest(bundle), read_manifest(trained)
    assert manifest["index"] == told["index"] == "ivf"
    assert {"bundle": str(bundle), "index": "ivf", **manifest["ivf"]} == told
    assert (told["k"], told["queries"]) == (5, 60)
    assert 0.9 <= told["recall"] <= 1
    assert min(told["index_ms"], told["exact_ms"]) > 0
    assert manifest["files"].items() - before["files"].items() == {("index.faiss", file_sha256(bundle / "index.faiss"))}
    for name in before.keys() - {"index", "files"}:
        assert manifest[name] == before[name]
    assert {name: content for name, content in contents(bundle).items() if name not in ("manifest.json", "index.faiss")} == {
        name: content for name, content in contents(trained).items() if name != "manifest.json"
    }


def test_it_is_asked_through_its_index_unless_that_is_gone_round(indexed, trained, simulated):
    bundle, told = indexed
    through, round_it, before = load_recommender(bundle), load_recommender(bundle, exact=True), load_recommender(trained)
    assert isinstance(through.retriever, AnnRetriever)
    assert isinstance(round_it.retriever, ExactRetriever)
    assert (through.retriever.nprobe, through.retriever.k) == (told["nprobe"], 5)
    points = points_of(before, Store(simulated))
    wanted = before.top_k(points, 5)
    assert np.array_equal(round_it.top_k(points, 5).items, wanted.items)
    found = through.top_k(points, 5)
    assert recall(found.items, wanted.items) > 0.85
    assert np.array_equal(found.source, wanted.source)


def test_the_recall_is_of_users_of_the_store_at_the_logs_end(indexed, simulated):
    bundle, told = indexed
    recommender, store = load_recommender(bundle), Store(simulated)
    queries = sample_queries(recommender, store, 60)
    every = points_of(recommender, store, len(store.user_events(1)) and 100)
    found = recommender.behaviours(every)
    known = np.flatnonzero(found.session >= 0)
    by_user = recommender.queries(found, known, every)
    drawn = sample_queries(recommender, store, 10_000)  # every user that can be asked about
    assert len(drawn) > 60
    assert np.array_equal(drawn[:60], queries)
    for query in by_user:
        assert np.abs(drawn - query).max((1, 2)).min() < 1e-5
    exact = ExactRetriever(recommender.retriever.item_vectors)
    found = recommender.retriever.top_k(queries, 5)[1]
    assert recall(found, exact.top_k(queries, 5)[1]) >= told["recall"]  # more where an answer would be short


def test_an_index_is_taken_off_again_and_the_bundle_is_what_it_was(indexed, trained, capfd):
    bundle, _ = indexed
    assert call("index", bundle, "--kind", "exact") == 0
    assert "the index is taken off" in capfd.readouterr().out
    assert read_manifest(bundle) == read_manifest(trained)
    assert contents(bundle).keys() == contents(trained).keys()
    assert isinstance(load_recommender(bundle).retriever, ExactRetriever)
    assert call("index", bundle, "--kind", "exact", "--json") == 0
    assert json.loads(capfd.readouterr().out) == {"bundle": str(bundle), "index": "exact", "changed": False}


def test_an_index_takes_the_place_of_an_earlier_one(indexed, simulated, capfd):
    bundle, told = indexed
    assert call("index", bundle, simulated, "--k", 3, "--queries", 20, "--min-recall", 0.5) == 0
    printed = capfd.readouterr()
    manifest = read_manifest(bundle)
    assert (manifest["ivf"]["k"], manifest["ivf"]["queries"]) == (3, 20)
    assert f"recall@3 {manifest['ivf']['recall']:.4f} over 20 users" in printed.out
    assert f"of {told['lists']} lists" in printed.out
    load_recommender(bundle)


def test_who_has_the_bundle_open_goes_on_with_what_was_opened(bundle, simulated, trained):
    opened = load_recommender(bundle)
    points = points_of(opened, Store(simulated))
    assert call("index", bundle, simulated, "--k", 5, "--queries", 20, "--min-recall", 0.5) == 0
    assert np.array_equal(opened.top_k(points, 5).items, load_recommender(trained).top_k(points, 5).items)


def test_a_copy_stands_in_where_the_file_system_has_no_links(bundle, simulated, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    before = contents(bundle)
    monkeypatch.setattr(os, "link", refuse)
    assert call("index", bundle, simulated, "--k", 5, "--queries", 20, "--min-recall", 0.5) == 0
    after = contents(bundle)
    assert {name: after[name] for name in before if name != "manifest.json"} == {
        name: content for name, content in before.items() if name != "manifest.json"
    }
    load_recommender(bundle)


def test_below_the_floor_nothing_is_written_and_the_figures_are_told(bundle, simulated, monkeypatch, capfd):
    before = contents(bundle)
    monkeypatch.setattr("xdm.retrieval.ann.recall", lambda found, wanted: 0.875)
    assert call("index", bundle, simulated, "--k", 5, "--queries", 20) == 2
    printed = capfd.readouterr().err
    assert "no index is written: of the 5 best items for 20 users" in printed
    assert "none finds 0.99" in printed
    assert "0.8750 with 1, 0.8750 with 2" in printed
    assert contents(bundle) == before


def test_a_fault_on_the_way_leaves_the_old_bundle(bundle, simulated, monkeypatch):
    before = contents(bundle)

    def fails(path):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(indexing, "file_sha256", fails)
    with pytest.raises(RuntimeError):
        indexing.add_ivf(bundle, Store(simulated), min_recall=0.5, k=5, queries=20)
    assert contents(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the STORE that the bundle was trained on"), (["store"], "is no event store"),
        (["--kind", "hnsw"], "Invalid value for '--kind'"), (["--min-recall", "1.5"], "Invalid value for '--min-recall'"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_message_and_exit_code_2(bundle, arguments, message, capfd):
    assert call("index", bundle, *arguments) == 2
    printed = capfd.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert read_manifest(bundle)["index"] == "exact"


@pytest.mark.parametrize(("model", "index"), [("lrml", "scorer"), ("tdm", "tree")])
def test_a_model_whose_scores_are_no_inner_products_says_so(model, index, simulated, tmp_path, capfd):
    small = {"lrml": sets("model.width=8"), "tdm": sets("model.width=8", "model.windows=[1,1,2,4]", "model.beam=3")}[model]
    common = sets("training.epochs=1", "training.threads=1", "training.batch_size=64")
    assert call("train", simulated, "--model", model, "--out", tmp_path / "b", "--quiet", *common, *small) == 0
    capfd.readouterr()
    for arguments in ([simulated], ["--kind", "exact"]):
        assert call("index", tmp_path / "b", *arguments) == 2
        assert f"is searched by its index {index!r}" in capfd.readouterr().err


def test_users_of_another_log_are_none_to_ask(bundle, tmp_path, capfd):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {"user_id": ["a", "b"], "item_id": ["unheard of", "unseen"], "timestamp": [1_700_000_000, 1_700_000_100]}
    pq.write_table(pa.table({**rows, "clicked": [True, True]}), tmp_path / "log.parquet")
    assert call("prepare", tmp_path / "log.parquet", "--out", tmp_path / "store") == 0
    assert call("index", bundle, tmp_path / "store") == 2
    assert "has a click on an item of the bundle; give the store that it was trained on" in capfd.readouterr().err
