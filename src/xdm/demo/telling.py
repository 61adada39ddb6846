"""The demo's results in tables: for the terminal and for report.md. Every figure is read from what the commands wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from xdm.evaluation.comparing import Comparison

Judged = dict[str, dict[str, Any]]  # model to the content of its metrics.json


def columns(judged: Judged) -> dict[str, dict[str, Any]]:
    """Title to figures: the baselines (the same beside every model), then the models."""
    baselines = next(iter(judged.values()))["baselines"]
    named = {name.replace("_", " "): figures for name, figures in baselines.items()}
    return named | {model.upper(): figures for model, figures in judged.items()}


def table(judged: Judged, metrics: tuple[str, ...]) -> Table:
    """A row for each metric, a column for each model and baseline."""
    from rich.table import Table

    shown = columns(judged)
    made = Table("metric")
    for title in shown:
        made.add_column(title, justify="right")
    for metric in metrics:
        made.add_row(metric, *(f"{figures[metric]:.4f}" for figures in shown.values()))
    return made


def report_text(
    judged: Judged,
    differences: list[Comparison],
    metrics: tuple[str, ...],
    person: str,
    *,
    users: int,
    seed: int,
    figure: str,
) -> str:
    """report.md: what was judged, both tables, a sentence that follows from them, the figure and the user."""
    shown = columns(judged)
    asked = next(iter(judged.values()))
    lines = [
        "# Demo",
        "",
        f"A **simulated** log of {users:,} users (seed {seed}); {asked['questions']:,} users who click in its last hours are "
        "asked about. One log and one seed of training: run it again with another `--seed` before you believe a small "
        "difference, and on your own log before you believe any.",
        "",
        _row("metric", *shown),
        _row("---", *("---:" for _ in shown)),
        *(_row(metric, *(f"{figures[metric]:.4f}" for figures in shown.values())) for metric in metrics),
        "",
        "XDM less SDM, paired by user:",
        "",
        _row("metric", "difference", "95 % interval", "p", "p (Holm)"),
        _row("---", "---:", "---:", "---:", "---:"),
        *(
            _row(d.metric, f"{d.difference:+.4f}", f"{d.low:+.4f} to {d.high:+.4f}", f"{d.p:.4f}", f"{d.p_holm:.4f}")
            for d in differences
        ),
        "",
        verdict(differences),
        "",
        f"![Means and paired differences]({figure})",
        "",
        "One user, with the categories of the items:",
        "",
        "```",
        person,
        "```",
    ]
    return "\n".join(lines) + "\n"


def verdict(differences: list[Comparison]) -> str:
    """One sentence about where XDM is better, where worse, and where nothing can be told (p after Holm, 5 %)."""
    better = [d.metric for d in differences if d.p_holm < 0.05 and d.difference > 0]
    worse = [d.metric for d in differences if d.p_holm < 0.05 and d.difference < 0]
    rest = [d.metric for d in differences if d.metric not in better + worse]
    parts = [
        f"{word} {', '.join(names)}"
        for word, names in (("better than SDM in", better), ("worse in", worse), ("not told apart in", rest))
        if names
    ]
    return f"At 5 % (p after Holm) XDM is {'; '.join(parts)}."


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
