"""Pictures of judged runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from xdm.evaluation.records import PER_USER_FILE

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito: told apart by everyone, and in print
HATCHES = ("", "//", "..", "xx")


def draw_comparison(runs: dict[str, Path], metrics: tuple[str, ...], out: Path, title: str) -> Path:
    """Bars of the mean of each metric for each run (name to the folder of ``xdm evaluate``), with 95 % intervals of the mean
    over questions; written as PNG to ``out``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    width = 0.8 / len(runs)
    for number, (name, folder) in enumerate(runs.items()):
        rows = pq.read_table(folder / PER_USER_FILE, columns=list(metrics))
        values = [rows[metric].to_numpy() for metric in metrics]
        means = [float(value.mean()) for value in values]
        half = [1.96 * float(value.std(ddof=1)) / len(value) ** 0.5 if len(value) > 1 else 0.0 for value in values]
        places = np.arange(len(metrics)) + (number - (len(runs) - 1) / 2) * width
        axes.bar(places, means, width * 0.94, yerr=half, capsize=3, label=name,
                 color=COLOURS[number % 4], hatch=HATCHES[number % 4], edgecolor="white")  # fmt: skip
        for place, mean, error in zip(places, means, half, strict=True):
            axes.annotate(
                f"{mean:.3f}", (place, mean + error), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8
            )
    axes.set_xticks(np.arange(len(metrics)), metrics)
    axes.set_ylabel("mean over users, 95 % interval")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(out, dpi=150)
    pyplot.close(figure)
    return out
