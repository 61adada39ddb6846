"""`xdm compare`: paired tests between evaluated runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from xdm.evaluation.comparing import Comparison


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR DIR ...", type=click.Path(path_type=Path))
@click.option("--metric", "metrics", multiple=True, help="Such as hr@20; may be given several times."
              "  [default: hr@50, ndcg@50, recall@50, as far as all have them]")  # fmt: skip
@click.option("--resamples", default=10_000, show_default=True, type=click.IntRange(100), help="Bootstrap resamples.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def compare(folders: tuple[Path, ...], metrics: tuple[str, ...], resamples: int, seed: int, as_json: bool) -> None:
    """Compare results of `xdm evaluate --out DIR` question by question; the first DIR is the reference.

    The interval and the p-value come from a paired bootstrap by user; with several comparisons, p (Holm) is corrected
    for their number. The baselines of a run are folders too:

    \b
    xdm compare results/sdm results/xdm
    xdm compare results/xdm/baselines/recent_popularity results/xdm
    """
    from xdm.evaluation import comparing

    found, questions, users = comparing.compare(list(folders), metrics, resamples, seed)
    if as_json:
        answer = {"reference": str(folders[0]), "questions": questions, "users": users, "resamples": resamples, "seed": seed}
        click.echo(json.dumps(answer | {"comparisons": [asdict(comparison) for comparison in found]}, indent=2))
    else:
        _print(str(folders[0]), found, questions, users)


def _print(reference: str, found: list[Comparison], questions: int, users: int) -> None:
    from rich.console import Console
    from rich.table import Table

    click.echo(f"differences to {reference} over {questions:,} questions about {users:,} users")
    table = Table("run", "metric")
    for title in ("reference", "run", "difference", "95 % interval", "p", "p (Holm)"):
        table.add_column(title, justify="right")
    for row in found:
        means = f"{row.reference_mean:.4f}", f"{row.mean:.4f}", f"{row.difference:+.4f}"
        interval = f"[{row.low:+.4f}, {row.high:+.4f}]"
        table.add_row(row.run, row.metric, *means, interval, f"{row.p:.4f}", f"{row.p_holm:.4f}")
    console = Console()
    # Piped output has no width of its own; 80 columns would break the numbers.
    Console(width=None if console.is_terminal else 160).print(table)
