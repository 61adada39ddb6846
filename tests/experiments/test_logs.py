"""Logs that are judged in ways of their own, variants for some logs alone, and variants that take another's values."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from tests.experiments.files import SETTINGS, write_file
from xdm.experiments.file import LeaveLastOutProtocol, RollingProtocol, TimeProtocol, read_file
from xdm.experiments.grid import variants_of
from xdm.experiments.running import run_experiment
from xdm.schema import ConfigError

VARIANTS = {
    "popularity": {"model": "popularity"},
    "sdm": {"model": "sdm", "training.learning_rate": {"low": 0.001, "high": 0.01, "first": 0.004}},
    "skips": {"model": "xdm", "unclicked.enabled": True, "like": "sdm", "logs": ["whole"]},
    "fixed": {"model": "sdm", "logs": ["last"], "training.epochs": 1},
}


def file_of(folder, store, **keys):
    logs = {
        "whole": {"store": str(store), "unclicked_k": 0},
        "last": {
            "store": str(store), "protocol": "leave-last-out", "exclude_seen": True, "settings": {"training": {"batch_size": 40}},
        },
    }  # fmt: skip
    return write_file(folder, logs=logs, variants=VARIANTS, control="sdm", seeds=[3], search={"trials": 2}, **keys)


@pytest.fixture(scope="module")
def done(simulated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    return run_experiment(read_file(file_of(folder, simulated, workers=1)), folder / "out")


def record(grid, *path):
    return json.loads((grid.out.joinpath("runs", *path) / "run.json").read_text())


def test_each_log_has_its_protocol_and_its_settings(done):
    file = done.file
    assert isinstance(file.protocol_of("whole"), TimeProtocol)
    assert isinstance(file.protocol_of("last"), LeaveLastOutProtocol)
    assert (file.unclicked_k_of("whole"), file.unclicked_k_of("last")) == (0, 1)
    assert (file.exclude_seen_of("whole"), file.exclude_seen_of("last")) == (False, True)
    whole, last = (record(done, log, "sdm", "seed-3")["config"] for log in ("whole", "last"))
    assert (whole["split"]["protocol"], last["split"]["protocol"]) == ("time", "last-click")
    assert (whole["training"]["batch_size"], last["training"]["batch_size"]) == (SETTINGS["training.batch_size"], 40)
    protocols = [
        json.loads((done.out / f"runs/{log}/sdm/seed-3/results/metrics.json").read_text())["split"]["protocol"]
        for log in ("whole", "last")
    ]
    assert protocols == ["time", "last-click"]


def test_variants_run_on_their_logs_alone(done):
    assert done.failures == []
    ran = {str(path.parent.parent.relative_to(done.out / "runs")) for path in done.out.glob("runs/*/*/*/run.json")}
    assert ran == {"whole/popularity", "whole/sdm", "whole/skips", "last/popularity", "last/sdm", "last/fixed"}
    assert record(done, "last", "fixed", "seed-3")["config"]["training"]["epochs"] == 1


def test_a_variant_like_another_takes_the_values_of_its_search(done):
    found = done.found["whole", "sdm"]
    assert ("whole", "skips") not in done.found
    assert (
        record(done, "whole", "skips", "seed-3")["values"]
        == found.values
        == record(done, "whole", "sdm", "seed-3")["values"]
    )
    config = record(done, "whole", "skips", "seed-3")["config"]
    assert config["unclicked"]["enabled"]
    assert config["training"]["learning_rate"] == found.values["training.learning_rate"]
    table = pq.read_table(done.out / "results.parquet").to_pylist()
    assert {row["trials"] for row in table if row["variant"] in ("sdm", "skips")} == {2}


def test_the_first_trial_takes_what_the_file_says(done):
    for log in ("whole", "last"):
        trials = [json.loads((done.out / f"search/{log}/sdm/trial-{n:04d}/trial.json").read_text()) for n in (0, 1)]
        assert trials[0]["values"] == {"training.learning_rate": 0.004}
        assert 0.001 <= trials[1]["values"]["training.learning_rate"] <= 0.01
        assert trials[1]["values"] != trials[0]["values"]


def test_one_log_is_done_before_the_next_is_begun(done):
    ended = {log: [path.stat().st_mtime for path in done.out.rglob(f"{log}/**/*.json") if path.name in ("run.json", "trial.json")]
             for log in ("whole", "last")}  # fmt: skip
    assert (len(ended["whole"]), len(ended["last"])) == (5, 5)
    assert max(ended["whole"]) < min(ended["last"])


def test_how_far_a_training_came_is_told(done):
    table = pq.read_table(done.out / "results.parquet").to_pylist()
    assert {(row["epochs"], row["stopped_by"]) for row in table if row["variant"] == "fixed"} == {(1, "epochs")}
    assert {(row["epochs"], row["stopped_by"]) for row in table if row["variant"] == "popularity"} == {(None, None)}


def test_costs_are_told(done):
    table = pq.read_table(done.out / "results.parquet").to_pylist()
    trained = [row for row in table if row["variant"] != "popularity"]
    assert all(0 < row["train_cpu_seconds"] < row["cpu_seconds"] for row in trained)
    assert all(0 < row["answer_cpu_ms"] < 1000 for row in table)
    assert all(row["train_cpu_seconds"] is None for row in table if row["variant"] == "popularity")
    assert "ms an answer" in (done.out / "report.md").read_text()


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"like": "popularity"}, "'popularity' is no variant that is searched"),
        ({"like": "sdm", "training.learning_rate": {"low": 0.1, "high": 0.2}}, "leave out its own ranges"),
        ({"logs": ["hole"]}, "there is no log 'hole'. Did you mean 'whole'"),
        ({"logs": "whole"}, "logs is a list of names"),
        ({"training.learning_rate": {"low": 0.1, "high": 0.2, "first": 0.3}}, "first must lie within the range"),
        ({"model.layers": {"choices": [1, 2], "first": 3}}, "first must be one of the choices"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, simulated, variant, message):
    file = read_file(file_of(tmp_path, simulated))
    changed = file.model_copy(update={"variants": {**file.variants, "odd": {"model": "sdm", **variant}}})
    with pytest.raises(ConfigError, match=message):
        variants_of(changed)


def test_a_rolling_log_excludes_nothing_and_its_times_are_checked(tmp_path, simulated):
    def read(horizon, **keys):
        rolling = {"kind": "rolling", "start": "1d", "horizon": horizon}
        return read_file(write_file(tmp_path, logs={"whole": {"store": str(simulated), "protocol": rolling, **keys}}))

    with pytest.raises(ConfigError, match=r"logs\.whole\.protocol\.horizon"):
        read("2 moons")
    with pytest.raises(ConfigError, match="exclude_seen is not part of the rolling protocol"):
        read("2h", exclude_seen=True)
    assert isinstance(read("2h").protocol_of("whole"), RollingProtocol)
