"""The case study as a folder: a picture like the paper's table, the same as Markdown, and all of it as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xdm.folders import new_folder, write_bytes, write_json
from xdm.reports.case import BOTH, CLICKED, NEITHER, SIGNS, UNCLICKED, Case, Shown
from xdm.reports.style import COLOURS, REPORT_FILE, drawing, save_figure, write_csv
from xdm.schema import ITEM_ID, RANK

NAME = "case"
TINTS = {UNCLICKED: "#f6cfb8", BOTH: "#f7efad", CLICKED: "#cbe4f3", NEITHER: "#f3f3f3"}
HIT_COLOUR = COLOURS[2]
MEANING = {
    UNCLICKED: "only unclicked", BOTH: "unclicked and clicked", CLICKED: "only clicked", NEITHER: "neither",
}  # fmt: skip
HIT = "✓"
COLUMN_WIDTH, ROW_HEIGHT = 1.95, 0.3  # inches


def columns_of(case: Case) -> dict[str, list[Shown]]:
    """Title to items: the columns of the paper's table."""
    lists = {f"{name}'s list": items for name, items in case.lists.items()}
    return {"clicked": case.clicked, "unclicked": case.unclicked, **lists, "clicked later": case.truth}


def sentences(case: Case) -> list[str]:
    """How many items of unclicked categories the lists hold: for this user and, where one was chosen, on average."""
    k = max(map(len, case.lists.values()))
    said = [f"Of {k} items, of unclicked categories: " + ", ".join(f"{name} {n}" for name, n in case.counts.items())]
    if case.average is not None:
        means = ", ".join(f"{name} {mean:.2f}" for name, mean in case.average.counts.items())
        said.append(f"Average over all {case.average.users:,} users who could have been chosen: {means}")
    return said


def who(case: Case) -> str:
    """Whose case it is, and when."""
    return f"user {case.user_id} at {datetime.fromtimestamp(case.at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def write_case(case: Case, out: Path, facts: dict[str, Any], *, title: str, rows: int, overwrite: bool = False) -> None:
    """Write ``case`` as the folder ``out``: ``case.png``, ``case.svg`` and ``case.md`` with at most ``rows`` items of each
    column, ``case.csv`` with all, and ``report.json`` with ``facts``.

    Raises:
        UsageError: ``out`` may not be written, or matplotlib is not installed.
    """
    with new_folder(out, REPORT_FILE, overwrite=overwrite) as folder:
        _draw(case, folder, title, rows)
        write_bytes(folder / f"{NAME}.md", _markdown(case, title, rows).encode())
        write_csv(folder / f"{NAME}.csv", ("list", RANK, ITEM_ID, case.category, "mark", "clicked_later"), _csv_rows(case))
        average = None if case.average is None else asdict(case.average)
        write_json(folder / REPORT_FILE, {
            "report": "case", **facts, "user_id": case.user_id, "at": case.at, "until": case.until, "why": case.why,
            "of_unclicked_categories": case.counts, "average": average,
        })  # fmt: skip


def _csv_rows(case: Case) -> Iterator[tuple[Any, ...]]:
    for title, items in columns_of(case).items():
        for place, item in enumerate(items, start=1):
            category = "" if item.category is None else item.category
            yield title.removesuffix("'s list"), place, item.item_id, category, item.mark, int(item.hit)


def _markdown(case: Case, title: str, rows: int) -> str:
    shown = columns_of(case)

    def cell(items: list[Shown], place: int) -> str:
        if place >= len(items):
            return ""
        if place == rows - 1 and len(items) > rows:
            return f"… and {len(items) - place} more"
        item = items[place]
        text = f"{SIGNS[item.mark]} {item.category} ({item.item_id}) {HIT if item.hit else ''}".strip()
        return text.replace("|", "\\|")

    height = min(rows, max(map(len, shown.values())))
    lines = [f"# {title}: {who(case)}", "", case.why[0].upper() + case.why[1:] + ".", "", ". ".join(sentences(case)) + ".", ""]
    lines += [_row("", *shown), _row("---:", *("---" for _ in shown))]
    lines += [_row(str(place + 1), *(cell(items, place) for items in shown.values())) for place in range(height)]
    signs = "; ".join(f"{sign} {MEANING[mark]}" for mark, sign in SIGNS.items() if sign)
    lines += [
        "", f"Items whose {case.category} was: {signs}; {HIT} clicked later. Clicked and unclicked: the latest first.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _draw(case: Case, folder: Path, title: str, rows: int) -> None:
    pyplot, shown = drawing(), columns_of(case)
    height = min(rows, max(map(len, shown.values())))
    width, above, below = COLUMN_WIDTH * len(shown) + 0.4, 1.45, 0.45
    figure = pyplot.figure(figsize=(width, above + height * ROW_HEIGHT + below))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-0.4, width - 0.4)  # inches, so that what fits can be measured
    axes.set_ylim(-below, height * ROW_HEIGHT + above)
    axes.axis("off")
    top = height * ROW_HEIGHT
    _text(axes, -0.3, top + 1.2, f"{title}: {who(case)}", width - 0.2, fontsize=14)
    for place, said in enumerate(sentences(case)):
        _text(axes, -0.3, top + 0.89 - 0.25 * place, said, width - 0.2, fontsize=11)
    for place in range(height):
        _text(axes, -0.1, top - (place + 0.5) * ROW_HEIGHT, str(place + 1), 1, ha="right", color="#555555")
    for column, (name, items) in enumerate(shown.items()):
        left = column * COLUMN_WIDTH
        _text(axes, left + 0.05, top + 0.2, name, COLUMN_WIDTH - 0.12, fontsize=12, fontweight="bold")
        for place, item in enumerate(items[:height]):
            middle = top - (place + 0.5) * ROW_HEIGHT
            if place == height - 1 and len(items) > height:
                _text(axes, left + 0.08, middle, f"… and {len(items) - place} more", COLUMN_WIDTH, color="#555555")
            else:
                _draw_item(axes, item, left, middle)
    _draw_legend(axes, case.category)
    save_figure(figure, folder, NAME)


def _draw_item(axes: Any, item: Shown, left: float, middle: float) -> None:
    from matplotlib.patches import Rectangle

    edge: dict[str, Any] = {"edgecolor": HIT_COLOUR, "linewidth": 2} if item.hit else {"edgecolor": "none"}
    size = COLUMN_WIDTH - 0.12, ROW_HEIGHT - 0.05
    axes.add_patch(Rectangle((left, middle - size[1] / 2), *size, facecolor=TINTS[item.mark], **edge))
    _text(axes, left + 0.13, middle, SIGNS[item.mark], 1, fontsize=11, ha="center", fontweight="bold")
    tail = f"{HIT} {item.item_id}" if item.hit else str(item.item_id)
    used = _text(axes, left + size[0] - 0.06, middle, tail, size[0] / 2, fontsize=9, ha="right", color="#333333")
    # The category tells more than the id, but the id stays whole where it takes no more than half.
    category = "(none)" if item.category is None else str(item.category)
    _text(axes, left + 0.25, middle, category, size[0] - 0.25 - 0.06 - used - 0.08)


def _draw_legend(axes: Any, category: str) -> None:
    from matplotlib.patches import Rectangle

    left = 0.2 + _text(axes, 0.0, -0.21, f"{category}:", COLUMN_WIDTH - 0.6)
    for mark, meaning in {**MEANING, HIT: "clicked later"}.items():
        hit = mark == HIT
        edge: dict[str, Any] = {"edgecolor": HIT_COLOUR if hit else "#999999", "linewidth": 2 if hit else 0.5}
        axes.add_patch(Rectangle((left, -0.31), 0.24, 0.2, facecolor="white" if hit else TINTS[mark], **edge))
        _text(axes, left + 0.12, -0.21, HIT if hit else SIGNS[mark], 1, ha="center", fontweight="bold")
        left += 0.32 + _text(axes, left + 0.32, -0.21, meaning, COLUMN_WIDTH) + 0.25


def _text(axes: Any, x: float, y: float, text: str, width: float, *, fontsize: float = 10, **style: Any) -> float:
    """Write ``text`` around the height ``y`` and return its width; what is wider than ``width`` is cut, and ends in an ellipsis.

    All in inches, which the axes' units are.
    """
    drawn = axes.text(x, y, text, fontsize=fontsize, va="center", **style)

    def taken() -> float:
        return float(drawn.get_window_extent().width / axes.figure.dpi)

    kept = len(text)
    while taken() > width and kept > 1:
        kept -= 1
        drawn.set_text(text[:kept].rstrip() + "…")
    return taken()
