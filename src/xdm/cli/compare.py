"""`xdm compare`: paired tests between evaluated runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xdm.cli.options import PATH

if TYPE_CHECKING:
    from xdm.evaluation.comparing import Comparison


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR DIR ...", type=PATH)
@click.option("--metric", "metrics", multiple=True, help="Such as hr@20; may be given several times."
              "  [default: hr@50, ndcg@50, recall@50, as far as all have them]")  # fmt: skip
@click.option("--resamples", default=10_000, show_default=True, type=click.IntRange(100), help="Bootstrap resamples.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the bootstrap.")
@click.option("--strata", is_flag=True, help="Apart for questions with 0, 1-5, 6-20 and more than 20 unclicked items.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def compare(
    folders: tuple[Path, ...], metrics: tuple[str, ...], resamples: int, seed: int, strata: bool, as_json: bool
) -> None:
    """Compare results of `xdm evaluate --out DIR` question by question; the first DIR is the reference.

    The interval and the p-value come from a paired bootstrap by user; with several comparisons, p (Holm) is corrected
    for their number. The baselines of a run are folders too:

    \b
    xdm compare results/sdm results/xdm
    xdm compare results/sdm results/xdm --strata --metric recall@50
    xdm compare results/xdm/baselines/recent_popularity results/xdm
    """
    from xdm.evaluation import comparing

    edges = comparing.EDGES if strata else None
    found, questions, users = comparing.compare(folders, metrics, resamples, seed, edges)
    if strata and (older := comparing.without_unclicked(folders)):
        click.echo(f"{', '.join(map(str, older))} without the column 'unclicked': strata by the other folders", err=True)
    if as_json:
        answer = {"reference": str(folders[0]), "questions": questions, "users": users, "resamples": resamples, "seed": seed}
        click.echo(json.dumps(answer | {"comparisons": [comparison.to_dict() for comparison in found]}, indent=2))
    else:
        _print(str(folders[0]), found, questions, users, strata)


def _print(reference: str, found: list[Comparison], questions: int, users: int, strata: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    click.echo(f"differences to {reference} over {questions:,} questions about {users:,} users")
    table = Table("run", "metric")
    for title in ("unclicked", "questions") if strata else ():
        table.add_column(title, justify="right")
    for title in ("reference", "run", "difference", "95 % interval", "p", "p (Holm)"):
        table.add_column(title, justify="right")
    for place, row in enumerate(found):
        last = place + 1 == len(found) or (found[place + 1].run, found[place + 1].metric) != (row.run, row.metric)
        which = (row.stratum, f"{row.questions:,}") if strata else ()
        table.add_row(row.run, row.metric, *which, *_cells(row), end_section=strata and last)
    console = Console()
    # Piped output has no width of its own; 80 columns would break the numbers.
    Console(width=None if console.is_terminal else 160).print(table)
    for row in found:
        if not strata and row.questions < questions:
            click.echo(f"{row.run}, {row.metric}: over the {row.questions:,} questions that have a value of it")


def _cells(row: Comparison) -> tuple[str, ...]:
    if not row.questions:
        return ("-",) * 6
    means = f"{row.reference_mean:.4f}", f"{row.mean:.4f}", f"{row.difference:+.4f}"
    return *means, f"[{row.low:+.4f}, {row.high:+.4f}]", f"{row.p:.4f}", f"{row.p_holm:.4f}"
