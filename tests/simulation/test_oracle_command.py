"""``xdm oracle``: judged as a model is, on the same questions."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from tests.simulation.logs import Log, make_log
from xdm.cli import group
from xdm.evaluation.splits import time_boundaries
from xdm.schema import ConfigError
from xdm.simulation import World
from xdm.training.config import SplitConfig
from xdm.training.parts import boundaries


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return make_log(tmp_path_factory.mktemp("log"), World(users=400))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(group, [str(argument) for argument in arguments], catch_exceptions=False)


def test_both_are_compared_question_by_question(log: Log, tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("oracle-clicks", "oracle")]
    told = run("oracle", log.folder, log.store.path, "--clicks-only", "--k", "10", "--out", folders[0])
    assert told.exit_code == 0
    assert "oracle-clicks" in told.output
    assert f"records of every question: {folders[0]}" in told.output
    run("oracle", log.folder, log.store.path, "--k", "10", "--out", folders[1])
    found = run("compare", *folders, "--metric", "recall@10", "--json")
    (comparison,) = json.loads(found.stdout)["comparisons"]
    assert comparison["difference"] > 0.03
    assert comparison["p"] < 0.01
    for folder in folders:
        metrics = json.loads((Path(folder) / "metrics.json").read_text())
        rows = pq.read_table(Path(folder) / "per_user.parquet", columns=["recall@10"])
        assert metrics["recall@10"] == pytest.approx(sum(rows["recall@10"].to_pylist()) / metrics["questions"])
        assert "popularity" in metrics["baselines"]


def test_the_split_is_that_of_a_bundle_trained_by_default(log: Log) -> None:
    validation_from, test_from, until = boundaries(log.store, SplitConfig())
    assert (validation_from, test_from, until) == time_boundaries(log.store)
    for part, expected in (("test", (test_from, until)), ("validation", (validation_from, test_from))):
        answer = json.loads(run("oracle", log.folder, log.store.path, "--part", part, "--json").stdout)
        assert (answer["split"]["cut_off"], answer["split"]["until"]) == expected


def test_another_period_and_protocol(log: Log) -> None:
    asked = ("--cut-off", "10h", "--until", "6h", "--protocol", "each-click", "--json", "--k", "5")
    answer = json.loads(run("oracle", log.folder, log.store.path, *asked).stdout)
    end = log.store.time_range[1] + 1
    assert answer["split"] == {"protocol": "each-click", "cut_off": end - 36_000, "until": end - 21_600}
    assert answer["hr@5"] > 2 * answer["baselines"]["popularity"]["hr@5"]


def test_an_unknown_world_is_refused(log: Log) -> None:
    with pytest.raises(ConfigError, match="there is no world 'nowhere'"):
        run("oracle", "nowhere", str(log.store.path))
