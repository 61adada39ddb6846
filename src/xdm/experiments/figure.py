"""The figure of one log: means over seeds, and paired differences to the control."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from typing import Any

import matplotlib

from xdm.evaluation.comparing import Comparison

COLOUR, CONTROL_COLOUR = "#0072b2", "#d55e00"  # Okabe and Ito: told apart by everyone; the control has its own marker too
ROW_INCHES = 0.32


def draw_log(means: dict[str, dict[str, list[float]]], differences: Sequence[Comparison], control: str) -> bytes:
    """An SVG. Above, for each metric, every variant's mean over seeds (``means``: variant, metric, the runs' values), a
    dot a seed and a bar of one standard deviation; below the paired ``differences`` with their 95 % intervals."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    variants, metrics = list(means), list(next(iter(means.values())))
    others = list(dict.fromkeys(row.run for row in differences))
    heights = [max(len(variants), 2), *([max(len(others), 1)] if others else [])]
    size = (3.2 * len(metrics) + 1.6, ROW_INCHES * sum(heights) + 1.1 * len(heights))
    # The same figure twice is the same file twice.
    with matplotlib.rc_context({"svg.hashsalt": "xdm", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(
            len(heights), len(metrics), figsize=size, layout="constrained", squeeze=False, sharey="row",
            height_ratios=heights,
        )  # fmt: skip
        for column, metric in enumerate(metrics):
            _draw_means(axes[0][column], {name: means[name][metric] for name in variants}, metric, control)
            if others:
                own = {row.run: row for row in differences if row.metric == metric}
                _draw_differences(axes[1][column], [own[name] for name in others], control)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return buffer.getvalue()


def _draw_means(axes: Any, values: dict[str, list[float]], metric: str, control: str) -> None:
    for place, (name, seeds) in enumerate(reversed(values.items())):
        if not seeds:
            continue
        mean = statistics.mean(seeds)
        spread = statistics.stdev(seeds) if len(seeds) > 1 else 0.0
        colour, marker = (CONTROL_COLOUR, "D") if name == control else (COLOUR, "o")
        axes.errorbar(mean, place, xerr=spread, fmt=marker, color=colour, markersize=5, capsize=3)
        axes.plot(seeds, [place] * len(seeds), "|", color="#555555", markersize=7, markeredgewidth=0.8)
    axes.set_yticks(range(len(values)), list(reversed(values)))
    axes.set_ylim(-0.6, len(values) - 0.4)
    axes.set_title(f"{metric}: mean ± sd over seeds", fontsize=9)
    _plain(axes)


def _draw_differences(axes: Any, rows: Sequence[Comparison], control: str) -> None:
    for place, row in enumerate(reversed(rows)):
        if row.questions:
            axes.plot([row.low, row.high], [place, place], color=COLOUR, linewidth=2)
            axes.plot([row.difference], [place], "o", color=COLOUR, markersize=5)
    axes.axvline(0, color=CONTROL_COLOUR, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), [row.run for row in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_title(f"less {control}, 95 % interval", fontsize=9)
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=4)
