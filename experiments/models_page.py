"""The tables of docs/models.md from the results of experiments/zoo.yaml.

    python experiments/models_page.py results/zoo docs/models.md

Rewrites what stands between ``<!-- NAME -->`` and ``<!-- end -->`` in the page: ``LOG`` for the table of a log, ``skips LOG`` for each
encoder with and without the unclicked extension on it. Variants called ``X+skips`` are X with the extension.
"""

from __future__ import annotations

import argparse
import re
import statistics
from pathlib import Path

import pyarrow.parquet as pq

from xdm.evaluation.comparing import Comparison, compare_variants
from xdm.experiments.report import DIFFERENCES_FILE, RESULTS_FILE, markdown_table

SKIPS = "+skips"
Row = dict[str, object]


def runs_of(rows: list[Row], log: str, variant: str, metric: str) -> list[Row]:
    return [row for row in rows if (row["log"], row["variant"], row["metric"]) == (log, variant, metric)]


def number(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def mean_and_spread(values: list[float]) -> str:
    spread = f" ± {number(statistics.stdev(values))}" if len(values) > 1 else ""
    return number(statistics.mean(values)) + spread


def interval(low: float, high: float) -> str:
    return f"[{low:+.4f}, {high:+.4f}]".replace("+0.", "+.").replace("-0.", "−.")


def costs(runs: list[Row]) -> list[str]:
    """Processor seconds of a run (the training alone where it is known), milliseconds of an answer, MB."""

    def median(name: str) -> float | None:
        values = [float(str(run[name])) for run in runs if run.get(name) is not None]
        return statistics.median(values) if values else None

    training, whole, answer = median("train_cpu_seconds"), median("cpu_seconds"), median("answer_cpu_ms")
    seconds = whole if training is None else training
    return [
        "–" if seconds is None else f"{seconds:,.0f}", "–" if answer is None else f"{answer:.1f}",
        f"{median('peak_memory_mb'):,.0f}",
    ]  # fmt: skip


def log_table(rows: list[Row], differences: list[Row], log: str) -> str:
    """Every model on one log, best first by the first metric; with its 95 % interval against the control."""
    own = [row for row in rows if row["log"] == log and not str(row["variant"]).endswith(SKIPS)]
    metrics = [m for m in dict.fromkeys(row["metric"] for row in differences if row["log"] == log) if "skipped" not in str(m)]
    found = []
    for variant in dict.fromkeys(str(row["variant"]) for row in own):
        by_metric = {str(m): [float(str(r["value"])) for r in runs_of(own, log, variant, str(m))] for m in metrics}
        against = [
            row for row in differences
            if (row["log"], row["run"], row["metric"], row["stratum"]) == (log, variant, metrics[0], "all")
        ]  # fmt: skip
        bounds = interval(float(str(against[0]["low"])), float(str(against[0]["high"]))) if against else "control"
        runs = runs_of(own, log, variant, str(metrics[0]))
        cells = [variant, *(mean_and_spread(values) for values in by_metric.values()), bounds, *costs(runs)]
        found.append((statistics.mean(by_metric[str(metrics[0])]), cells))
    found.sort(key=lambda one: -one[0])
    head = ["variant", *map(str, metrics), f"{metrics[0]} less the control's", "CPU s", "ms an answer", "MB"]
    return markdown_table(head, [cells for _, cells in found])


def skips_table(results: Path, rows: list[Row], log: str, metric: str) -> str:
    """Each encoder with the extension against itself without it, paired by question, seeds averaged first."""
    with_skips = [str(row["variant"]) for row in rows if row["log"] == log and str(row["variant"]).endswith(SKIPS)]
    compared: list[Comparison] = []
    for variant in dict.fromkeys(with_skips):
        plain, skipped = (
            sorted((results / "runs" / log / name).glob("seed-*/results")) for name in (variant.removesuffix(SKIPS), variant)
        )
        if plain and len(plain) == len(skipped):
            compared += compare_variants(plain, {variant.removesuffix(SKIPS): skipped}, [metric])
    compared.sort(key=lambda one: -one.difference)
    head = ["variant", "without skips", "with skips", "difference", "95 % interval", "p"]
    return markdown_table(
        head,
        [
            [one.run, number(one.reference_mean), number(one.mean), f"{one.difference:+.4f}".replace("0.", ".").replace("-", "−"),
             interval(one.low, one.high), f"{one.p:.4f}"]
            for one in compared
        ],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    asked = parser.parse_args()
    rows = pq.read_table(asked.results / RESULTS_FILE).to_pylist()
    differences = pq.read_table(asked.results / DIFFERENCES_FILE).to_pylist()

    def table(name: str) -> str:
        log = name.removeprefix("skips ")
        if log not in {row["log"] for row in rows}:
            raise SystemExit(f"{asked.page} asks for the log {log}, of which {asked.results} has no run")
        if name != log:
            first = next(str(row["metric"]) for row in differences if row["log"] == log)
            return skips_table(asked.results, rows, log, first)
        return log_table(rows, differences, log)

    text = asked.page.read_text()
    text = re.sub(
        r"<!-- (?!end)([\w ]+) -->\n.*?<!-- end -->",
        lambda found: f"<!-- {found[1]} -->\n{table(found[1])}\n<!-- end -->", text, flags=re.DOTALL,
    )  # fmt: skip
    asked.page.write_text(text)


if __name__ == "__main__":
    main()
