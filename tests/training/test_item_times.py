"""Item vectors that belong to a time: a run that was killed goes on to the same bits, and each window has its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.learning import losses_of
from tests.training.test_rolling import WINDOWS, truncated
from xdm.console import Progress
from xdm.folders import file_sha256
from xdm.log.store import Store
from xdm.training.config import load_config
from xdm.training.loop import Loop
from xdm.training.rolling import _train
from xdm.training.run import Run

SMALL = [
    "model.width=8", "model.stationary=4", "model.hidden=8", "model.item_width=8", "training.batch_size=32", "training.epochs=2",
    "training.learning_rate=0.01", "model.items_a_step=5", "unclicked.enabled=true",
]  # fmt: skip


def test_states_of_earlier_steps_are_part_of_a_checkpoint(simulated, tmp_path, monkeypatch):
    """Killed in mid-epoch, when some items' states are newer than others'."""

    def run(name, resume=False):
        config = load_config("rrn", None, [*SMALL, "training.batch_size=16", "training.checkpoint_steps=3"])
        return Run(Store(simulated), config, tmp_path / name).train(resume=resume)

    whole = run("whole")
    kill_at = 3 * whole["steps"] // 4
    assert kill_at - whole["steps"] // 2 > 3  # there is a checkpoint in mid-epoch
    step, done = Loop._step, []

    def counted(self, which):
        done.append(0)
        if len(done) == kill_at:
            raise KeyboardInterrupt
        return step(self, which)

    monkeypatch.setattr(Loop, "_step", counted)
    with pytest.raises(KeyboardInterrupt):
        run("killed")
    run("killed", resume=True)
    for name in ("weights.safetensors", "item_vectors.npy", "steps.jsonl", "tower.onnx"):
        assert file_sha256(tmp_path / "whole" / name) == file_sha256(tmp_path / "killed" / name)
    losses = [line["softmax"] for line in losses_of(tmp_path / "whole" / "steps.jsonl")]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_each_window_s_item_vectors_are_those_of_its_own_cut(simulated, tmp_path):
    """By a log that ends there, to the bit; and another window has others, with the very weights of this one."""
    cut, config, quiet = WINDOWS.start, load_config("rrn", None, SMALL), Progress(quiet=True)
    ended = truncated(Store(simulated).path, cut, tmp_path / "past")
    (model, catalogue, _), (past, *_) = (
        _train(store, config, WINDOWS, cut, None, quiet) for store in (Store(simulated), ended)
    )
    assert torch.equal(model.item_vectors(), past.item_vectors())
    later, known, _ = _train(Store(simulated), config, WINDOWS, cut + WINDOWS.every, (model, catalogue), quiet)
    with torch.no_grad():
        for name, weight in later.encoder.item_side.named_parameters():
            weight.copy_(model.encoder.item_side.get_parameter(name))
        later.encoder.after_epoch(later)
    places = known.items.vocabulary.indices(catalogue.items.vocabulary.ids)[: catalogue.n_candidates]
    both = places <= known.n_candidates
    assert both.sum() > 10
    assert not torch.equal(later.encoder.latest[places[both]], model.encoder.latest[1 : len(places) + 1][torch.from_numpy(both)])
