"""What all pictures share: colours that everyone tells apart, drawing without a display, files as PNG and SVG."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from xdm.schema import UsageError

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito: told apart by everyone
HATCHES = ("", "//", "..", "xx")  # and in print without colours
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
REPORT_FILE = "report.json"  # what a report was made from; says that a folder is a report's


def drawing() -> Any:
    """matplotlib's ``pyplot``, set to draw into files.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise UsageError("pictures need matplotlib, which is not installed: pip install '.[report]' in a checkout of xdm") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save_figure(figure: Any, folder: Path, name: str) -> None:
    """Write ``figure`` as ``folder/name.png`` and ``.svg`` and close it. The same figure gives the same files."""
    import matplotlib

    # Without these an SVG holds the time and random names.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", dpi=150)
    drawing().close(figure)


def bare(axes: Any) -> None:
    """Take the upper and the right line of the frame away."""
    axes.spines[["top", "right"]].set_visible(False)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table as CSV; numbers are written so that reading them gives the same number."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
