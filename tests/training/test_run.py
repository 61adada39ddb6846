"""Runs: the same bits from the same seed, through kill -9 too; what stops one, and what refuses to go on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.learning import SMALL, call, losses_of, sets
from xdm.folders import file_sha256
from xdm.log.store import Store
from xdm.schema import ConfigError, UsageError
from xdm.training.checkpoints import newest_checkpoint, read_state
from xdm.training.config import load_config
from xdm.training.loop import Loop
from xdm.training.parts import boundaries
from xdm.training.run import Run

SAME = ("weights.safetensors", "item_vectors.npy", "steps.jsonl", "metrics.json", "items.arrow", "tower.onnx")


class Killed(Exception):
    """Stands for the end of the process, where a real one is not needed."""


def train(store: Path, out: Path, *settings: str, model: str = "xdm", resume: bool = False, **options) -> dict:
    return Run(Store(store), load_config(model, None, [*SMALL, *settings]), out, **options).train(resume=resume)


def kill_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let runs die at the ``steps``-th step from now on."""
    step, done = Loop._step, []

    def counted(self, which):
        done.append(0)
        if len(done) > steps:
            raise Killed
        return step(self, which)

    monkeypatch.setattr(Loop, "_step", counted)


def same_files(one: Path, other: Path) -> dict[str, bool]:
    return {name: file_sha256(one / name) == file_sha256(other / name) for name in SAME}


@pytest.mark.parametrize("model", ["sdm", "xdm"])
def test_one_seed_gives_one_result_to_the_bit_and_another_seed_another(simulated, tmp_path, model):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        train(simulated, tmp_path / name, f"training.seed={seed}", "training.epochs=1", model=model)
    assert all(same_files(tmp_path / "one", tmp_path / "same").values())
    differ = same_files(tmp_path / "one", tmp_path / "other")
    assert not any(differ[name] for name in ("weights.safetensors", "item_vectors.npy", "steps.jsonl"))


def test_a_run_learns_and_records_every_step_once(trained):
    folder = trained.with_name("bundle.run")
    steps = losses_of(folder / "steps.jsonl")
    assert (folder / "steps.jsonl").read_bytes() == (trained / "steps.jsonl").read_bytes()
    assert [step["step"] for step in steps] == list(range(len(steps)))
    assert [step["epoch"] for step in steps] == sorted(step["epoch"] for step in steps)
    manifest = json.loads((trained / "manifest.json").read_text())
    assert sum(step["labels"] for step in steps if step["epoch"] == 0) == manifest["labels"]
    for step in steps:
        assert step["loss"] == pytest.approx(step["softmax"] + 0.1 * step["metric"], rel=1e-5)
    first, last = steps[:5], steps[-5:]
    assert sum(step["softmax"] for step in last) < sum(step["softmax"] for step in first)
    assert (folder / "finished").exists()
    assert not (folder / "checkpoints").exists()
    assert load_config(None, folder / "config.yaml") == load_config(None, trained / "config.yaml")


LONG_RUN = ("training.batch_size=16", "training.checkpoint_steps=3", "training.epochs=2")


def test_kill_9_in_mid_epoch_and_resume_give_the_very_run(simulated, tmp_path, capfd):
    """A real process, really killed; it goes on to the same bytes as a run that nobody disturbed."""
    whole = train(simulated, tmp_path / "whole", *LONG_RUN)
    batches = whole["steps"] // 2
    arguments = ["train", simulated, "--out", tmp_path / "killed", *sets(*SMALL, *LONG_RUN), "--quiet"]
    checkpoints = tmp_path / "killed.run" / "checkpoints"
    with subprocess.Popen([sys.executable, "-m", "xdm", *map(str, arguments)], stderr=subprocess.PIPE) as process:
        give_up = time.monotonic() + 60
        while not any(path.name > f"step-{batches + 6:09d}" for path in checkpoints.glob("step-*")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < give_up
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=10) == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    state = read_state(newest_checkpoint(checkpoints))
    assert state["epoch"] == 1
    assert 0 < state["batch"] < batches

    assert call(*arguments) == 2  # neither overwritten nor gone on with unasked
    assert "holds an unfinished run; go on with --resume" in capfd.readouterr().err
    assert call(*arguments, "--resume", "--json") == 0
    result = json.loads(capfd.readouterr().out)
    assert (result["steps"], result["best_epoch"]) == (whole["steps"], whole["best_epoch"])
    assert all(same_files(tmp_path / "whole", tmp_path / "killed").values())
    assert losses_of(tmp_path / "killed" / "steps.jsonl") == losses_of(tmp_path / "whole" / "steps.jsonl")


@pytest.mark.parametrize("steps", [2, 7, 33])
def test_killed_before_or_after_any_checkpoint_it_goes_on(simulated, tmp_path, monkeypatch, steps):
    """Before the first checkpoint, within the first epoch (nothing is best yet), and in a later epoch."""
    settings = ("training.checkpoint_steps=5", "training.batch_size=24")
    train(simulated, tmp_path / "whole", *settings)
    with monkeypatch.context() as patch:
        kill_after(patch, steps)
        with pytest.raises(Killed):
            train(simulated, tmp_path / "killed", *settings)
    if steps > 5:  # the process died while it wrote the next steps: some are there already, the last is half a line
        file = tmp_path / "killed.run" / "steps.jsonl"
        file.write_bytes(file.read_bytes() + b'{"step": 99, "loss": 1.0}\n{"step": 100, "lo')
    train(simulated, tmp_path / "killed", *settings, resume=True)
    assert all(same_files(tmp_path / "whole", tmp_path / "killed").values())


@pytest.fixture
def unfinished(simulated, tmp_path, monkeypatch) -> Path:
    """Where a run has died, with a checkpoint."""
    with monkeypatch.context() as patch:
        kill_after(patch, 7)
        with pytest.raises(Killed):
            train(simulated, tmp_path / "killed", "training.checkpoint_steps=5")
    return tmp_path / "killed"


def test_going_on_with_other_settings_names_them(simulated, unfinished):
    with pytest.raises(UsageError) as caught:
        train(simulated, unfinished, "training.checkpoint_steps=5", "training.learning_rate=0.02", "model.cell=gru",
              resume=True)  # fmt: skip
    message = str(caught.value)
    assert "training.learning_rate: 0.01 -> 0.02" in message
    assert "model.cell: 'lstm' -> 'gru'" in message
    assert "epochs" not in message


def test_going_on_with_another_log_is_refused(simulated, unfinished, tmp_path):
    shutil.copytree(simulated, tmp_path / "other")
    manifest = json.loads((tmp_path / "other" / "manifest.json").read_text())
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "another"}))
    with pytest.raises(UsageError, match="was trained on another log"):
        train(tmp_path / "other", unfinished, "training.checkpoint_steps=5", resume=True)


def test_an_unfinished_run_is_replaced_only_when_asked(simulated, unfinished, tmp_path):
    with pytest.raises(UsageError, match="unfinished run"):
        train(simulated, unfinished)
    train(simulated, unfinished, overwrite=True)
    train(simulated, tmp_path / "fresh")
    assert all(same_files(unfinished, tmp_path / "fresh").values())


def test_a_finished_bundle_is_replaced_only_when_asked(simulated, trained):
    before = file_sha256(trained / "manifest.json")
    with pytest.raises(UsageError, match="exists already; choose another path or pass --overwrite"):
        train(simulated, trained)
    assert file_sha256(trained / "manifest.json") == before


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Let validation say ``values``, epoch by epoch."""
    left = iter(values)
    monkeypatch.setattr("xdm.training.run.evaluate", lambda *_, **__: {"recall@50": next(left), "hr@50": 0.5})


def test_training_stops_without_a_better_epoch_and_keeps_the_best(simulated, tmp_path, monkeypatch):
    settings = ("training.monitor=recall@50", "training.patience=2", "training.epochs=9")
    scripted(monkeypatch, [0.1, 0.3, 0.2, 0.3])  # as good as the best is no better
    stopped = train(simulated, tmp_path / "stopped", *settings)
    assert (stopped["epochs"], stopped["best_epoch"], stopped["recall@50"]) == (4, 2, 0.3)
    assert [one["recall@50"] for one in stopped["validation"]] == [0.1, 0.3, 0.2, 0.3]
    scripted(monkeypatch, [0.1, 0.3])
    train(simulated, tmp_path / "two", *settings[:-1], "training.epochs=2")
    kept, wanted = (load_file(tmp_path / name / "weights.safetensors") for name in ("stopped", "two"))
    assert kept.keys() == wanted.keys()
    assert all(torch.equal(kept[name], wanted[name]) for name in wanted)


def test_validation_is_what_evaluate_says_of_the_bundle(trained, simulated):
    from xdm.bundle.reading import load_recommender
    from xdm.evaluation.running import evaluate
    from xdm.evaluation.splits import Split

    manifest = json.loads((trained / "manifest.json").read_text())
    part = manifest["split"]
    split = Split("time", part["validation_from"], part["test_from"])
    found = evaluate(load_recommender(trained, threads=1), Store(simulated), split, ks=(50,), baselines=())
    best = json.loads((trained / "metrics.json").read_text())["validation"][manifest["best_epoch"] - 1]
    assert found["recall@50"] == pytest.approx(best["recall@50"], abs=0.002)
    assert found["recall@50"] == pytest.approx(manifest["recall@50"], abs=0.002)


def test_a_split_that_parts_nothing_is_an_error(simulated):
    store = Store(simulated)
    for settings in (["split.test=0"], ["split.validation=99d"], ["split.test=0.6", "split.validation=0.5"]):
        with pytest.raises((ConfigError, UsageError)):
            boundaries(store, load_config("sdm", None, settings).split)


def test_shares_part_the_clicks(simulated):
    import numpy as np

    store = Store(simulated)
    validation_from, test_from, until = boundaries(
        store, load_config("sdm", None, ["split.validation=0.2", "split.test=0.3"]).split
    )
    times = np.concatenate([events.time[events.clicked] for _, events in store.parts()])
    assert (times < validation_from).mean() == pytest.approx(0.5, abs=0.01)
    assert (times >= test_from).mean() == pytest.approx(0.3, abs=0.01)
    assert until == store.time_range[1] + 1


def test_a_folder_of_that_name_that_no_run_wrote_is_left_alone(simulated, tmp_path):
    (tmp_path / "bundle.run").mkdir()
    (tmp_path / "bundle.run" / "letter.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="not written by xdm"):
            Run(Store(simulated), load_config("sdm", None, [*SMALL]), tmp_path / "bundle", overwrite=overwrite).train()
    assert (tmp_path / "bundle.run" / "letter.txt").read_text() == "mine"


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_run_that_diverges_says_so_and_what_may_help(simulated, tmp_path, epochs):
    said = r"training has diverged: in epoch 1, after \d+ steps, .* lower training.learning_rate than 1e\+38"
    with pytest.raises(ConfigError, match=said):
        train(simulated, tmp_path / "bundle", "training.learning_rate=1e38", f"training.epochs={epochs}")
    assert not (tmp_path / "bundle").exists()


def test_a_rate_without_end_is_refused():
    with pytest.raises(ConfigError, match=r"training\.learning_rate"):
        load_config("sdm", None, ["training.learning_rate=inf"])
