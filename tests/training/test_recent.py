"""Training on from the best weights on the most recent labels alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.learning import SMALL, losses_of
from tests.training.test_run import Killed, kill_after, same_files, train
from xdm.log.store import Store
from xdm.training.config import load_config
from xdm.training.loop import Loop
from xdm.training.run import Run

RECENT = ("training.recent_share=0.25", "training.recent_epochs=3", "training.checkpoint_steps=3")


@pytest.fixture
def loops(monkeypatch):
    """Every loop that a run makes, with the weights it begins with."""
    made, begin = [], Loop.__init__

    def recorded(self, *arguments, **options):
        begin(self, *arguments, **options)
        made.append((self, {name: value.clone() for name, value in self.model.state_dict().items()}))

    monkeypatch.setattr(Loop, "__init__", recorded)
    return made


def test_only_the_latest_labels_are_learned_from_and_from_the_best_weights(simulated, tmp_path, loops):
    result = train(simulated, tmp_path / "run", *RECENT)
    (whole, _), (recent, begun) = loops
    _, time, _ = whole.rows.labels
    _, late, _ = recent.rows.labels
    assert round(0.25 * len(time)) <= len(late) < 0.3 * len(time)  # labels of one second are not parted
    assert np.array_equal(np.sort(late), np.sort(time)[-len(late) :])
    validation = result["validation"]
    assert [one["epoch"] for one in validation] == [1, 2, 3, 4, 5]
    ordinary = validation[:2]
    best = max(ordinary, key=lambda one: one["recall@50"])
    alone = train(simulated, tmp_path / "alone", f"training.epochs={best['epoch']}")
    assert alone["validation"] == ordinary[: best["epoch"]]
    assert result["recall@50"] == max(one["recall@50"] for one in validation)
    steps = losses_of(tmp_path / "run" / "steps.jsonl")
    assert [sum(one["labels"] for one in steps if one["epoch"] == epoch) for epoch in range(5)] == [len(time)] * 2 + [len(late)] * 3
    last = loops[-1][0].model.state_dict()  # of the run that stopped at the best epoch
    assert all(torch.equal(last[name], value) for name, value in begun.items())


@pytest.mark.parametrize(("model", "where"), [("xdm", "between"), ("xdm", "after"), ("gru4rec", "after")])  # whole rows; live sessions
def test_killed_ahead_of_or_among_the_recent_epochs_it_goes_on_to_the_same_bits(simulated, tmp_path, monkeypatch, where, model):
    def run(out, resume=False):
        own = [one for one in SMALL if model == "xdm" or not one.startswith("model.") or one == "model.width=8"]
        config = load_config(model, None, [*own, *RECENT, "training.epochs=1"])
        return Run(Store(simulated), config, tmp_path / out).train(resume=resume)

    whole = run("whole")
    first = next(one["step"] for one in whole["validation"])
    steps = {"between": first, "after": first + 4}[where]
    with monkeypatch.context() as patch:
        kill_after(patch, steps)
        with pytest.raises(Killed):
            run("killed")
    run("killed", resume=True)
    assert all(same_files(tmp_path / "whole", tmp_path / "killed").values())
