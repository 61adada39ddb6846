"""`xdm report`: the pictures and tables of the XDM paper, on a log and models of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from xdm.evaluation.splits import Split
    from xdm.log.store import Store

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)


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
    _print(("model", "mean of", "own", "95 % interval", "other points'"), rows)
    click.echo(f"{points:,} test points, each of another user; 'other points'': the same mean over pairs of different points")
    click.echo(f"pictures and figures: {out}")


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
