"""`xdm report`: the pictures and tables of the XDM paper, on a log and models of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xdm.cli.options import PATH
from xdm.schema import UsageError

if TYPE_CHECKING:
    from xdm.evaluation.splits import Split
    from xdm.log.store import Store

F = TypeVar("F", bound=Callable[..., Any])


@click.group(context_settings={"show_default": True})
def report() -> None:
    """Pictures as PNG and SVG, with the figures behind them as CSV. Each report is a folder that appears whole.

    \b
    xdm report geometry xdm store --against sdm --out geometry
    xdm report case sdm xdm store --out case
    xdm report sweep results/results.parquet --x objective.metric_weight --metric hr@50 --out sweep
    """


def folder_options(command: F) -> F:
    """``--out``, ``--title`` and ``--overwrite``, which every report has."""
    for option in (
        click.option("--overwrite", is_flag=True, help="Replace --out if it holds an earlier report."),
        click.option("--title", help="Stands above the pictures, such as 'Simulated log'.  [default: the folder's name]"),
        click.option("--out", required=True, type=PATH, help="The folder to write."),
    ):
        command = option(command)
    return command


@report.command()
@click.argument("bundle", type=PATH)
@click.argument("store", type=PATH)
@click.option("--against", type=PATH, help="A second bundle, such as SDM's: its queries beside those of BUNDLE.")
@click.option("--points", "size", default=500, type=click.IntRange(3, 20_000), help="Test points, each of another user.")
@click.option("--distance", type=click.Choice(["unit_squared", "squared", "l2"]), help="D.  [default: that of BUNDLE's metric loss]")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of the sample and of t-SNE.")
@folder_options
def geometry(
    bundle: Path, store: Path, against: Path | None, size: int, distance: str | None, seed: int,
    out: Path, title: str | None, overwrite: bool,
) -> None:  # fmt: skip
    """Where clicked h, unclicked n, label c and the query lie: two t-SNE pictures and the mean distances.

    A point is a click of the test part of BUNDLE's split, asked at its time; c is the vector of the item clicked.

    \b
    xdm report geometry xdm store --out geometry
    xdm report geometry xdm store --against sdm --title "Simulated log" --out geometry
    """
    from xdm.log.store import Store
    from xdm.reports.geometry_report import write_geometry

    opened = Store(store)
    split = _single_clicks(bundle, opened)
    found, points = write_geometry(
        opened, bundle, against, split, out, size=size, seed=seed, distance=distance, title=title, overwrite=overwrite
    )
    rows = [
        (row.model, row.pair, f"{row.mean:.4f}", f"[{row.low:.4f}, {row.high:.4f}]", f"{row.others:.4f}") for row in found
    ]
    _print(("model", "mean of", "own", "95 % interval", "other pairs"), rows)
    click.echo(f"{points:,} test points, each of another user; other pairs: the same mean over pairs of different points")
    click.echo(f"pictures and figures: {out}")


@report.command()
@click.argument("sdm", metavar="SDM_BUNDLE", type=PATH)
@click.argument("xdm", metavar="XDM_BUNDLE", type=PATH)
@click.argument("store", type=PATH)
@click.option("--user", help="Whose case.  [default: chosen by a rule that does not look at the list of XDM_BUNDLE]")
@click.option("--at", help="When: seconds, ISO time (UTC) or 1d before the log's end.  [default: where the test part begins]")
@click.option("--k", default=10, type=click.IntRange(1, 1000), help="Length of the lists.")
@click.option("--exclude-seen", is_flag=True, help="Never recommend what the user clicked before.")
@click.option("--json", "as_json", is_flag=True, help="Print what report.json holds instead of the table.")
@folder_options
def case(
    sdm: Path, xdm: Path, store: Path, user: str | None, at: str | None, k: int, exclude_seen: bool, as_json: bool,
    out: Path, title: str | None, overwrite: bool,
) -> None:  # fmt: skip
    """One user: clicked, unclicked, the lists of two models, and what was clicked later, items of skipped categories marked.

    Without --user: of those who click in the test part and have a click and at least 5 unclicked items before it, the user
    whose list by SDM_BUNDLE holds most items of unclicked categories. That is an extreme case for that model, so the
    averages over all such users are told too.

    \b
    xdm report case sdm xdm store --out case
    xdm report case sdm xdm store --user u17 --at 2024-01-06T12:00 --out case
    """
    from xdm.bundle.reading import load_recommender
    from xdm.cli.evaluate import choose_split
    from xdm.evaluation.splits import TIME
    from xdm.folders import check_replaceable
    from xdm.log.store import Store
    from xdm.reports.case import CaseStudy
    from xdm.reports.case_report import NAME, write_case
    from xdm.reports.style import REPORT_FILE

    check_replaceable(out, REPORT_FILE, overwrite=overwrite)
    opened, paths = Store(store), (sdm, xdm)
    recommenders = [load_recommender(path) for path in paths]
    end = opened.time_range[1] + 1
    # Asked of both, so that neither has learned from what is asked; the later test part is nobody's training.
    splits = [
        choose_split(path, one.manifest, end, "test", TIME, at, None, option="--at")
        for path, one in zip(paths, recommenders, strict=True)
    ]
    split = max(splits, key=lambda one: one.cut_off)
    names = [str(one.manifest["model"]) for one in recommenders]
    if names[0] == names[1]:
        names = [path.resolve().name for path in paths] if sdm.resolve().name != xdm.resolve().name else ["first", "second"]
    study = CaseStudy(opened, dict(zip(names, recommenders, strict=True)), split, k, exclude_seen)
    found = study.choose() if user is None else study.of_user(user)
    facts = {
        "bundles": dict(zip(names, map(str, paths), strict=True)), "store": str(store), "k": k, "exclude_seen": exclude_seen,
    }  # fmt: skip
    write_case(found, out, facts, title=title or opened.path.resolve().name, rows=max(k, 10), overwrite=overwrite)
    click.echo((out / REPORT_FILE if as_json else out / f"{NAME}.md").read_text(encoding="utf-8"))
    if not as_json:
        click.echo(f"picture and figures: {out}")


@report.command()
@click.argument("results", metavar="RESULTS.parquet", type=PATH)
@click.option("--x", required=True, metavar="KEY.KEY", help="The setting that was swept, such as objective.metric_weight.")
@click.option("--metric", default="hr@50", help="What is drawn.")
@click.option("--line", default="log", metavar="COLUMN", help="Each value of it is a line: log, model, or another setting.")
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only such rows; may be given several times.")
@click.option("--control", help="A variant whose mean is a dashed line.")
@folder_options
def sweep(
    results: Path, x: str, metric: str, line: str, where: tuple[str, ...], control: str | None,
    out: Path, title: str | None, overwrite: bool,
) -> None:  # fmt: skip
    """A metric against a setting that `xdm experiment` swept, with the spread over seeds; a log axis where it spans decades.

    \b
    xdm report sweep results/results.parquet --x objective.metric_weight --metric hr@50 --control sdm --out lambda
    xdm report sweep results/results.parquet --x objective.margin --line objective.distance --where log=world --out margin
    """
    from xdm.reports.sweep import write_sweep

    kept = {}
    for text in where:
        column, equals, value = text.partition("=")
        if not equals or not column:
            raise UsageError(f"--where {text!r}: must look like COLUMN=VALUE, for example log=world")
        kept[column] = value
    found = write_sweep(
        results, x, metric, out, line=line, where=kept, control=control, title=title, overwrite=overwrite
    )
    rows = [(p.line, p.variant, str(p.x), str(p.seeds), f"{p.mean:.4f}", f"{p.std:.4f}") for p in found.points]
    _print((line, "variant", x, "seeds", metric, "std"), rows)
    for name, mean in found.controls.items():
        click.echo(f"{control} on {name}: {mean:.4f}")
    click.echo(f"picture and figures: {out}")


def _single_clicks(bundle: Path, store: Store) -> Split:
    """The test part of the bundle's split, click by click."""
    from xdm.bundle.reading import read_manifest
    from xdm.cli.evaluate import choose_split
    from xdm.evaluation.splits import EACH_CLICK, LAST_CLICK

    manifest = read_manifest(bundle)
    own = manifest.get("split")
    protocol = LAST_CLICK if isinstance(own, dict) and own.get("protocol") == LAST_CLICK else EACH_CLICK
    return choose_split(bundle, manifest, store.time_range[1] + 1, "test", protocol, None, None)


def _print(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    console = Console()
    # Piped output has no width of its own; 80 columns would break the numbers.
    Console(width=None if console.is_terminal else 160).print(table)
