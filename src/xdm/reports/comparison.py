"""Pictures of judged runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from xdm.evaluation.comparing import Comparison
from xdm.evaluation.records import PER_USER_FILE
from xdm.reports.style import COLOURS, HATCHES, bare, drawing


def draw_comparison(runs: dict[str, Path], differences: list[Comparison], out: Path, title: str) -> Path:
    """Write a PNG of two panels to ``out`` and return it.

    Left: for each metric of ``differences`` the mean of each run (name to the folder of ``xdm evaluate``) over its
    questions. Right: the paired ``differences`` of the second run to the first with their 95 % intervals. The interval of a
    mean says little about a difference between two answers to the same questions, so only the right panel has intervals.
    """
    pyplot = drawing()
    figure, (bars, intervals) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained", width_ratios=(3, 2))
    _draw_means(bars, runs, [row.metric for row in differences])
    _draw_differences(intervals, differences, list(runs))
    figure.suptitle(title)
    for axes in (bars, intervals):
        bare(axes)
    figure.savefig(out, dpi=150)
    pyplot.close(figure)
    return out


def _draw_means(axes: Any, runs: dict[str, Path], metrics: list[str]) -> None:
    width = 0.8 / len(runs)
    for number, (name, folder) in enumerate(runs.items()):
        rows = pq.read_table(folder / PER_USER_FILE, columns=metrics)
        means = [float(rows[metric].to_numpy().mean()) for metric in metrics]
        places = np.arange(len(metrics)) + (number - (len(runs) - 1) / 2) * width
        style = {"color": COLOURS[number % len(COLOURS)], "hatch": HATCHES[number % len(HATCHES)], "edgecolor": "white"}
        drawn = axes.bar(places, means, width * 0.94, label=name, **style)
        axes.bar_label(drawn, fmt="%.2f", fontsize=7, padding=2)
    axes.set_xticks(np.arange(len(metrics)), metrics)
    axes.set_ylabel("mean over questions")
    axes.set_title("Means", fontsize=10)
    axes.margins(y=0.2)  # room for the legend above the bars
    axes.legend(frameon=False, ncols=len(runs), loc="upper left", fontsize=8)


def _draw_differences(axes: Any, differences: list[Comparison], names: list[str]) -> None:
    places = np.arange(len(differences))[::-1]
    for place, row in zip(places, differences, strict=True):
        axes.plot([row.low, row.high], [place, place], color="black", linewidth=2, solid_capstyle="butt")
        axes.plot([row.difference], [place], "o", color=COLOURS[1])
        axes.annotate(
            f"{row.difference:+.4f}, p = {row.p_holm:.4f}", (row.difference, place), xytext=(0, 7),
            textcoords="offset points", ha="center", fontsize=8,
        )  # fmt: skip
    axes.axvline(0, color="grey", linewidth=1, linestyle="--")
    axes.set_yticks(places, [row.metric for row in differences])
    axes.set_ylim(-0.6, len(differences) - 0.4)
    axes.margins(x=0.15)
    axes.set_xlabel(f"{names[-1]} less {names[0]}; 95 % interval, p after Holm")
    axes.set_title("Paired differences", fontsize=10)
