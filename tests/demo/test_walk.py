"""The demo end to end on a small world: every figure that it shows is one that the commands wrote."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from xdm.bundle.reading import read_manifest
from xdm.cli import COMMANDS, group
from xdm.demo.walk import KS, METRICS, MODELS
from xdm.schema import UsageError

TITLES = ("metric", "popularity", "recent popularity", "SDM", "XDM")


@dataclass(frozen=True)
class Demo:
    """A finished demo: its folder and what it printed."""

    out: Path
    printed: str

    def judged(self, model: str) -> dict:
        return json.loads((self.out / "results" / model / "metrics.json").read_text())

    def marker(self) -> dict:
        return json.loads((self.out / "demo.json").read_text())


def walked(out: Path, *options: str) -> str:
    """What ``xdm demo`` prints for a world of 200 users and one epoch; its error, where it ends with one."""
    words = ["demo", "--out", str(out), "--users", "200", "--epochs", "1", "--seed", "3", *options]
    result = CliRunner().invoke(group, words, catch_exceptions=True)
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    out = tmp_path_factory.mktemp("demo") / "demo"
    return Demo(out, walked(out))


def table_rows(text: str, first_cell: str) -> list[list[str]]:
    """Cells of the rows of Markdown and of terminal tables that begin with ``first_cell``."""
    rows = [[cell.strip() for cell in re.split("[|│┃]", line)[1:-1]] for line in text.splitlines()]
    return [row for row in rows if row and row[0] == first_cell]


def test_every_file_is_there_and_the_picture_is_one(demo):
    left = {path.name for path in demo.out.iterdir()}
    assert left == {"log", "store", "sdm", "sdm.run", "xdm", "xdm.run", "results", "report.md", "figure.png", "demo.json"}
    assert (demo.out / "figure.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert demo.marker()["finished"] is True
    assert [read_manifest(demo.out / model)["model"] for model in MODELS] == ["sdm", "xdm"]


def test_the_tables_hold_the_figures_of_metrics_json(demo):
    sdm, xdm = demo.judged("sdm"), demo.judged("xdm")
    columns = [sdm["baselines"]["popularity"], sdm["baselines"]["recent_popularity"], sdm, xdm]
    report = (demo.out / "report.md").read_text()
    assert tuple(table_rows(report, "metric")[0]) == tuple(table_rows(demo.printed, "metric")[-1]) == TITLES
    for metric in METRICS:
        cells = [metric, *(f"{figures[metric]:.4f}" for figures in columns)]
        assert cells == table_rows(report, metric)[0]
        assert cells in table_rows(demo.printed, metric)


def test_the_models_and_the_baselines_were_asked_the_same_questions_of_the_future(demo):
    sdm, xdm = demo.judged("sdm"), demo.judged("xdm")
    assert sdm["split"] == xdm["split"]
    assert sdm["users"] == xdm["users"] > 0
    assert sdm["baselines"] == xdm["baselines"]
    trained = [read_manifest(demo.out / model)["split"]["test_from"] for model in MODELS]
    assert trained == [sdm["split"]["cut_off"]] * 2


def test_the_differences_are_those_of_the_paired_test(demo):
    folders = [str(demo.out / "results" / model) for model in MODELS]
    chosen = [part for metric in METRICS for part in ("--metric", metric)]
    compared = json.loads(CliRunner().invoke(group, ["compare", *folders, *chosen, "--json"]).stdout)["comparisons"]
    report = (demo.out / "report.md").read_text()
    for row in compared:
        interval = f"{row['low']:+.4f} to {row['high']:+.4f}"
        cells = [row["metric"], f"{row['difference']:+.4f}", interval, f"{row['p']:.4f}", f"{row['p_holm']:.4f}"]
        assert table_rows(report, row["metric"])[1] == cells
        means = demo.judged("xdm")[row["metric"]] - demo.judged("sdm")[row["metric"]]
        assert row["difference"] == pytest.approx(means, abs=1e-12)


def test_the_user_shown_is_what_xdm_behaviours_prints(demo):
    user, cut_off = demo.marker()["user_id"], demo.judged("xdm")["split"]["cut_off"]
    words = ["behaviours", str(demo.out / "store"), "--user", str(user), "--at", str(cut_off), "--json"]
    behaviours = json.loads(CliRunner().invoke(group, words).stdout)
    items = pq.read_table(demo.out / "log" / "items.parquet").to_pylist()
    category = {item["item_id"]: item["category"] for item in items}

    def named(values: list[str]) -> str:
        return ", ".join(f"{item} ({category[item]})" for item in values) or "(none)"

    assert behaviours["unclicked"], "a user without an unclicked sequence would show nothing of it"
    for text in (demo.printed, (demo.out / "report.md").read_text()):
        assert f"user {user} at {cut_off}\n" in text
        assert re.search(r"unclicked: +(.*)", text)[1] == named(behaviours["unclicked"])
        assert re.search(r"latest session: +(.*)", text)[1] == named(behaviours["short"])
        assert re.search(r"before, by item: +(.*)", text)[1] == named(behaviours["long"]["item_id"])


def test_the_lists_are_the_recommendations_and_the_marks_are_right(demo):
    user, cut_off = demo.marker()["user_id"], demo.judged("xdm")["split"]["cut_off"]
    items = {row["item_id"]: row["category"] for row in pq.read_table(demo.out / "log" / "items.parquet").to_pylist()}
    log = [row for row in pq.read_table(demo.out / "log" / "exposures.parquet").to_pylist() if row["user_id"] == user]
    later = {row["item_id"] for row in log if row["clicked"] and row["timestamp"] >= cut_off}
    liked = {items[row["item_id"]] for row in log if row["clicked"] and row["timestamp"] < cut_off}
    unclicked = re.findall(r"i\d+", re.search(r"unclicked: +(.*)", demo.printed)[1])
    skipped = {items[item] for item in unclicked} - liked

    def mark(item: str) -> str:
        return "+" if item in later else "-" if items[item] in skipped else ""

    assert set(re.findall(r"\bi\d+", re.search(r"clicked later: +(.*)", demo.printed)[1])) == later
    shown = re.findall(r"^ +\d+  ([+-]?) +(i\d+) \(\S+\) +([+-]?) +(i\d+) \(\S+\)$", demo.printed, re.MULTILINE)
    assert len(shown) == min(10, *KS)
    for column, model in enumerate(MODELS):
        rows = pq.read_table(demo.out / "results" / model / "recommendations.parquet").to_pylist()
        best = sorted((row["rank"], row["item_id"]) for row in rows if row["user_id"] == user)[: len(shown)]
        assert [(row[2 * column], row[2 * column + 1]) for row in shown] == [(mark(item), item) for _, item in best]


def test_every_command_it_prints_is_one(demo):
    printed = [shlex.split(line.removeprefix("$ ")) for line in demo.printed.splitlines() if line.startswith("$ xdm ")]
    assert [words[1] for words in printed] == ["simulate", "prepare", "train", "train", "evaluate", "evaluate", "compare"]
    last = next(line for line in demo.printed.splitlines() if line.startswith("xdm serve "))
    for words in [*printed, shlex.split(last)]:
        assert words[1] in COMMANDS
        group.get_command(None, words[1]).make_context(words[1], words[2:])


def test_the_question_it_prints_is_answered(demo, tmp_path):
    from fastapi.testclient import TestClient

    from xdm.serving.app import create_app
    from xdm.serving.opening import open_service
    from xdm.serving.settings import ServeSettings
    from xdm.serving.telemetry import Telemetry

    words = shlex.split(next(line for line in demo.printed.splitlines() if line.startswith("curl ")))
    settings = ServeSettings(bundle=demo.out / "xdm", history=demo.out / "store", state=str(tmp_path / "state.sqlite"))
    header, body = words[words.index("-H") + 1], words[words.index("-d") + 1]
    app = create_app(open_service(settings, Telemetry()), settings)
    with TestClient(app, headers=dict([header.split(": ")])) as client:
        answer = client.post("/v1/recommend", content=body)
    assert answer.status_code == 200, answer.text
    rows = pq.read_table(demo.out / "results" / "xdm" / "recommendations.parquet").to_pylist()
    best = sorted((row["rank"], row["item_id"]) for row in rows if row["user_id"] == demo.marker()["user_id"])[:5]
    assert [item["item_id"] for item in answer.json()["items"]] == [item for _, item in best]


def test_again_in_its_own_folder_only_with_overwrite_and_only_over_its_own_files(demo, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in demo.out.rglob("*")}
    with pytest.raises(UsageError, match="--overwrite"):
        walked(demo.out)
    assert {path: path.stat().st_mtime_ns for path in demo.out.rglob("*")} == before

    out = tmp_path / "again"
    (out / "store").mkdir(parents=True)
    (out / "demo.json").write_text('{"finished": false}')  # a demo that was killed on the way
    (out / "store" / "rest").write_text("half a store")
    (out / "mine.txt").write_text("kept")
    walked(out, "--overwrite")
    assert (out / "mine.txt").read_text() == "kept"
    assert not (out / "store" / "rest").exists()
    for name in ("results/sdm/metrics.json", "results/xdm/metrics.json", "results/xdm/per_user.parquet"):
        assert (out / name).read_bytes() == (demo.out / name).read_bytes(), "the same seed gives the same figures"


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_a_folder_that_is_no_demo_is_left_alone(tmp_path, options):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "precious").write_text("kept")
    with pytest.raises(UsageError, match="left alone"):
        walked(tmp_path, *options)
    assert [path.name for path in tmp_path.rglob("*")] == ["store", "precious"]
    taken = tmp_path / "file"
    taken.write_text("kept")
    with pytest.raises(UsageError, match="not a folder"):
        walked(taken, *options)
    assert taken.read_text() == "kept"
