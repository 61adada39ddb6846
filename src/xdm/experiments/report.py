"""The report: results.parquet, differences.parquet, report.md and report.html, of whatever runs are done."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from xdm import __version__
from xdm.evaluation.comparing import Comparison
from xdm.experiments.file import LeaveLastOutProtocol, RollingProtocol
from xdm.experiments.page import html_page
from xdm.experiments.results import (
    RESAMPLES,
    JudgedTask,
    LogComparison,
    compared,
    differences_table,
    judged,
    tidy_table,
)
from xdm.folders import write_bytes

if TYPE_CHECKING:
    from xdm.experiments.running import Grid

RESULTS_FILE, DIFFERENCES_FILE = "results.parquet", "differences.parquet"
MARKDOWN_FILE, HTML_FILE, FIGURES = "report.md", "report.html", "figures"


def write_report(grid: Grid) -> None:
    """Write everything into the experiment's folder, each file whole or not at all.

    Raises:
        UsageError: runs of one log that were not asked the same questions.
    """
    runs = judged(grid)
    comparisons = compared(grid, runs)
    if runs:
        _write_table(grid.out / RESULTS_FILE, tidy_table(grid, runs))
    if comparisons:
        _write_table(grid.out / DIFFERENCES_FILE, differences_table(comparisons))
    figures = draw(grid, runs, comparisons)
    text = report_text(grid, runs, comparisons, figures)
    write_bytes(grid.out / MARKDOWN_FILE, text.encode())
    write_bytes(grid.out / HTML_FILE, html_page(grid.file.name, text, grid.out).encode())


def _write_table(path: Path, table: pa.Table) -> None:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue().to_pybytes())


def draw(grid: Grid, runs: Sequence[JudgedTask], comparisons: Sequence[LogComparison]) -> dict[str, Path]:
    """A figure for each log that has a run, by log; none where matplotlib is not installed, which the report says."""
    try:
        from xdm.experiments.figure import draw_log
    except ImportError:
        return {}
    found = {}
    (grid.out / FIGURES).mkdir(exist_ok=True)
    for log in grid.file.logs:
        means = {name: _values(runs, log, name, grid.file.metrics) for name in _names(runs, log)}
        # Beside the distance to an untrained baseline the others would be points.
        trained = {variant.name for variant in grid.variants if variant.trained}
        whole = [row for one in comparisons if one.log == log for row in one.whole if row.run in trained]
        if means:
            target = grid.out / FIGURES / f"{log}.svg"
            write_bytes(target, draw_log(means, whole, grid.file.control))
            found[log] = target
    return found


def _names(runs: Sequence[JudgedTask], log: str) -> list[str]:
    return list(dict.fromkeys(run.task.variant for run in runs if run.task.log == log))


def _values(runs: Sequence[JudgedTask], log: str, variant: str, metrics: Iterable[str]) -> dict[str, list[float]]:
    """By metric the means of a variant's runs, one a seed; a run without a value of a metric (no skips) has none."""
    own = [run.metrics for run in runs if (run.task.log, run.task.variant) == (log, variant)]
    return {metric: [one[metric] for one in own if one.get(metric) is not None] for metric in metrics}


# --- the text -------------------------------------------------------------------------------------------------------


def report_text(
    grid: Grid, runs: Sequence[JudgedTask], comparisons: Sequence[LogComparison], figures: dict[str, Path]
) -> str:
    """The report in Markdown."""
    file = grid.file
    wanted = list(grid.runs())
    parts = [
        f"# {file.name}",
        f"{len(runs)} of {len(wanted)} runs: {len(grid.variants)} variants, {len(file.logs)} logs, seeds "
        f"{', '.join(map(str, file.seeds))}. Control: **{file.control}**. xdm {__version__}.",
        *_failures(grid),
    ]
    for log in file.logs:
        own = [run for run in runs if run.task.log == log]
        parts.append(f"## {log}")
        if not own:
            parts.append("No run of this log is done.")
            continue
        simulated = "A simulated log. " if file.logs[log].world is not None else ""
        parts.append(f"{simulated}{_protocol(grid, log)} {_questions(own)}")
        parts.append(_means_table(grid, own, log))
        if log in figures:
            parts.append(f"![Means of each variant and differences to {file.control}]({figures[log].relative_to(grid.out)})")
        else:
            parts.append("No figure: matplotlib is not installed (`pip install '.[report]'` in a checkout of xdm).")
        one = next((one for one in comparisons if one.log == log), None)
        parts += _difference_parts(grid, one)
    parts += [*_searches(grid), "## Variants", _variants_table(grid), "## How the figures are made", _method(grid)]
    return "\n\n".join(parts) + "\n"


def _protocol(grid: Grid, log: str) -> str:
    protocol = grid.file.protocol_of(log)
    if isinstance(protocol, RollingProtocol):
        return (
            f"Rolling: {protocol.windows} windows of {protocol.horizon}, the first cut at {protocol.start}, one every "
            f"{protocol.every}; every click is a question."
        )
    seen = ", items clicked before left out" if grid.file.exclude_seen_of(log) else ""
    if isinstance(protocol, LeaveLastOutProtocol):
        return f"Leave-last-out: the last click of every user is the question, over the full catalogue{seen}."
    return f"Split by time; questions: {protocol.questions}, over the full catalogue{seen}."


def _failures(grid: Grid) -> list[str]:
    if not grid.failures:
        return []
    lines = [f"- {ended.task.title}: {ended.error}".replace(f"{grid.out}/", "") for ended in grid.failures]
    told = f"**{len(grid.failures)} of {len(list(grid.runs()))} runs failed** and are missing below"
    return [f"{told}; the same command tries them again:", "\n".join(lines)]


def _questions(own: Sequence[JudgedTask]) -> str:
    metrics = own[0].metrics
    skipped = metrics.get("questions_with_unclicked")
    return f"{metrics['questions']:,} questions" + ("." if skipped is None else f", {skipped:,} of them with unclicked items.")


def _means_table(grid: Grid, own: Sequence[JudgedTask], log: str) -> str:
    rows, searched = [], {variant.name: variant.searched for variant in grid.variants}
    for name in _names(own, log):
        runs = [run for run in own if run.task.variant == name]
        values = _values(own, log, name, grid.file.metrics)
        found = grid.found.get((log, searched[name]))
        seconds = [run.record["seconds"] for run in runs]
        peak = max(run.record["peak_memory_mb"] for run in runs)
        answers = [run.record["answer_cpu_ms"] for run in runs if run.record.get("answer_cpu_ms") is not None]
        rows.append(
            [name, str(len(runs)), *(_mean_and_spread(values[metric]) for metric in grid.file.metrics),
             f"{statistics.mean(seconds):,.0f}", f"{statistics.mean(answers):.2f}" if answers else "–", f"{peak:,.0f}",
             "" if found is None else str(found.trials)]
        )  # fmt: skip
    return markdown_table(["variant", "runs", *grid.file.metrics, "seconds a run", "ms an answer", "peak MB", "trials"], rows)


def _mean_and_spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def _difference_parts(grid: Grid, one: LogComparison | None) -> list[str]:
    if one is None:
        return [f"No differences: there must be a run of the control {grid.file.control} and of another variant."]
    empty = [name for name in dict.fromkeys(row.stratum for row in one.strata)
             if not any(row.questions for row in one.strata if row.stratum == name)]  # fmt: skip
    note = f"No question has {' or '.join(empty)} unclicked items." if empty else "Every stratum has questions."
    head = ["variant", "metric", "control", "variant's", "difference", "relative", "95 % interval", "p", "p (Holm)"]
    strata = [row for row in one.strata if row.stratum not in empty]
    strata_head = ["variant", "metric", "unclicked", "questions", *head[2:]]
    return [
        f"### {one.log}: paired differences to {grid.file.control}",
        markdown_table(head, [[row.run, row.metric, *_difference_cells(row)] for row in one.whole]),
        f"### {one.log}: by number of unclicked items at the question",
        note,
        markdown_table(
            strata_head, [[row.run, row.metric, row.stratum, f"{row.questions:,}", *_difference_cells(row)] for row in strata]
        ),
    ]


def _difference_cells(row: Comparison) -> list[str]:
    if not row.questions:
        return ["–"] * 7
    relative = f"{row.difference / row.reference_mean:+.1%}" if row.reference_mean else "–"
    return [
        f"{row.reference_mean:.4f}", f"{row.mean:.4f}", f"{row.difference:+.4f}", relative,
        f"[{row.low:+.4f}, {row.high:+.4f}]", f"{row.p:.4f}", f"{row.p_holm:.4f}",
    ]  # fmt: skip


def _searches(grid: Grid) -> list[str]:
    if not grid.found:
        return []
    rows = []
    for (log, variant), found in grid.found.items():
        chosen = "none succeeded" if found.values is None else ", ".join(f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}"
                                                                         for k, v in found.values.items())  # fmt: skip
        value = "–" if found.value is None else f"{found.value:.4f}"
        rows.append([log, variant, str(found.trials), str(found.failed), chosen, value])
    return [
        "## Searches",
        "Trials were judged on the validation part alone, through a store that ends before the test part. The winner was then "
        "trained with each seed, and judged on the test part once a seed.",
        markdown_table(["log", "variant", "trials", "failed", "chosen", "validation"], rows),
    ]


def _variants_table(grid: Grid) -> str:
    rows = []
    for variant in grid.variants:
        settings = [f"{key} = {value}" for key, value in variant.assignments.items()]
        settings += [f"{key} searched" for key in variant.spaces]
        rows.append([variant.name, variant.model, ", ".join(settings)])
    return markdown_table(["variant", "model", "settings"], rows)


def _unclicked_k(grid: Grid) -> str:
    by_log = {log: grid.file.unclicked_k_of(log) for log in grid.file.logs}
    if len(set(by_log.values())) == 1:
        return str(next(iter(by_log.values())))
    return ", ".join(f"{k} ({log})" for log, k in by_log.items())


def _method(grid: Grid) -> str:
    return (
        "± is the standard deviation over seeds (n - 1). Differences are paired by question: the values of a question are "
        f"averaged over a variant's seeds first, then users are drawn with replacement {RESAMPLES:,} times, each with all "
        "of the own questions; the interval is about other users, not about other seeds. p is two-sided. Holm's correction "
        "is over the variants × metrics of a log; in the strata over variants × metrics × strata. Unclicked items are those "
        f"shown more than {_unclicked_k(grid)} times in three days and not clicked, at the time of the question. All "
        f"runs: {RESULTS_FILE}; all differences: {DIFFERENCES_FILE}; the records of every question: "
        "runs/LOG/VARIANT/seed-N/results/per_user.parquet."
    )


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; numbers to the right, the first column to the left."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    left = {"variant", "metric", "model", "settings", "log", "chosen"}
    rule = [":--" if name in left else "--:" for name in head]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(head), rule, *cells])
