"""A bundle on disk: what it holds, what it refuses, and that it recommends what its own queries say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.learning import call
from xdm.bundle import format as bundle_format
from xdm.bundle.reading import load_recommender, read_manifest
from xdm.folders import file_sha256
from xdm.log.store import Events, Store
from xdm.retrieval.recommender import TowerRecommender
from xdm.retrieval.types import MODEL, POPULAR, Points
from xdm.schema import BundleError
from xdm.training.loop import new_model


@pytest.fixture
def copy(trained, tmp_path):
    """A bundle to damage."""
    shutil.copytree(trained, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="module")
def recommender(trained):
    return load_recommender(trained, threads=1)


def points_of(recommender: TowerRecommender, store: Store, n: int = 40) -> Points:
    """Questions about the first users at the end of the log, and one about a user of whom nothing is known."""
    mapping = np.concatenate([[0], recommender.catalogue.indices(store.items.vocabulary.ids)])
    events = store.part(0).in_catalogue(mapping)
    nobody = Events(events.item, events.time, events.clicked, events.session, np.append(events.offsets, events.offsets[-1]))
    rows = np.append(np.arange(n), events.n_users)
    users = np.append(recommender.users.indices(store.users.vocabulary.ids[:n]), 0).astype(np.int32)
    return Points(nobody, rows, users, np.full(n + 1, store.time_range[1] + 1))


def test_the_folder_holds_what_the_layout_says(trained):
    manifest = read_manifest(trained)
    named = {line.split()[0] for line in (bundle_format.__doc__ or "").splitlines() if line.startswith("    ")}
    on_disk = {file.name for file in trained.iterdir()}
    of_other_indexes = {bundle_format.INDEX, bundle_format.SCORER, bundle_format.TREE_NODES, bundle_format.TREE_LEAVES}
    assert on_disk == {name for name in named if "." in name} - of_other_indexes
    assert set(manifest["files"]) == on_disk - {"manifest.json"}
    assert all(file_sha256(trained / name) == digest for name, digest in manifest["files"].items())
    assert manifest["format_version"] == bundle_format.FORMAT_VERSION
    steps = [json.loads(line) for line in (trained / "steps.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == list(range(len(steps)))
    assert [one["epoch"] for one in json.loads((trained / "metrics.json").read_text())["validation"]] == [1, 2]


def test_weights_can_be_trained_on_and_hold_the_item_vectors(trained, simulated):
    from xdm.data.catalogue import build_catalogue
    from xdm.training.config import load_config

    manifest, config = read_manifest(trained), load_config(None, trained / "config.yaml")
    catalogue = build_catalogue(Store(simulated), manifest["split"]["validation_from"])
    model = new_model(config.model_copy(update={"training": config.training.model_copy(update={"seed": 99})}), catalogue)
    weights = load_file(trained / "weights.safetensors")
    model.load_state_dict(weights)
    vectors = np.load(trained / "item_vectors.npy")
    assert np.array_equal(vectors, model.item_vectors().detach().numpy())
    assert vectors.shape == (manifest["candidates"], manifest["width"])
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_it_recommends_what_its_own_queries_say(recommender, simulated):
    points = points_of(recommender, Store(simulated))
    found = recommender.behaviours(points)
    answer = recommender.top_k(points, 10)
    known = np.flatnonzero(found.session >= 0)
    assert len(known) >= 30
    scores = recommender.queries(found, known, points)[:, 0] @ recommender.retriever.item_vectors.T
    for q, row in zip(known, scores, strict=True):
        wanted = np.sort(row)[::-1][:10]
        np.testing.assert_allclose(answer.scores[q], wanted, atol=1e-5)
        np.testing.assert_allclose(row[answer.items[q] - 1], wanted, atol=1e-5)
        assert len(set(answer.items[q].tolist())) == 10
    assert (answer.source[known] == MODEL).all()


def test_one_question_alone_is_answered_as_among_others(recommender, simulated):
    points = points_of(recommender, Store(simulated))
    together = recommender.top_k(points, 5)
    for q in (0, 7, 40):
        alone = recommender.top_k(points.take(slice(q, q + 1)), 5)
        np.testing.assert_allclose(alone.scores[0], together.scores[q], atol=1e-5)
        assert alone.source[0] == together.source[q]


def test_excluded_items_do_not_come_and_the_rest_moves_up(recommender, simulated):
    points = points_of(recommender, Store(simulated))
    n = recommender.n_candidates
    every = recommender.top_k(points, n)
    exclude = [row[[0, 2, 3]] for row in every.items]
    answer = recommender.top_k(points, 6, exclude)
    for q in range(len(points)):
        wanted = [item for item in every.items[q].tolist() if item not in exclude[q].tolist()][:6]
        assert answer.items[q].tolist() == wanted
    everything = [np.arange(1, n + 1, dtype=np.int32)] * len(points)
    assert not recommender.top_k(points, 4, everything).items.any()


def test_nothing_known_gives_the_most_clicked_items(recommender, simulated):
    points = points_of(recommender, Store(simulated))
    answer = recommender.top_k(points, 5)
    clicks = recommender.items.counts("clicks")
    assert answer.source[-1] == POPULAR
    assert answer.items[-1].tolist() == [1, 2, 3, 4, 5]
    assert answer.scores[-1].tolist() == clicks[1:6].tolist() == sorted(clicks.tolist(), reverse=True)[:5]
    excluded = recommender.top_k(points, 3, [np.array([2, 1], np.int32)] * len(points))
    assert excluded.items[-1].tolist() == [3, 4, 5]
    n = recommender.n_candidates
    longer = recommender.top_k(points, n + 3)
    assert longer.items[-1].tolist() == [*range(1, n + 1), 0, 0, 0]
    assert np.isneginf(longer.scores[-1, n:]).all()


WITHOUT_TORCH = """
import sys
# None in sys.modules makes an import of the name fail, as where it is not installed.
sys.modules.update(dict.fromkeys(["torch", "safetensors", "faiss", "redis", "onnx"]))
import numpy as np
from xdm.bundle.reading import load_recommender
from xdm.log.store import Events
from xdm.retrieval.types import Points
recommender = load_recommender(sys.argv[1], threads=1)
events = Events.of_one_user([1, 2, 3, 3, 4, 4], [10, 20, 30, 40, 50, 60], [True, True, False, False, False, False])
answer = recommender.top_k(Points(events, np.array([0]), np.array([1], np.int32), np.array([100])), 3)
print(answer.source[0], (answer.items > 0).sum(), "polars" in sys.modules)
"""


def test_a_process_that_has_neither_torch_nor_faiss_nor_redis_recommends(trained):
    ran = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(trained)], capture_output=True, text=True)
    assert (ran.stdout.split(), ran.stderr) == (["0", "3", "False"], "")


@pytest.mark.parametrize("name", ["tower.onnx", "item_vectors.npy", "items.arrow", "weights.safetensors", "steps.jsonl"])
def test_a_changed_file_is_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name} is not the file that was written"):
        load_recommender(copy)


@pytest.mark.parametrize("name", ["tower.onnx", "users.arrow"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"lacks {name}"):
        load_recommender(copy)


def test_a_broken_graph_is_an_error_even_unverified(copy):
    (copy / "tower.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match="cannot be loaded"):
        load_recommender(copy, verify=False)


def changed_manifest(copy, **changes):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | changes))


def test_a_newer_format_says_to_upgrade(copy):
    changed_manifest(copy, format_version=bundle_format.FORMAT_VERSION + 1)
    with pytest.raises(BundleError, match=r"newer than .* upgrade xdm"):
        load_recommender(copy)


def test_a_manifest_may_not_reach_out_of_the_bundle(copy):
    changed_manifest(copy, files={"../secret": "0" * 64})
    with pytest.raises(BundleError, match="outside of the bundle"):
        load_recommender(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is no bundle; make one with: xdm train"), ("{", "cannot be read"), ("[]", "is no bundle"),
        ('{"format": "xdm-event-store"}', "names the format 'xdm-event-store'"),
        ('{"format": "xdm-bundle", "files": {}}', "lacks format_version, behaviours"), ("\xff", "is no bundle|cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_bundle_says_so(tmp_path, content, message):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(BundleError, match=message):
        load_recommender(tmp_path)


def test_a_store_given_for_a_bundle_is_one_message_and_exit_code_2(simulated, capfd):
    assert call("recommend", simulated, simulated, "--user", "u001") == 2
    printed = capfd.readouterr()
    assert printed.err.startswith("xdm: ")
    assert "is no bundle" in printed.err
    assert printed.out == ""
