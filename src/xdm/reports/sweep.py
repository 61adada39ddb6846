"""A metric against a setting that an experiment swept: a line for each log, with the spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from xdm.folders import check_replaceable, new_folder, write_json
from xdm.reports.style import COLOURS, MARKERS, REPORT_FILE, bare, drawing, save_figure, write_csv
from xdm.schema import UsageError, nearest

NAME = "sweep"
LOG, VARIANT, SEED, METRIC, VALUE = "log", "variant", "seed", "metric", "value"
DECADES = 100.0  # a setting whose largest value is so many times its least is drawn on a log axis


@dataclass(frozen=True)
class SweepPoint:
    """One value ``x`` of the setting on one line: the mean over ``seeds`` runs, their standard deviation (n - 1; NaN for one)."""

    line: str
    x: Any
    variant: str
    seeds: int
    mean: float
    std: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Sweep:
    """The points by line and x, and for each line the mean of the control where one was asked for."""

    points: list[SweepPoint]
    controls: dict[str, float]


def read_sweep(
    results: Path, x: str, metric: str, *, line: str = LOG, where: Mapping[str, str] | None = None, control: str | None = None
) -> Sweep:
    """The runs of ``results`` (the results.parquet of `xdm experiment`) that have a value of the setting ``x``.

    ``line`` is the column whose values are lines of their own; ``where`` keeps rows whose column has the value, as text;
    ``control`` is a variant whose mean is shown beside each line.

    Raises:
        UsageError: no such file, column, metric or variant, or two variants at one point.
    """
    rows = _read(results)
    _known(results, "column", [x, line, *(where or {})], rows.columns)
    _known(results, "metric", [metric], rows[METRIC].unique().to_list())
    rows = rows.filter(pl.col(METRIC) == metric)
    for column, value in (where or {}).items():
        rows = _matching(results, rows, column, value)
    swept = rows.filter(pl.col(x).is_not_null() & pl.col(line).is_not_null()).sort(line, x, maintain_order=True)
    if not len(swept):
        raise UsageError(f"{results} has no {metric} of a variant with a value of {x}")
    points = []
    for (name, at), group in swept.group_by([line, x], maintain_order=True):
        variants = group[VARIANT].unique(maintain_order=True).to_list()
        if len(variants) > 1 or len(group) > group[SEED].n_unique():
            raise UsageError(
                f"{results}: {', '.join(map(str, variants))} are all at {x} = {at} of {line} {name}; keep one with "
                f"--where COLUMN=VALUE, or make lines of them with --line{_differing(group, x)}"
            )
        values = group[VALUE].to_list()
        points.append(SweepPoint(str(name), at, variants[0], len(values), _mean(values), _std(values), tuple(values)))
    return Sweep(points, {} if control is None else _controls(results, rows, control, line, points))


def write_sweep(
    results: Path, x: str, metric: str, out: Path, *, line: str = LOG, where: Mapping[str, str] | None = None,
    control: str | None = None, title: str | None = None, overwrite: bool = False,
) -> Sweep:  # fmt: skip
    """Write the sweep (see `read_sweep`) as the folder ``out``: ``sweep.png``, ``.svg``, ``.csv`` and ``report.json``."""
    check_replaceable(out, REPORT_FILE, overwrite=overwrite)
    sweep = read_sweep(results, x, metric, line=line, where=where, control=control)
    with new_folder(out, REPORT_FILE, overwrite=overwrite) as folder:
        _draw(sweep, x, metric, control, title or results.resolve().parent.name, folder)
        names = [x if field.name == "x" else field.name for field in fields(SweepPoint)]
        rows = ((*astuple(point)[:-1], " ".join(map(repr, point.values))) for point in sweep.points)
        write_csv(folder / f"{NAME}.csv", names, rows)
        write_json(folder / REPORT_FILE, {
            "report": "sweep", "results": str(results), "x": x, "metric": metric, "line": line, "where": dict(where or {}),
            "control": control, "control_means": sweep.controls,
        })  # fmt: skip
    return sweep


# --- reading --------------------------------------------------------------------------------------------------------


def _read(results: Path) -> pl.DataFrame:
    try:
        rows = pl.read_parquet(results)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{results} cannot be read ({error}); give the results.parquet of xdm experiment") from None
    _known(results, "column", [LOG, VARIANT, SEED, METRIC, VALUE], rows.columns)
    return rows


def _known(results: Path, kind: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    for name in wanted:
        if name not in known:
            raise UsageError(f"{results} has no {kind} {name!r}.{nearest(name, known)} It has: {', '.join(sorted(known))}")


def _matching(results: Path, rows: pl.DataFrame, column: str, value: str) -> pl.DataFrame:
    held = rows[column]
    # Numbers are compared as numbers, so that 1, 1.0 and 1e0 are one value.
    try:
        wanted: Any = float(value) if held.dtype.is_numeric() else value
    except ValueError:
        raise UsageError(f"--where {column}={value}: the column {column} of {results} holds numbers") from None
    kept = rows.filter((held if held.dtype.is_numeric() else held.cast(pl.String)) == wanted)
    if not len(kept):
        some = ", ".join(map(str, held.drop_nulls().unique().sort().to_list()[:10]))
        raise UsageError(f"{results} has no row with {column} = {value}; it has {some}")
    return kept


def _differing(group: pl.DataFrame, x: str) -> str:
    own = {x, SEED, VALUE, VARIANT, METRIC, LOG}
    names = [name for name in group.columns if name not in own and "." in name and group[name].n_unique() > 1]
    return f" (they differ in {', '.join(names)})" if names else ""


def _controls(results: Path, rows: pl.DataFrame, control: str, line: str, points: list[SweepPoint]) -> dict[str, float]:
    _known(results, "variant", [control], rows[VARIANT].unique().to_list())
    own = rows.filter(pl.col(VARIANT) == control)
    means = {}
    for name in dict.fromkeys(point.line for point in points):
        # A control has no value of a setting that makes the lines; then it is the same for all of them.
        values = (own.filter(pl.col(line) == name) if line == LOG else own)[VALUE].to_list()
        if not values:
            raise UsageError(f"{results} has no run of {control} on {name}")
        means[name] = _mean(values)
    return means


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _std(values: Sequence[float]) -> float:
    if len(values) < 2:
        return math.nan
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


# --- drawing --------------------------------------------------------------------------------------------------------


def _draw(sweep: Sweep, x: str, metric: str, control: str | None, title: str, folder: Path) -> None:
    figure, axes = drawing().subplots(figsize=(8, 5), layout="constrained")
    lines: dict[str, list[SweepPoint]] = {}
    for point in sweep.points:
        lines.setdefault(point.line, []).append(point)
    numbers = all(isinstance(point.x, int | float) and not isinstance(point.x, bool) for point in sweep.points)
    known = list(dict.fromkeys(point.x for point in sweep.points))
    for number, (name, points) in enumerate(lines.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        at = [point.x if numbers else known.index(point.x) for point in points]
        means = [point.mean for point in points]
        spread = [0.0 if math.isnan(point.std) else point.std for point in points]
        axes.errorbar(
            at, means, spread, color=colour, marker=marker, markersize=7, linewidth=2 if numbers else 0, elinewidth=2,
            capsize=4, label=name,
        )  # fmt: skip
        for place, point in zip(at, points, strict=True):
            axes.plot([place] * point.seeds, point.values, ".", color=colour, alpha=0.5, markersize=5)
        if name in sweep.controls:
            axes.axhline(sweep.controls[name], color=colour, linestyle="--", linewidth=1.5, label=f"{name}: {control}")
    _scale(axes, known, numbers)
    axes.set_xlabel(x, fontsize=12)
    axes.set_ylabel(metric, fontsize=12)
    axes.tick_params(labelsize=11)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    bare(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=11)
    seeds = sorted({point.seeds for point in sweep.points})
    how_many = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    spread_of = f"mean ± standard deviation over {how_many} seeds" if seeds[-1] > 1 else "one seed each: no spread to see"
    axes.set_title(spread_of, fontsize=11)
    figure.suptitle(f"{title}\n{metric} against {x}", fontsize=13)
    save_figure(figure, folder, NAME)


def _scale(axes: Any, known: list[Any], numbers: bool) -> None:
    """A log axis where the values span decades (linear below the least one, where 0 is among them); words side by side."""
    if not numbers:
        axes.set_xticks(range(len(known)), [str(value) for value in known])
        axes.margins(x=0.15)
        return
    positive = [value for value in known if value > 0]
    if min(known) < 0 or not positive or max(positive) < DECADES * min(positive):
        return
    if min(known) == 0:
        axes.set_xscale("symlog", linthresh=min(positive))
    else:
        axes.set_xscale("log")
    axes.set_xticks(sorted(known), [f"{value:g}" for value in sorted(known)])
    axes.minorticks_off()
