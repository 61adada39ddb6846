"""The exported tower answers as the model does: any batch size, any lengths, with and without each kind of input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import BARE, SIZES, XDM_SWITCHES, last_points, model_of
from tests.models.settings import SDM_SWITCHES
from xdm.bundle.format import TOWER_INPUTS
from xdm.bundle.reading import OnnxTower
from xdm.bundle.writing import export_tower, torch_tower

MODELS = {
    **{f"sdm {name}": (SIZES, settings) for name, settings in SDM_SWITCHES.items()},
    **{f"xdm {name}": (SIZES, {"unclicked": settings}) for name, settings in XDM_SWITCHES.items()},
    "sdm bare": (BARE, {}), "xdm bare": (BARE, {"unclicked": {}}),
    "xdm with nothing of users": (BARE, {"unclicked": {}, "user_width": 0}),
}  # fmt: skip
# session, long-term and unclicked lengths of each session; batches of 1, 3 and 8
SHAPES = [
    ([1], [0], [0]), ([1], [1], [1]), ([50], [20], [100]), ([2, 50, 7], [0, 0, 0], [0, 0, 0]),
    ([5, 1, 3], [20, 0, 4], [2, 0, 100]), ([1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 4, 5, 6, 7], [9, 0, 7, 0, 5, 0, 3, 0]),
]  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_answers_as_the_model(name, tmp_path):
    sizes, settings = MODELS[name]
    model = model_of(sizes, **settings)
    with torch.no_grad():
        for weight in model.parameters():  # weights of a trained model are not small
            weight.add_(torch.randn_like(weight) * 0.3)
    export_tower(model, tmp_path / "tower.onnx")
    tower = OnnxTower(tmp_path / "tower.onnx", threads=1)
    for shape in SHAPES:
        batch = last_points(*shape, sizes)
        found, wanted = tower(batch), torch_tower(model, batch)
        assert found.shape == wanted.shape == (len(shape[0]), 1, 8)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["sdm lstm", "xdm sum"])
def test_the_graph_reads_every_input_that_the_model_reads(name, tmp_path):
    sizes, settings = MODELS[name]
    model = model_of(sizes, **settings)
    export_tower(model, tmp_path / "tower.onnx")
    tower = OnnxTower(tmp_path / "tower.onnx", threads=1)
    batch = last_points([3, 4], [5, 6], [7, 8], sizes)
    plain = tower(batch)
    with_unclicked = "unclicked" in settings
    changes = {
        "short": batch.short % 30 + 1, "short_length": batch.short_length - 1, "short_time": batch.short_time + 1,
        "short_session": batch.short_session + 1,
        "time": batch.time + 1, "long": batch.long % 2 + 1,
        "user": (batch.user + 1) % 9 + 1, "profile": (batch.profile + 1) % 3,
        "unclicked": batch.unclicked % 30 + 1, "unclicked_of": 1 - batch.unclicked_of,
        "stream": batch.stream % 30 + 1, "stream_action": 3 - batch.stream_action, "stream_position": batch.stream_position - 1,
    }  # fmt: skip
    assert set(changes) == set(TOWER_INPUTS)
    for field, value in changes.items():
        differs = not np.array_equal(tower(replace(batch, **{field: value.astype(np.int64)})), plain)
        unclicked = field.startswith("unclicked")
        read = with_unclicked if unclicked else not field.startswith("stream") and "time" not in field and field != "short_session"
        assert differs == read, field


def test_exporting_leaves_the_model_as_it_was_asked_for(tmp_path):
    model = model_of(unclicked={}).train()
    batch = last_points([3, 4], [5, 6], [7, 8], SIZES)
    first = torch_tower(model, batch)
    assert model.training
    assert np.array_equal(torch_tower(model, batch), first)  # no dropout although the model is in training
