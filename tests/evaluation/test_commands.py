"""`xdm evaluate` and `xdm compare` on the command line; the bundle is a fake with a manifest."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.evaluation.stores import make_store
from tests.evaluation.test_running import CUT_OFF, START, UNTIL, random_rows, small_model
from xdm.bundle import reading
from xdm.cli.compare import compare
from xdm.cli.evaluate import choose_split, evaluate
from xdm.evaluation.splits import Split
from xdm.schema import BundleError, ConfigError, UsageError

OWN_SPLIT = {"protocol": "time", "validation_from": CUT_OFF - 20, "test_from": CUT_OFF, "until": UNTIL}


@pytest.fixture
def store(tmp_path, monkeypatch):
    model = small_model(False)
    model.manifest = {"model": "fake", "split": OWN_SPLIT}
    monkeypatch.setattr(reading, "load_recommender", lambda path: model)
    categories = {f"i{n}": f"c{n % 4}" for n in range(14)}
    return make_store(tmp_path / "store", random_rows(4), features={"topic": categories}).path


def run(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def test_table_files_and_comparison(store, tmp_path):
    out = tmp_path / "out"
    result = run(evaluate, "bundle", store, "--k", 5, "--k", 2, "--out", out)
    assert result.exit_code == 0
    assert "protocol time, clicks of [2020-09-13T12:27:40Z, 2020-09-13T12:28:20Z)" in result.output
    metrics = json.loads((out / "metrics.json").read_text())
    row = next(line for line in result.output.splitlines() if "recall@5" in line)
    beside = [metrics, metrics["baselines"]["popularity"], metrics["baselines"]["recent_popularity"]]
    assert [cell.strip() for cell in row.split("│")[2:5]] == [f"{values['recall@5']:.4f}" for values in beside]

    compared = run(compare, out / "baselines" / "popularity", out, "--metric", "recall@5", "--json", "--resamples", 200)
    answer = json.loads(compared.output)
    assert answer["questions"] == metrics["questions"]
    assert answer["users"] == metrics["users"]
    (found,) = answer["comparisons"]
    assert found["difference"] == pytest.approx(metrics["recall@5"] - metrics["baselines"]["popularity"]["recall@5"])
    table = run(compare, out / "baselines" / "popularity", out, "--metric", "recall@5", "--resamples", 200)
    assert f"{found['difference']:+.4f}" in table.output
    assert f"{found['p_holm']:.4f}" in table.output


def test_the_baselines_that_are_named_stand_beside_it(store, tmp_path):
    named = ("--baseline", "ease", "--baseline", "itemknn", "--baseline", "ease")
    result = run(evaluate, "bundle", store, "--k", 5, "--out", tmp_path / "out", *named)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(metrics["baselines"]) == ["ease", "itemknn"]
    row = next(cells(line) for line in result.output.splitlines() if "recall@5" in line)
    beside = [metrics, *metrics["baselines"].values()]
    assert row == ["recall@5", *(f"{values['recall@5']:.4f}" for values in beside)]
    with pytest.raises(ConfigError, match=r"there is no baseline 'eases'\. Did you mean 'ease'\?"):
        run(evaluate, "bundle", store, "--baseline", "eases")


def cells(line):
    return [cell.strip() for cell in line.split("│")[1:-1]]


def test_what_skips_do_is_printed_and_explained(store, tmp_path):
    result = run(evaluate, "bundle", store, "--k", 5, "--out", tmp_path / "one")
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text())
    for name in ("skipped@5", "skipped_category@5"):
        beside = [metrics, *metrics["baselines"].values()]
        row = next(cells(line) for line in result.output.splitlines() if name in line)
        assert row == [name, *(f"{values[name]:.4f}" for values in beside)]
    (line,) = [line for line in result.output.splitlines() if line.startswith("skipped@K: ")]
    assert "more than 1 times and did not click in the 3 days before (skipped_category: or share their topic)" in line
    assert f"of {metrics['questions_with_unclicked']} of {metrics['questions']} questions" in line

    run(evaluate, "bundle", store, "--k", 5, "--out", tmp_path / "none", "--unclicked-k", 100)
    printed = run(evaluate, "bundle", store, "--k", 5, "--unclicked-k", 100).output
    assert json.loads((tmp_path / "none" / "metrics.json").read_text())["questions_with_unclicked"] == 0
    assert next(cells(line) for line in printed.splitlines() if "skipped@5" in line) == ["skipped@5", "-", "-", "-"]


def test_strata_on_the_command_line(store, tmp_path):
    out = tmp_path / "out"
    run(evaluate, "bundle", store, "--k", 5, "--out", out, "--protocol", "each-click", "--unclicked-k", 2)
    arguments = [out / "baselines" / "popularity", out, "--metric", "hr@5", "--metric", "skipped@5", "--resamples", 200]
    answer = json.loads(run(compare, *arguments, "--strata", "--json").stdout)
    found = answer["comparisons"]
    assert [row["stratum"] for row in found] == ["0", "1-5", "6-20", ">20"] * 2
    assert sum(row["questions"] for row in found[:4]) == answer["questions"]
    printed = run(compare, *arguments, "--strata").stdout
    rows = [cells(line) for line in printed.splitlines() if line.startswith("│")]
    assert [row[2] for row in rows] == [row["stratum"] for row in found]
    assert [row[3] for row in rows] == [str(row["questions"]) for row in found]
    for row, shown in zip(found, rows, strict=True):
        assert shown[6] == (f"{row['difference']:+.4f}" if row["questions"] else "-")
    whole = run(compare, *arguments).stdout
    (having,) = [row["questions"] for row in json.loads(run(compare, *arguments, "--json").stdout)["comparisons"][1:]]
    assert 0 < having < answer["questions"]
    assert f"{out}, skipped@5: over the {having} questions that have a value of it" in whole


def test_a_folder_of_an_older_version_is_named(store, tmp_path):
    out, older = tmp_path / "out", tmp_path / "older"
    run(evaluate, "bundle", store, "--k", 5, "--out", out)
    older.mkdir()
    (older / "metrics.json").write_text((out / "metrics.json").read_text())
    table = pq.read_table(out / "per_user.parquet")
    kept = [name for name in table.column_names if name != "unclicked" and not name.startswith("skipped")]
    pq.write_table(table.select(kept), older / "per_user.parquet")
    done = run(compare, older, out, "--metric", "hr@5", "--strata", "--resamples", 100)
    assert done.exit_code == 0
    assert done.stderr == f"{older} without the column 'unclicked': strata by the other folders\n"


def test_json_is_what_the_file_holds(store, tmp_path):
    result = run(evaluate, "bundle", store, "--out", tmp_path / "out", "--json", "--exclude-seen", "--recent-window", "30s")
    assert json.loads(result.stdout) == json.loads((tmp_path / "out" / "metrics.json").read_text())
    metrics = json.loads(result.stdout)
    assert {f"{name}@{k}" for name in ("hr", "map", "coverage") for k in (20, 50, 100)} <= set(metrics)
    assert metrics["split"] == {"protocol": "time", "cut_off": CUT_OFF, "until": UNTIL}
    assert metrics["exclude_seen"] is True
    assert metrics["recent_window"] == 30


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Split("time", CUT_OFF, UNTIL)),
        ({"part": "validation"}, Split("time", CUT_OFF - 20, CUT_OFF)),
        ({"protocol": "each-click"}, Split("each-click", CUT_OFF, UNTIL)),
        ({"cut_off": "30s"}, Split("time", UNTIL + 50 - 30, UNTIL + 50)),
        ({"cut_off": str(CUT_OFF + 5), "until": "2020-09-13T12:28:00"}, Split("time", CUT_OFF + 5, CUT_OFF + 20)),
        ({"part": "validation", "cut_off": str(CUT_OFF - 10)}, Split("time", CUT_OFF - 10, CUT_OFF)),
    ],
)
def test_the_split_that_is_asked_for(options, expected):
    """The store has grown by 50 seconds since the bundle was trained."""
    arguments = {"part": "test", "protocol": None, "cut_off": None, "until": None} | options
    assert choose_split("bundle", {"split": OWN_SPLIT}, UNTIL + 50, **arguments) == expected


def test_a_period_that_was_learned_is_refused():
    with pytest.raises(UsageError, match=f"bundle was trained on clicks up to {CUT_OFF - 20}; with the cut-off {CUT_OFF - 21}"):
        choose_split("bundle", {"split": OWN_SPLIT}, UNTIL, "test", None, str(CUT_OFF - 21), None)
    with pytest.raises(BundleError, match="names no split"):
        choose_split("bundle", {}, UNTIL, "test", None, None, None)


def test_a_bundle_of_leave_last_out_knows_later_clicks_of_others():
    manifest = {"split": OWN_SPLIT | {"protocol": "last-click", "validation_from": START}}
    chosen = [choose_split("bundle", manifest, UNTIL, part, None, None, None) for part in ("test", "validation")]
    assert chosen == [Split("last-click", START, UNTIL, 1), Split("last-click", START, UNTIL, 2)]
    for protocol, cut_off in (("time", None), ("last-click", str(CUT_OFF))):
        with pytest.raises(UsageError, match="all but the last clicks of every user"):
            choose_split("bundle", manifest, UNTIL, "test", protocol, cut_off, None)


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_wrong_use_ends_with_two(command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "xdm", command, str(tmp_path / "a"), str(tmp_path / "b")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
