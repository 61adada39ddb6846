"""The tables of the models' page: what stands in them is what the runs say."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.experiments.files import write_file
from xdm.evaluation.comparing import compare_variants
from xdm.experiments.file import read_file
from xdm.experiments.running import run_experiment

SCRIPT = Path(__file__).parents[2] / "experiments" / "models_page.py"
VARIANTS = {
    "popularity": {"model": "popularity"}, "sdm": {"model": "sdm"}, "gru": {"model": "sdm", "training.epochs": 1},
    "gru+skips": {"model": "xdm", "training.epochs": 1},
}  # fmt: skip
PAGE = "Before.\n\n<!-- log -->\nold\n<!-- / -->\n\nBetween.\n\n<!-- skips log -->\n<!-- / -->\n\nAfter.\n"


@pytest.fixture(scope="module")
def results(simulated, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    path = write_file(folder, simulated, variants=VARIANTS, seeds=[1, 2], ks=[10, 50], metrics=["recall@50"])
    return run_experiment(read_file(path), folder / "out").out


def written(results: Path, page: Path, text: str = PAGE) -> subprocess.CompletedProcess[str]:
    page.write_text(text)
    return subprocess.run([sys.executable, SCRIPT, results, page], capture_output=True, text=True)


def recalls(results: Path, variant: str) -> list[float]:
    paths = sorted((results / "runs" / "log" / variant).glob("*/results/metrics.json"))
    return [json.loads(path.read_text())["recall@50"] for path in paths]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_the_tables_say_what_the_runs_say_and_the_rest_stays(results, tmp_path):
    page = tmp_path / "page.md"
    done = written(results, page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert (text.startswith("Before.\n\n<!-- log -->\n|"), "\n\nBetween.\n\n" in text, "old" in text) == (
        True,
        True,
        False,
    )
    assert text.endswith("\n<!-- / -->\n\nAfter.\n")
    first, second = re.findall(r"-->\n(\|.*?)\n<!-- / -->", text, re.S)
    rows = {cells(line)[0]: cells(line)[1:] for line in first.splitlines()[2:]}
    assert list(rows) == sorted(rows, key=lambda name: -statistics.mean(recalls(results, name)))
    assert set(rows) == {"popularity", "sdm", "gru"}
    for name, row in rows.items():
        of = recalls(results, name)
        spread = f" ± {statistics.stdev(of):.4f}" if len(of) > 1 else ""
        assert row[0] == f"{statistics.mean(of):.4f}{spread}".replace("0.", ".")
    assert rows["sdm"][2] == "control"
    assert (rows["gru"][3], rows["sdm"][3], rows["popularity"][3]) == ("1.0", "2.0", "–")
    [row] = [cells(line) for line in second.splitlines()[2:]]
    folders = {name: sorted((results / "runs" / "log" / name).glob("*/results")) for name in ("gru", "gru+skips")}
    one = compare_variants(folders["gru"], {"with": folders["gru+skips"]}, ("recall@50", "ndcg@10"))[0]
    assert row[0] == "gru"
    figures = [float(found.replace("−", "-")) for found in re.findall(r"[+−]?\.\d{4}", row[3])]
    assert figures == pytest.approx([one.difference, one.low, one.high], abs=5.1e-5)
    assert row[3].startswith("**") == (one.p < 0.05)
    picture = (tmp_path / "figures" / "log.svg").read_text()
    assert all(f">{name}<" in picture for name in rows)


def test_a_log_without_a_place_is_told_and_a_place_without_a_log_stays(results, tmp_path):
    page = tmp_path / "page.md"
    done = written(results, page, "Nothing.\n")
    assert (done.returncode, "has no place for log" in done.stderr) == (2, True)
    assert page.read_text() == "Nothing.\n"
    other = "<!-- other -->\n| what stood there |\n<!-- / -->\n"
    assert written(results, page, PAGE + other).returncode == 0
    assert page.read_text().endswith(other)


def test_of_rolling_windows_the_whole_run_is_told(results, tmp_path):
    copy, page = tmp_path / "rolling", tmp_path / "page.md"
    shutil.copytree(results, copy)
    table = pq.read_table(copy / "results.parquet")
    place = table.schema.get_field_index("epochs")
    pq.write_table(table.set_column(place, "epochs", pa.nulls(len(table), pa.int64())), copy / "results.parquet")
    assert written(copy, page).returncode == 0
    header, _, *lines = re.findall(r"-->\n(\|.*?)\n<!-- / -->", page.read_text(), re.S)[0].splitlines()
    assert cells(header)[4:] == ["whole run, CPU s"]
    seconds = [one["cpu_seconds"] for one in table.to_pylist() if (one["variant"], one["metric"]) == ("gru", "recall@50")]
    assert [cells(line)[4] for line in lines if cells(line)[0] == "gru"] == [f"{statistics.mean(seconds):,.0f}"]
