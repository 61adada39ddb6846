"""The report's figures, recomputed in plain Python from the records of every question."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from xdm.experiments.page import html_page
from xdm.experiments.report import markdown_table, write_report

STRATA = {"0": range(1), "1-5": range(1, 6), "6-20": range(6, 21), ">20": range(21, 10_000)}


@pytest.fixture(scope="module")
def written(grid):
    """The grid's folder with the report of its own file (tests before may have written another)."""
    write_report(grid)
    return grid.out


def rows_of(out: Path, variant: str) -> list[list[dict]]:
    """The records of a variant, a list a run, each in the order of users."""
    paths = sorted((out / "runs" / "log" / variant).glob("*/results/per_user.parquet"))
    return [sorted(pq.read_table(path).to_pylist(), key=lambda row: row["user_id"]) for path in paths]


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """By heading, the rows of the first table below it."""
    found: dict[str, list[dict[str, str]]] = {}
    heading, head = "", None
    for line in text.splitlines():
        if line.startswith("#"):
            heading, head = line.lstrip("# "), None
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if head is None:
                head = cells
            elif not set(line) <= set("|:- "):
                found.setdefault(heading, []).append(dict(zip(head, cells, strict=True)))
    return found


def test_means_and_spreads(grid, written):
    shown = {row["variant"]: row for row in tables((written / "report.md").read_text())["log"]}
    assert list(shown) == ["popularity", "sdm", "tuned"]
    for variant, row in shown.items():
        runs = rows_of(written, variant)
        assert row["runs"] == str(len(runs))
        for metric in grid.file.metrics:
            means = [statistics.fmean(question[metric] for question in run) for run in runs]
            wanted = f"{statistics.fmean(means):.4f}" + (f" ± {statistics.stdev(means):.4f}" if len(means) > 1 else "")
            assert row[metric] == wanted
    assert (shown["tuned"]["trials"], shown["sdm"]["trials"]) == ("2", "")


def test_differences_average_the_seeds_of_a_question_first(grid, written):
    found = tables((written / "report.md").read_text())
    whole = found["log: paired differences to sdm"]
    strata = found["log: by number of unclicked items at the question"]
    asked: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    control = rows_of(written, "sdm")
    for variant in ("popularity", "tuned"):
        own = rows_of(written, variant)
        for place, question in enumerate(control[0]):
            for metric in grid.file.metrics:
                pair = tuple(statistics.fmean(run[place][metric] for run in runs) for runs in (control, own))
                asked[variant, metric, "all"].append(pair)
                stratum = next(name for name, numbers in STRATA.items() if question["unclicked"] in numbers)
                asked[variant, metric, stratum].append(pair)
    assert len(whole) == 4
    assert {row["unclicked"] for row in strata} == {key[2] for key in asked} - {"all"}
    for row in [row | {"unclicked": "all"} for row in whole] + strata:
        pairs = asked[row["variant"], row["metric"], row["unclicked"]]
        first, second = (statistics.fmean(values) for values in zip(*pairs, strict=True))
        assert (row["control"], row["variant's"]) == (f"{first:.4f}", f"{second:.4f}")
        assert float(row["difference"]) == pytest.approx(second - first, abs=6e-5)
        low, high = map(float, re.findall(r"[+-][\d.]+", row["95 % interval"]))
        assert low <= float(row["difference"]) + 1e-4
        assert float(row["difference"]) - 1e-4 <= high
        assert row.get("questions", str(len(pairs))) == f"{len(pairs):,}"


def test_holm_is_over_the_variants_and_metrics_of_the_log(written):
    rows = pq.read_table(written / "differences.parquet").to_pylist()
    families = [[row for row in rows if (row["stratum"] == "all") == whole and row["questions"]] for whole in (True, False)]
    assert [len(family) > 3 for family in families] == [True, True]
    for family in families:
        running = 0.0
        for place, row in enumerate(sorted(family, key=lambda row: row["p"])):
            running = max(running, min(1.0, row["p"] * (len(family) - place)))
            assert row["p_holm"] == pytest.approx(running)


def test_results_are_tidy(grid, written):
    table = pq.read_table(written / "results.parquet")
    rows = table.to_pylist()
    keys = [(row["log"], row["variant"], row["seed"], row["metric"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert {key[:3] for key in keys} == {
        ("log", "popularity", None), *(("log", variant, seed) for variant in ("sdm", "tuned") for seed in (1, 2)),
    }  # fmt: skip
    for row in rows:
        seed = "once" if row["seed"] is None else f"seed-{row['seed']}"
        records = pq.read_table(written / "runs/log" / row["variant"] / seed / "results/per_user.parquet")
        assert row["questions"] == len(records)
        if row["metric"] in records.column_names and not row["metric"].startswith("skipped"):
            assert row["value"] == pytest.approx(statistics.fmean(records[row["metric"]].to_pylist()))
        searched = row["variant"] == "tuned"
        assert row["trials"] == (2 if searched else None)
        assert row["objective.margin"] == (grid.found["log", "tuned"].values["objective.margin"] if searched else None)
        assert row["training.epochs"] == (None if row["variant"] == "popularity" else 2)
    hashes = {row["variant"]: {r["config_hash"] for r in rows if r["variant"] == row["variant"]} for row in rows}
    assert {variant: len(found) for variant, found in hashes.items()} == {"popularity": 1, "sdm": 2, "tuned": 2}


def test_the_report_says_what_a_reader_must_know(grid, written):
    text = (written / "report.md").read_text()
    found = tables(text)
    (search,) = found["Searches"]
    assert (search["variant"], search["trials"], search["failed"]) == ("tuned", "2", "0")
    assert math.isclose(float(search["validation"]), grid.found["log", "tuned"].value, abs_tol=6e-5)
    assert "before the test part" in text
    assert {row["variant"]: row["model"] for row in found["Variants"]} == {
        "popularity": "popularity", "sdm": "sdm", "tuned": "xdm",
    }  # fmt: skip
    assert "5 of 5 runs" in text
    assert str(written) not in text


def test_the_page_needs_nothing_beside_it(grid, written):
    page = (written / "report.html").read_text()
    assert page.count("<table>") == (written / "report.md").read_text().count("\n| :--")
    assert "data:image/svg+xml;base64," in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    figure = (written / "figures" / "log.svg").read_text()
    for word in ("sdm", "tuned", "hr@5", "recall@10"):
        assert word in figure
    before = (written / "figures" / "log.svg").read_bytes()
    write_report(grid)
    assert (written / "figures" / "log.svg").read_bytes() == before


def test_a_page_shows_text_as_text(tmp_path):
    page = html_page("a & b", "# <script>x</script>\n\n" + markdown_table(["variant", "n"], [["a|b", 1]]), tmp_path)
    assert "<title>a &amp; b</title>" in page
    assert "<script>" not in page
    assert "<td style=\"text-align:left\">a|b</td>" in page
