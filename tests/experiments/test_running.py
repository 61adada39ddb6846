"""The whole grid, in processes of its own: what is done, what fails, what is done again after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.experiments.conftest import KEYS, VARIANTS
from tests.experiments.files import write_file
from tests.learning import call
from xdm.bundle.reading import load_recommender
from xdm.evaluation.running import evaluate
from xdm.evaluation.splits import Split
from xdm.experiments.file import read_file
from xdm.experiments.folder import locked
from xdm.experiments.running import run_experiment
from xdm.log.store import Store
from xdm.schema import UsageError
from xdm.training.config import load_config
from xdm.training.run import Run


def records(out: Path) -> dict[str, float]:
    """The runs that are done, by path, with the time of their record."""
    return {str(path.parent.relative_to(out)): path.stat().st_mtime_ns for path in out.glob("runs/*/*/*/run.json")}


def per_user(out: Path, variant: str, seed: str) -> list[dict]:
    return pq.read_table(out / "runs" / "log" / variant / seed / "results" / "per_user.parquet").to_pylist()


def test_everything_is_done(grid):
    assert set(records(grid.out)) == {
        "runs/log/popularity/once", *(f"runs/log/{variant}/seed-{seed}" for variant in ("sdm", "tuned") for seed in (1, 2)),
    }  # fmt: skip
    assert (grid.failures, grid.exit_code) == ([], 0)
    assert not [path for path in (grid.out / "output").rglob("*") if path.is_file()]
    assert not list(grid.out.rglob("*.partial"))
    assert not list(grid.out.glob("runs/**/bundle*"))  # not asked for
    assert not list(grid.out.glob("runs/**/recommendations.parquet"))


def test_a_run_is_what_train_and_evaluate_give(grid, simulated, tmp_path):
    words = [f"{key}={json.dumps(value)}" for key, value in grid.file.settings.items()]
    config = load_config("sdm", None, (*words, "training.seed=2", "training.threads=1"))
    store = Store(simulated)
    facts = Run(store, config, tmp_path / "bundle").train()
    split = Split("time", facts["split"]["test_from"], facts["split"]["until"])
    recommender = load_recommender(tmp_path / "bundle", threads=1)
    wanted = evaluate(recommender, store, split, (5, 10), tmp_path / "results", baselines=())
    held = json.loads((grid.out / "runs/log/sdm/seed-2/results/metrics.json").read_text())
    assert held == wanted
    assert per_user(grid.out, "sdm", "seed-2") == pq.read_table(tmp_path / "results" / "per_user.parquet").to_pylist()
    record = json.loads((grid.out / "runs/log/sdm/seed-2/run.json").read_text())
    assert record["config"] == config.to_dict()
    assert record["validation"] == facts["recall@5"]
    assert (record["variant"], record["seed"]) == ("sdm", 2)
    assert record["seconds"] > 0
    assert 100 < record["peak_memory_mb"] < 4000


def test_the_winner_of_the_search_is_what_is_trained(grid):
    found = grid.found["log", "tuned"]
    trials = [json.loads(path.read_text()) for path in sorted(grid.out.glob("search/log/tuned/*/trial.json"))]
    assert len(trials) == found.trials == 2
    best = max(trials, key=lambda trial: trial["value"])
    assert found.values == best["values"]
    for seed in (1, 2):
        record = json.loads((grid.out / f"runs/log/tuned/seed-{seed}/run.json").read_text())
        assert record["values"] == best["values"]
        assert record["config"]["objective"]["margin"] == best["values"]["objective.margin"]
        assert record["config"]["training"]["seed"] == seed
    # The trial was trained with the first seed on the same clicks, so its validation is that of the winner's first run.
    first = json.loads((grid.out / "runs/log/tuned/seed-1/run.json").read_text())
    assert first["validation"] == best["value"]


def test_more_variants_and_seeds_run_only_what_is_new(grid, grid_file, simulated, tmp_path):
    before = records(grid.out)
    variants = {name: VARIANTS[name] for name in ("sdm", "tuned")} | {"recent": {"model": "recent_popularity"}}
    file = read_file(write_file(tmp_path, simulated, variants=variants, **KEYS, metrics=["ndcg@5"]))
    again = run_experiment(file, grid.out)
    assert again.failures == []
    after = records(grid.out)
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {"runs/log/recent/once"}
    assert again.found == grid.found
    assert "| recent | ndcg@5 |" in (grid.out / "report.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings.training.epochs": 3}, "variants.sdm.config.training.epochs: 2 -> 3"),
        ({"ks": [5, 11]}, r"ks: \[5, 10\] -> \[5, 11\]"),
        ({"search": {"trials": 3}}, "variants.tuned.search.trials: 2 -> 3"),
        ({"protocol": {"questions": "each-click"}}, "protocol.questions: 'time' -> 'each-click'"),
    ],
)
def test_a_changed_file_is_refused_with_what_differs(grid, grid_file, change, message):
    content = yaml.safe_load(grid_file.read_text()) | {"metrics": ["hr@5"]}
    for key, value in change.items():
        if key.startswith("settings."):
            content["settings"][key.removeprefix("settings.")] = value
        else:
            content[key] = value
    changed = grid_file.with_name("changed.yaml")
    changed.write_text(yaml.safe_dump(content))
    before = records(grid.out)
    with pytest.raises(UsageError, match=message):
        run_experiment(read_file(changed), grid.out)
    assert records(grid.out) == before


def test_a_folder_of_others_is_left_alone(grid, grid_file, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match=r"holds no experiment.json"):
        run_experiment(read_file(grid_file), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_two_at_once_in_one_folder_are_refused(tmp_path):
    with locked(tmp_path), pytest.raises(UsageError, match="another `xdm experiment` is at work"), locked(tmp_path):
        pass
    with locked(tmp_path):  # free again
        pass


def test_a_world_is_simulated_once_and_its_oracle_judged(tmp_path):
    world = {"users": 60, "clusters": 2, "topics": 4, "items_per_topic": 6, "days": 5, "seed": 3}
    variants = {name: {"model": name} for name in ("popularity", "oracle")}
    keys = {"variants": variants, "control": "popularity", "metrics": ["recall@10"]}
    path = write_file(tmp_path, logs={"w": {"world": world}}, **keys)
    first = run_experiment(read_file(path), tmp_path / "out")
    assert first.failures == []
    store = tmp_path / "out" / "logs" / "w" / "store"
    stamp = (store / "manifest.json").stat().st_mtime_ns
    assert len(Store(store).users) == 60
    means = {
        row["variant"]: row["value"] for row in pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
        if row["metric"] == "recall@10"
    }  # fmt: skip
    assert means["oracle"] > means["popularity"] + 0.05
    assert "A simulated log." in (tmp_path / "out" / "report.md").read_text()
    before = records(tmp_path / "out")
    run_experiment(read_file(path), tmp_path / "out")
    assert (store / "manifest.json").stat().st_mtime_ns == stamp
    assert records(tmp_path / "out") == before
    other = write_file(tmp_path, logs={"w": {"world": world | {"seed": 4}}}, **keys)
    with pytest.raises(UsageError, match=r"logs\.w\.world\.seed: 3 -> 4"):
        run_experiment(read_file(other), tmp_path / "out")


def processes(word: str) -> list[str]:
    """The command lines of living processes that hold ``word``, this one's left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


def until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_killed_it_goes_on_with_the_runs_that_are_missing(grid, simulated, tmp_path, capfd):
    variants = {"popularity": {"model": "popularity"}, "sdm": {"model": "sdm"}}
    path = write_file(tmp_path, simulated, variants=variants, seeds=[1], name="killed-experiment")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "xdm", "experiment", str(path), "--out", str(out), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(lambda: list(out.glob("runs/log/sdm/.*.partial")), 60)
    assert processes("log, sdm, seed")  # a run is at work
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    before = records(out)
    assert set(before) == {"runs/log/popularity/once"}
    until(lambda: not processes("xdm.experiments.process log, "), 5)  # none outlives the experiment
    assert records(out) == before
    assert not (out / "report.md").exists()

    assert call("experiment", path, "--out", out, "--quiet", "--json") == 0
    said = json.loads(capfd.readouterr().out)
    assert said == {"out": str(out), "runs": 2, "done": 2, "failures": []}
    after = records(out)
    assert {path: after[path] for path in before} == before
    assert set(after) == {"runs/log/popularity/once", "runs/log/sdm/seed-1"}
    assert not list(out.rglob("*.partial"))
    for variant, seed in (("sdm", "seed-1"), ("popularity", "once")):
        assert per_user(out, variant, seed) == per_user(grid.out, variant, seed)


def test_a_run_that_fails_stops_no_other_and_is_told(simulated, tmp_path, capfd):
    # Nothing is to learn from: it fails in its own process, before the other has begun.
    variants = {"hungry": {"model": "sdm", "data.min_clicks": 1_000_000}, "recent": {"model": "recent_popularity"},
                "never": {"model": "xdm", "data.min_clicks": {"low": 1_000_000, "high": 2_000_000}}}  # fmt: skip
    path = write_file(tmp_path, simulated, variants=variants, control="hungry", search={"trials": 1})
    out = tmp_path / "out"
    assert call("experiment", path, "--out", out, "--memory", "4GB") == 2
    printed = capfd.readouterr()
    assert "1 of 3 runs are done" in printed.out
    assert "failed: log, hungry, seed 1: UsageError" in printed.err
    assert "2 of 3 runs failed" in printed.err
    text = (out / "report.md").read_text()
    assert "**2 of 3 runs failed**" in text
    assert "- log, hungry, seed 1: UsageError" in text
    assert "- log, never, seed 1: none of the 1 trials of its search succeeded" in text
    assert "nothing to learn from" in (out / "output" / "log" / "hungry" / "seed-1.txt").read_text()
    assert set(records(out)) == {"runs/log/recent/once"}
    assert "there must be a run of the control hungry" in text
