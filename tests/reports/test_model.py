"""The torch model of a bundle is the one that was exported: same queries, same item vectors; anything else is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from xdm.bundle.model import load_model
from xdm.bundle.reading import read_manifest
from xdm.data.batches import point_batch
from xdm.data.profiles import profile_codes
from xdm.reports.points import View
from xdm.schema import BundleError


@pytest.mark.parametrize("kind", ["trained", "plain"])
def test_queries_and_item_vectors_are_those_of_the_bundle(kind, store, request):
    path = request.getfixturevalue(kind)
    loaded = load_model(path)
    manifest = read_manifest(path)
    assert loaded.config.name == manifest["model"]
    assert not loaded.model.training
    np.testing.assert_array_equal(loaded.model.item_vectors().detach().numpy(), np.load(path / "item_vectors.npy"))
    first_user, events = next(store.parts())
    row = np.arange(40)
    points = View(loaded.recommender, store).points(first_user, events, row, np.full(40, manifest["split"]["test_from"]))
    found = loaded.recommender.behaviours(points)
    which = np.flatnonzero(found.session >= 0)
    assert len(which) > 20
    batch = point_batch(found, which, points.time[which], points.user[which], profile_codes(loaded.users)[points.user[which]])
    with torch.inference_mode():
        own = loaded.model(batch.map(torch.from_numpy)).query.numpy()
    exported = loaded.recommender.queries(found, which, points)
    np.testing.assert_allclose(own, exported, atol=1e-5)


@pytest.fixture
def copy(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_changed_weights_are_refused_by_their_hash(copy):
    weights = load_file(copy / "weights.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1}, copy / "weights.safetensors")
    with pytest.raises(BundleError, match=r"weights\.safetensors is not the file that was written"):
        load_model(copy)
    changed = load_model(copy, verify=False).model.state_dict()[name]
    torch.testing.assert_close(changed, weights[name] + 1)


def test_weights_that_lack_a_part_are_refused(copy):
    weights = load_file(copy / "weights.safetensors")
    del weights["output.weight"]
    save_file(weights, copy / "weights.safetensors")
    with pytest.raises(BundleError, match=r"output\.weight"):
        load_model(copy, verify=False)


def test_a_configuration_of_another_version_is_refused(copy):
    config = yaml.safe_load((copy / "config.yaml").read_text())
    (copy / "config.yaml").write_text(yaml.safe_dump(config | {"of_another_version": 1}))
    with pytest.raises(BundleError, match="of_another_version"):
        load_model(copy, verify=False)
