"""Write the tables of `docs/models.md` from the runs of `experiments/zoo.yaml`.

    python experiments/models_page.py results/zoo docs/models.md

Between ``<!-- LOG -->`` and ``<!-- / -->`` comes a row a variant, the best first: means over seeds, the difference to the control
paired by question, and what it cost (of rolling windows the whole run: no part of it is timed). Between ``<!-- skips LOG -->`` and
``<!-- / -->`` comes a row for each variant that has one like it with the unclicked extension: both, and their paired difference,
Holm's correction over the rows. ``figures/LOG.svg`` beside the page shows them. What else the page says is written by hand; a
log that has no place in the page is an error, and the tables of a log that was not run stay as they are.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow.parquet as pq

from xdm.evaluation.bootstrap import holm
from xdm.evaluation.comparing import Comparison, compare_variants

METRICS = ("recall@50", "ndcg@10")
SKIPS = "+skips"
PLACE = re.compile(r"<!-- (skips )?(\w+) -->\n.*?<!-- / -->", re.S)

Rows = dict[tuple[str, str], list[dict[str, Any]]]  # by variant and metric, one a seed


def without_zero(value: float, digits: int = 4) -> str:
    """``.1650``, with its sign where it is below zero."""
    return f"{value:.{digits}f}".replace("0.", ".", 1).replace("-", "−")


def spread(values: list[float]) -> str:
    """The mean of the seeds, ± their standard deviation."""
    mean = without_zero(statistics.mean(values))
    return mean if len(values) < 2 else f"{mean} ± {without_zero(statistics.stdev(values))}"


def interval(one: Comparison, p_holm: float) -> str:
    """The difference with its interval; bold where it stands after Holm's correction."""
    text = f"{'+' if one.difference > 0 else ''}{without_zero(one.difference)} [{without_zero(one.low)}, {without_zero(one.high)}]"
    return f"**{text}**" if p_holm < 0.05 else text


def mean_of(rows: list[dict[str, Any]], column: str, digits: int) -> str:
    """The mean of a cost over the seeds, – where there is none."""
    found = [row[column] for row in rows if row[column] is not None]
    return f"{statistics.mean(found):,.{digits}f}" if found else "–"


def epochs(rows: list[dict[str, Any]]) -> str:
    """How many epochs were begun, * where the budget ended one of the trainings."""
    cut = "*" if any(row["stopped_by"] == "cpu_seconds" for row in rows) else ""
    return mean_of(rows, "epochs", 1) + cut


def table(header: str, lines: list[str]) -> str:
    cells = header.count("|") - 1
    return "\n".join([header, "|" + " --- |" * cells, *lines])


def of_log(rows: Rows, found: list[Comparison], control: str) -> str:
    """A row for each variant without the extension, by falling first metric."""
    against = {one.run: one for one in found if one.metric == METRICS[0]}
    names = sorted(
        (name for name, metric in rows if metric == METRICS[0] and not name.endswith(SKIPS)),
        key=lambda name: -statistics.mean(row["value"] for row in rows[name, METRICS[0]]),
    )
    rolling = all(row["epochs"] is None for name in names for row in rows[name, METRICS[0]])
    head = f"| model | Recall@50 | NDCG@10 | Recall@50 against {control} |"
    head += " whole run, CPU s |" if rolling else " epochs | training, CPU s | one answer, CPU ms |"
    lines = []
    for name in names:
        first, *more = (rows[name, metric] for metric in METRICS)
        figures = [spread([row["value"] for row in of]) for of in (first, *more)]
        beside = "control" if name == control else interval(against[name], against[name].p_holm)
        if rolling:
            costs = [mean_of(first, "cpu_seconds", 0)]
        else:
            costs = [epochs(first), mean_of(first, "train_cpu_seconds", 0), mean_of(first, "answer_cpu_ms", 2)]
        lines.append("| " + " | ".join([name, *figures, beside, *costs]) + " |")
    return table(head, lines)


def of_skips(rows: Rows, folders: dict[str, list[Path]]) -> str:
    """A row for each variant that there is with the extension too, by falling gain; Holm over all rows."""
    pairs = [name.removesuffix(SKIPS) for name in folders if name.endswith(SKIPS)]
    found = {name: compare_variants(folders[name], {name: folders[name + SKIPS]}, METRICS)[0] for name in pairs}
    corrected = dict(zip(found, holm(np.array([one.p for one in found.values()])), strict=True))
    lines = []
    for name, one in sorted(found.items(), key=lambda pair: -pair[1].difference):
        both = [spread([row["value"] for row in rows[variant, METRICS[0]]]) for variant in (name, name + SKIPS)]
        seconds = [mean_of(rows[variant, METRICS[0]], "cpu_seconds", 0) for variant in (name, name + SKIPS)]
        lines.append("| " + " | ".join([name, *both, interval(one, corrected[name]), " → ".join(seconds)]) + " |")
    return table("| model | Recall@50 without | with skips | difference | whole run, CPU s |", lines)


def draw(rows: Rows, path: Path) -> None:
    """A row a model, the best first: the mean of its seeds, a bar of one standard deviation, and beside it the same with skips."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    seeds = {name: [row["value"] for row in of] for (name, metric), of in rows.items() if metric == METRICS[0]}
    names = sorted((name for name in seeds if not name.endswith(SKIPS)), key=lambda name: statistics.mean(seeds[name]))
    looks = (("", "#0072b2", "o", "clicks alone"), (SKIPS, "#d55e00", "D", "with the unclicked extension"))
    with matplotlib.rc_context({"svg.hashsalt": "xdm", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(7, 0.23 * len(names) + 1), layout="constrained")
        for suffix, colour, marker, label in looks:
            shown = [place for place, name in enumerate(names) if name + suffix in seeds]
            if not shown:
                continue
            of = [seeds[names[place] + suffix] for place in shown]
            spreads = [statistics.stdev(one) if len(one) > 1 else 0.0 for one in of]
            axes.errorbar([statistics.mean(one) for one in of], shown, xerr=spreads, fmt=marker, color=colour,
                          markersize=4.5, linewidth=1, label=label, fillstyle="none" if suffix else "full")  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.set_xlabel("Recall@50, mean ± standard deviation of the seeds")
        axes.grid(color="#eeeeee")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the tables of the models' page.")
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("--control", default="sdm")
    asked = parser.parse_args()
    by_log: dict[str, Rows] = defaultdict(lambda: defaultdict(list))
    for row in pq.read_table(asked.results / "results.parquet").to_pylist():
        by_log[row["log"]][row["variant"], row["metric"]].append(row)
    page = asked.page.read_text()
    places = {log for _, log in PLACE.findall(page)}
    if missing := set(by_log) - places:
        parser.error(f"{asked.page} has no place for {', '.join(sorted(missing))}")

    def filled(match: re.Match[str]) -> str:
        skips, log = match.groups()
        if log not in by_log:
            return match.group()
        variants = dict.fromkeys(name for name, _ in by_log[log])
        folders = {name: sorted((asked.results / "runs" / log / name).glob("*/results")) for name in variants}
        if skips:
            text = of_skips(by_log[log], folders)
        else:
            others = {name: of for name, of in folders.items() if name != asked.control and not name.endswith(SKIPS)}
            text = of_log(by_log[log], compare_variants(folders[asked.control], others, METRICS), asked.control)
        return f"<!-- {skips or ''}{log} -->\n{text}\n<!-- / -->"

    asked.page.write_text(PLACE.sub(filled, page))
    for log, rows in by_log.items():
        draw(rows, asked.page.parent / "figures" / f"{log}.svg")


if __name__ == "__main__":
    main()
