"""``xdm rolling``: train up to t, judge the next hours, move on."""

from __future__ import annotations

import json
from pathlib import Path

import click

from xdm.cli.options import LIST_LENGTH, PATH


@click.command(context_settings={"show_default": True})
@click.argument("store", type=PATH)
@click.option("--out", required=True, type=PATH, help="The folder of results.")
@click.option("--model", default=None, help="Model or preset.  [default: xdm, or the config file's]")
@click.option(
    "--start", required=True, help="The first cut: seconds, an ISO time (UTC), or 6d, 12h before the log's end."
)
@click.option("--every", default="24h", help="From one cut to the next.")
@click.option("--windows", "count", type=click.IntRange(1, 10_000), default=4, help="How many cuts.")
@click.option("--horizon", default="2h", help="The clicks of this long after a cut are judged.")
@click.option(
    "--warm-epochs",
    type=click.IntRange(0),
    default=0,
    help="Go on from the last window's model for so many epochs; 0: from scratch.",
)
@click.option(
    "--warm-history", default=None, help="With --warm-epochs: learn only from labels this recent.  [default: all]"
)
@click.option("--baseline", "baselines", multiple=True, default=("popularity", "recent_popularity"),
              help="Judged beside it, in the place of the default two; may be given several times. Also: itemknn, ease.")  # fmt: skip
@click.option("--recent-window", default="4h", help="Window of the recent-popularity baseline, before each cut.")
@click.option("--unclicked-k", type=click.IntRange(0), default=1,
              help="What skipped@K calls unclicked: shown more than this many times in three days, never clicked there.")  # fmt: skip
@click.option("--k", "ks", type=LIST_LENGTH, multiple=True, default=(20, 50, 100), help="List lengths.")
@click.option("--config", "file", type=PATH, help="Settings as YAML.")
@click.option("--set", "assignments", multiple=True, metavar="KEY.KEY=VALUE", help="One setting, over file and preset.")
@click.option("--overwrite", is_flag=True, help="Replace the results that are there.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@click.option("--json", "as_json", is_flag=True, help="The metrics as JSON on standard output.")
def rolling(
    store: Path, out: Path, model: str | None, start: str, every: str, count: int, horizon: str, warm_epochs: int,
    warm_history: str | None, baselines: tuple[str, ...], recent_window: str, unclicked_k: int, ks: tuple[int, ...], file: Path | None,
    assignments: tuple[str, ...], overwrite: bool, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Judge a model on STORE window by window: train on everything before a cut, then ask every click of the next hours
    with the behaviours at that click.

    Where most of tomorrow's items do not exist today (news), this is the only honest protocol. Training lasts
    training.epochs in each window; choose them on earlier windows than those that you report. Results are written as
    `xdm evaluate` writes them, so `xdm compare` takes them.

    \b
    Examples:
      xdm rolling store --model xdm --start 7d --windows 6 --every 24h --horizon 2h --out rolling-xdm
      xdm rolling store --model sdm --start 7d --warm-epochs 1 --warm-history 2d --out rolling-sdm
    """
    from xdm.behaviours.rules import BehaviourRules
    from xdm.cli.evaluate import print_metrics
    from xdm.console import Progress
    from xdm.evaluation.splits import parse_duration, parse_time
    from xdm.log.store import Store
    from xdm.training.config import load_config
    from xdm.training.rolling import Windows, roll

    config = load_config(model or (None if file else "xdm"), file, assignments)
    opened = Store(store)
    windows = Windows(
        parse_time(start, opened.time_range[1] + 1), parse_duration(every), count, parse_duration(horizon), warm_epochs,
        parse_duration(warm_history) if warm_history else 0,
    )  # fmt: skip
    metrics = roll(
        opened, config, windows, out, ks=ks, recent_window=parse_duration(recent_window), overwrite=overwrite,
        progress=Progress(quiet=quiet), rules=BehaviourRules(unclicked_k=unclicked_k),
        baselines=tuple(dict.fromkeys(baselines)),
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(metrics))
    else:
        print_metrics(config.name, metrics, tuple(sorted(set(ks))))
