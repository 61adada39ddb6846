"""An equal budget of processor seconds: where it ends training, and that it is counted over all of a run's processes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.learning import SMALL, losses_of
from tests.training.test_run import Killed, kill_after, scripted, train
from xdm.log.store import Store
from xdm.training import loop as loop_module
from xdm.training.config import load_config
from xdm.training.loop import Loop
from xdm.training.rolling import Windows, roll

EPOCHS = "training.epochs=4"


@pytest.fixture
def clock(monkeypatch):
    """A second passes in each step, and none outside of them."""
    seconds = [0.0]
    step = Loop._step

    def stepped(self, which):
        seconds[0] += 1.0
        return step(self, which)

    monkeypatch.setattr(loop_module, "time", SimpleNamespace(process_time=lambda: seconds[0]))
    monkeypatch.setattr(Loop, "_step", stepped)
    return seconds


def test_a_spent_budget_cuts_the_epoch_short_and_what_there_is_is_judged(simulated, tmp_path, clock):
    whole = train(simulated, tmp_path / "whole", EPOCHS)
    an_epoch = whole["validation"][0]["step"]
    budget = an_epoch + an_epoch // 2
    cut = train(simulated, tmp_path / "cut", EPOCHS, f"training.cpu_seconds={budget}")
    assert (cut["steps"], cut["epochs"], cut["stopped_by"]) == (budget, 2, "cpu_seconds")
    assert [one["step"] for one in cut["validation"]] == [an_epoch, budget]
    assert cut["validation"][0] == whole["validation"][0]
    lines = losses_of(tmp_path / "cut" / "steps.jsonl")
    assert lines == losses_of(tmp_path / "whole" / "steps.jsonl")[:budget]
    assert whole["stopped_by"] == "epochs"


def test_a_budget_that_is_not_spent_changes_nothing(simulated, tmp_path, clock, monkeypatch):
    scripted(monkeypatch, [0.3, 0.2, 0.1])
    settings = (EPOCHS, "training.patience=1")
    plain = train(simulated, tmp_path / "plain", *settings)
    scripted(monkeypatch, [0.3, 0.2, 0.1])
    granted = train(simulated, tmp_path / "granted", *settings, "training.cpu_seconds=1e6")
    assert plain["stopped_by"] == granted["stopped_by"] == "patience"
    assert plain["steps"] == granted["steps"]


def test_what_a_killed_process_spent_is_counted_when_it_goes_on(simulated, tmp_path, clock, monkeypatch):
    settings = (EPOCHS, "training.cpu_seconds=7", "training.checkpoint_steps=2")
    whole = train(simulated, tmp_path / "whole", *settings)
    with monkeypatch.context() as patch:
        kill_after(patch, 5)
        with pytest.raises(Killed):
            train(simulated, tmp_path / "killed", *settings)
    gone_on = train(simulated, tmp_path / "killed", *settings, resume=True)
    assert gone_on["steps"] == whole["steps"] == 7
    assert (tmp_path / "killed" / "steps.jsonl").read_bytes() == (tmp_path / "whole" / "steps.jsonl").read_bytes()


def test_each_rolling_window_has_the_budget_for_itself(simulated, tmp_path, clock):
    first, last = Store(simulated).time_range
    config = load_config("sdm", None, [*SMALL, EPOCHS, "training.cpu_seconds=3"])
    day = 24 * 3600
    roll(Store(simulated), config, Windows(first + (last - first) // 2, day, 2, 12 * 3600), tmp_path / "rolled")
    assert clock[0] == 6
