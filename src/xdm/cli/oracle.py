"""``xdm oracle``: what a Bayes filter reaches on a simulated log."""

from __future__ import annotations

import json
from pathlib import Path

import click

from xdm.cli.evaluate import PROTOCOLS
from xdm.cli.options import LIST_LENGTH, PATH, PATH_OR_NAME

NEXT_CLICK = 600  # seconds that count as next, where each question is about one click


@click.command()
@click.argument("world", type=PATH_OR_NAME)
@click.argument("store", type=PATH)
@click.option("--clicks-only", is_flag=True, help="See clicks alone, not what was skipped: oracle-clicks.")
@click.option("--k", "ks", multiple=True, default=(20, 50, 100), show_default=True, type=LIST_LENGTH,
              help="Length of the lists; may be given several times.")  # fmt: skip
@click.option("--out", type=PATH, help="Folder for metrics.json and the per-user records.")
@click.option("--part", default="test", show_default=True, type=click.Choice(["test", "validation"]),
              help="Which part of the split that `xdm train` makes by default.")  # fmt: skip
@click.option(
    "--protocol", default="time", show_default=True, type=click.Choice(PROTOCOLS), help="What is asked, and when."
)
@click.option("--cut-off", help="Where the clicks asked for begin: seconds, ISO time (UTC) or 1d before the log's end.")
@click.option("--until", help="Where they end (not included), written likewise.")
@click.option("--unclicked-k", default=1, show_default=True, type=click.IntRange(0),
              help="What skipped@K calls unclicked: shown more than this many times in three days, never clicked there.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace --out if it holds earlier results.")
@click.option("--json", "as_json", is_flag=True, help="Print what metrics.json holds instead of a table.")
def oracle(
    world: str,
    store: Path,
    clicks_only: bool,
    ks: tuple[int, ...],
    out: Path | None,
    part: str,
    protocol: str,
    cut_off: str | None,
    until: str | None,
    unclicked_k: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Judge a Bayes filter that knows WORLD's settings, and no user's taste, on STORE, a log of that world.

    It stands where a model stands: the same questions, records and baselines as of `xdm evaluate`, so that `xdm compare`
    takes both. WORLD is a folder of `xdm simulate`, a YAML file of settings, or a name. Without --clicks-only it sees what was
    skipped too; the distance between the two is what skips are worth in that world.

    \b
    xdm oracle world store --out results/oracle
    xdm oracle world store --clicks-only --out results/oracle-clicks
    xdm compare results/oracle-clicks results/oracle results/xdm
    """
    from xdm.behaviours.rules import BehaviourRules
    from xdm.cli.evaluate import print_metrics
    from xdm.console import Progress
    from xdm.evaluation import running
    from xdm.evaluation.splits import TIME, Split, parse_time, time_boundaries
    from xdm.log.store import Store
    from xdm.simulation.named import load_world
    from xdm.simulation.oracle import oracle_recommender

    opened = Store(store)
    validation_from, test_from, end = time_boundaries(opened)
    first, last = (test_from, end) if part == "test" else (validation_from, test_from)
    first = parse_time(cut_off, end) if cut_off else first
    last = parse_time(until, end) if until else end if cut_off else last
    split = Split(protocol, first, last)
    horizon = last - first if protocol == TIME else NEXT_CLICK
    recommender = oracle_recommender(load_world(world), opened, clicks_only=clicks_only, horizon=horizon)
    with Progress().bar("judging", 0, unit="questions") as bar:
        metrics = running.evaluate(
            recommender, opened, split, ks, out, progress=bar.reach, overwrite=overwrite,
            rules=BehaviourRules(unclicked_k=unclicked_k),
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(metrics, indent=2))
        return
    print_metrics("oracle-clicks" if clicks_only else "oracle", metrics, tuple(sorted(set(ks))))
    if out is not None:
        click.echo(f"records of every question: {out}")
