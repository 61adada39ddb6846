"""`xdm evaluate`: a bundle judged on a store over the full catalogue, with baselines beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xdm.cli.options import LIST_LENGTH, PATH
from xdm.schema import BundleError, UsageError

if TYPE_CHECKING:
    from xdm.evaluation.splits import Split

PROTOCOLS = ("time", "each-click", "last-click", "sdm")


@click.command()
@click.argument("bundle", type=PATH)
@click.argument("store", type=PATH)
@click.option("--k", "ks", multiple=True, default=(20, 50, 100), show_default=True, type=LIST_LENGTH,
              help="Length of the lists; may be given several times.")  # fmt: skip
@click.option("--out", type=PATH, help="Folder for metrics.json and the per-user records.")
@click.option("--part", default="test", show_default=True, type=click.Choice(["test", "validation"]),
              help="Which part of the bundle's own split.")  # fmt: skip
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="What is asked, and when.  [default: the bundle's]")
@click.option("--cut-off", help="Where the clicks asked for begin: seconds, ISO time (UTC) or 1d before the log's end.")
@click.option("--until", help="Where they end (not included), written likewise.")
@click.option("--exclude-seen", is_flag=True, help="Never recommend what the user clicked before.")
@click.option("--baseline", "baselines", multiple=True, default=("popularity", "recent_popularity"), show_default=True,
              help="Judged beside it, in the place of the default two; may be given several times. Also: itemknn, ease.")  # fmt: skip
@click.option("--recent-window", default="1d", show_default=True, help="Window of the recent-popularity baseline.")
@click.option("--unclicked-k", default=1, show_default=True, type=click.IntRange(0),
              help="What skipped@K calls unclicked: shown more than this many times in three days, never clicked there.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace --out if it holds earlier results.")
@click.option("--json", "as_json", is_flag=True, help="Print what metrics.json holds instead of a table.")
def evaluate(
    bundle: Path,
    store: Path,
    ks: tuple[int, ...],
    out: Path | None,
    part: str,
    protocol: str | None,
    cut_off: str | None,
    until: str | None,
    exclude_seen: bool,
    baselines: tuple[str, ...],
    recent_window: str,
    unclicked_k: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Judge the model in BUNDLE on the clicks of STORE that it was not trained on.

    \b
    xdm evaluate bundle store
    xdm evaluate bundle store --out results --k 10 --k 50
    xdm evaluate bundle store --cut-off 6h --protocol each-click
    xdm evaluate bundle store --baseline popularity --baseline ease
    """
    from xdm.behaviours.rules import BehaviourRules
    from xdm.bundle.reading import load_recommender
    from xdm.console import Progress
    from xdm.evaluation import running
    from xdm.evaluation.splits import parse_duration
    from xdm.log.store import Store

    opened, window = Store(store), parse_duration(recent_window)
    recommender = load_recommender(bundle)
    split = choose_split(bundle, recommender.manifest, opened.time_range[1] + 1, part, protocol, cut_off, until)
    with Progress().bar("judging", 0, unit="questions") as bar:
        metrics = running.evaluate(
            recommender, opened, split, ks, out, tuple(dict.fromkeys(baselines)),
            exclude_seen=exclude_seen, progress=bar.reach, recent_window=window, overwrite=overwrite,
            rules=BehaviourRules(unclicked_k=unclicked_k),
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(metrics, indent=2))
    else:
        print_metrics(str(recommender.manifest["model"]), metrics, tuple(sorted(set(ks))))
        if out is not None:
            click.echo(f"records of every question: {out}")


def choose_split(
    bundle: Path, manifest: dict[str, Any], end: int, part: str, protocol: str | None, cut_off: str | None, until: str | None,
    option: str = "--cut-off",
) -> Split:  # fmt: skip
    """The split that is asked for; ``end`` is one second after the store's last event, ``option`` what the command calls the
    cut-off.

    Raises:
        BundleError: the manifest names no split.
        UsageError: a split with clicks that the bundle may have been trained on.
    """
    from xdm.evaluation.splits import LAST_CLICK, Split, parse_time

    own = manifest.get("split")
    if not isinstance(own, dict):
        raise BundleError(f"the manifest of {bundle} names no split, so nobody knows what it was trained on; train it again")
    protocol = protocol or own.get("protocol", "time")
    if own.get("protocol") == LAST_CLICK:
        if protocol != LAST_CLICK or cut_off or until:
            raise UsageError(
                f"{bundle} was trained on all but the last clicks of every user, whatever their time; "
                + (
                    "it can only be evaluated with --protocol last-click, without --cut-off and --until"
                    if option == "--cut-off"
                    else "here a bundle is asked at one time: give one that was trained up to a time"
                )
            )
        nth_last = 1 if part == "test" else 2
        return Split(LAST_CLICK, int(own["validation_from"]), int(own["until"]), nth_last)
    first, last = ("test_from", "until") if part == "test" else ("validation_from", "test_from")
    chosen_from = parse_time(cut_off, end) if cut_off else int(own[first])
    if chosen_from < int(own["validation_from"]):
        raise UsageError(
            f"{bundle} was trained on clicks up to {own['validation_from']}; with the cut-off {chosen_from} it would be "
            f"asked for clicks that it has learned: choose a later {option}, or train a bundle on an earlier period"
        )
    default_until = end if cut_off and part == "test" else int(own[last])
    return Split(protocol, chosen_from, parse_time(until, end) if until else default_until)


def print_metrics(name: str, metrics: dict[str, Any], ks: tuple[int, ...]) -> None:
    """The model and the baselines side by side, a row for each metric at each K."""
    from rich.console import Console
    from rich.table import Table

    from xdm.evaluation.metrics import METRICS, SKIPPED, SKIPPED_CATEGORY, column_name

    split, columns = metrics["split"], {name: metrics} | metrics["baselines"]
    answered = ", ".join(f"{count:,} by {source}" for source, count in metrics["answered_by"].items())
    click.echo(
        f"{metrics['questions']:,} questions about {metrics['users']:,} users, protocol {split['protocol']}, clicks of "
        f"[{iso(split['cut_off'])}, {iso(split['until'])}); {metrics['users_left_out']:,} users left out; "
        f"answered {answered}; {metrics['truth_items_known']:.1%} of the truth can be recommended"
    )
    table = Table("metric")
    for column in columns:
        table.add_column(column, justify="right")
    of_skips = [metric for metric in (SKIPPED, SKIPPED_CATEGORY) if column_name(metric, ks[0]) in metrics]
    for metric in (*METRICS, "coverage", "popularity_percentile", *of_skips):
        for k in ks:
            key = column_name(metric, k)
            cells = ("-" if values[key] is None else f"{values[key]:.4f}" for values in columns.values())
            table.add_row(key, *cells, end_section=k == ks[-1] and len(ks) > 1)
    Console().print(table)
    click.echo(explain_skips(metrics))


def explain_skips(metrics: dict[str, Any]) -> str:
    """One line on what ``skipped@K`` and ``skipped_category@K`` say, and about how many questions."""
    rules, category = metrics["rules"], metrics.get("category_feature")
    of_category = f" (skipped_category: or share their {category})" if category else ""
    return (
        f"skipped@K: share of the first K that the user was shown more than {rules['unclicked_k']} times and did not click in "
        f"the {rules['unclicked_window'] / 86_400:g} days before{of_category}; of {metrics['questions_with_unclicked']:,} of "
        f"{metrics['questions']:,} questions, the others have no such item"
    )


def iso(seconds: int) -> str:
    """A time as ISO 8601 in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
