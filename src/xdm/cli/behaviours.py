"""``xdm behaviours``: what a model may see of a user at a time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from xdm.cli.options import PATH, rule_options, rules_from


@click.command(context_settings={"show_default": True})
@click.argument("store", type=PATH)
@click.option("--user", "user_id", help="One user.")
@click.option(
    "--at", help="The time: seconds since 1970, an ISO time (UTC), or 1d, 6h before the log's end.  [default: the end]"
)
@click.option(
    "--requests",
    type=PATH,
    help='Many: a file of lines {"user_id": …, "timestamp": …}; - for standard input.',
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
@rule_options
def behaviours(
    store: Path, user_id: str | None, at: str | None, requests: Path | None, as_json: bool, **rules: int
) -> None:
    """Print the behaviours of a user of STORE at a time: session, long-term lists, unclicked sequence.

    Only events strictly before the time count. It is the same code that training, evaluation and the service read
    features with. A user that the store does not know has no behaviours: all lists are empty.

    \b
    Examples:
      xdm behaviours store --user u17 --at 2023-05-25T07:00:00
      xdm behaviours store --requests asked.jsonl --json > behaviours.jsonl
      xdm behaviours store --user u17 --unclicked-k 0
    """
    from xdm.behaviours.printing import answer_all, read_requests, readable
    from xdm.evaluation.splits import parse_time
    from xdm.log.store import Store

    if (user_id is None) == (requests is None):
        raise click.UsageError("give either --user (with --at) or --requests")
    opened = Store(store)
    if requests is not None:
        if at is not None:
            raise click.UsageError("--at goes with --user; with --requests every line has its own timestamp")
        asked: Iterable[tuple[Any, int]] = read_requests(requests)
    else:
        end = opened.time_range[1] + 1
        asked = [(user_id, end if at is None else parse_time(at, end))]
    show = (lambda answer: answer.to_json()) if as_json else readable
    for answer in answer_all(opened, asked, rules_from(rules)):
        click.echo(show(answer))
