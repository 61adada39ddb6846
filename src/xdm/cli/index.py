"""`xdm index`: give a bundle an approximate index, or take it off again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from xdm.cli.options import PATH
from xdm.schema import UsageError


@click.command(context_settings={"show_default": True})
@click.argument("bundle", type=PATH)
@click.argument("store", required=False, type=PATH)
@click.option(
    "--kind", default="ivf", type=click.Choice(["ivf", "exact"]), help="exact: take an index off again."
)
@click.option(
    "--min-recall", default=0.99, type=click.FloatRange(0, 1, min_open=True), help="No index is written that finds less."
)
@click.option("--k", default=100, type=click.IntRange(1, 1000), help="The best so many of the exact search are to be found.")
@click.option("--queries", default=1000, type=click.IntRange(1, 100_000), help="Users of STORE that it is measured with.")
@click.option("--json", "as_json", is_flag=True, help="What was built and measured, as JSON on standard output.")
def index(bundle: Path, store: Path | None, kind: str, min_recall: float, k: int, queries: int, as_json: bool) -> None:
    """Give BUNDLE an approximate index, measured with users of STORE against the exact search.

    The exact search is right for catalogues up to about a million items. An index finds nearly the same items in a fraction of the
    time. It looks into as many lists of items as it must to find --min-recall of what the exact search finds; where it cannot, the
    bundle stays as it is. `xdm serve --set index=exact` goes round an index without taking it off.

    \b
    Examples:
      xdm index bundle store
      xdm index bundle store --min-recall 0.995 --k 50
      xdm index bundle --kind exact
    """
    if kind == "exact":
        _take_off(bundle, as_json)
        return
    if store is None:
        raise UsageError("an index is measured with users: give the STORE that the bundle was trained on")
    from xdm.bundle.indexing import add_ivf
    from xdm.log.store import Store

    measured = add_ivf(bundle, Store(store), min_recall=min_recall, k=k, queries=queries)
    if as_json:
        click.echo(json.dumps({"bundle": str(bundle), "index": "ivf", **asdict(measured)}))
        return
    click.echo(
        f"recall@{measured.k} {measured.recall:.4f} over {measured.queries:,} users, looking into {measured.nprobe:,} of "
        f"{measured.lists:,} lists\none question, one thread, median: index {measured.index_ms:.2f} ms, "
        f"exact {measured.exact_ms:.2f} ms"
    )
    if measured.index_ms >= measured.exact_ms:
        click.echo(f"the exact search is no slower here; take the index off with: xdm index {bundle} --kind exact", err=True)


def _take_off(bundle: Path, as_json: bool) -> None:
    from xdm.bundle.indexing import remove_ivf

    taken = remove_ivf(bundle)
    if as_json:
        click.echo(json.dumps({"bundle": str(bundle), "index": "exact", "changed": taken}))
    else:
        click.echo("the index is taken off; every item is scored" if taken else "there is no index; every item is scored anyway")
