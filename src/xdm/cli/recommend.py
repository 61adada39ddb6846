"""`xdm recommend`: top-K items on the command line, for one user or for all."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xdm.cli.options import PATH
from xdm.schema import PADDING, UsageError

if TYPE_CHECKING:
    from xdm.serving.messages.recommend import InlineEvent, RecommendAnswer
    from xdm.serving.service import Service


@click.command()
@click.argument("bundle", type=PATH)
@click.argument("store", required=False, type=PATH)
@click.option("--user", "users", multiple=True, help="A user id; may be given several times.")
@click.option(
    "--at",
    "asked_at",
    help="Only events before this count: seconds since 1970, an ISO time (UTC), or 1d, 6h before the log's end.  "
    "[default: the second after the last event of STORE and --events; without either, now]",
)
@click.option("--k", default=50, show_default=True, type=click.IntRange(1, 1000), help="Items for each user.")
@click.option(
    "--events",
    "events_file",
    type=PATH,
    help='JSON lines {"item_id", "timestamp", "clicked", "session_id"?}: events of the user, who may be new.',
)
@click.option("--exclude-clicked", is_flag=True, help="Leave out what the user clicked before.")
@click.option("--all", "everyone", is_flag=True, help="All users of STORE, to the Parquet file --out.")
@click.option("--out", type=PATH, help="Parquet file: user_id, timestamp, rank, item_id, score.")
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a user, as POST /v1/recommend answers.")
def recommend(
    bundle: Path,
    store: Path | None,
    users: tuple[str, ...],
    asked_at: str | None,
    k: int,
    events_file: Path | None,
    exclude_clicked: bool,
    everyone: bool,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Top-K items of the model in BUNDLE for users of STORE, or for the events in a file.

    \b
    xdm recommend bundle store --user u17
    xdm recommend bundle --events visit.jsonl --k 10
    xdm recommend bundle store --all --out top50.parquet
    """
    at = None if asked_at is None else _parse_at(asked_at, store)
    if everyone:
        if store is None or out is None:
            raise UsageError("--all needs the STORE whose users are meant, and --out FILE.parquet")
        if users or events_file:
            raise UsageError("--all is for every user of STORE; leave out --user and --events")
        _recommend_all(bundle, store, out, at, k, exclude_clicked, overwrite, as_json)
        return
    if out is not None:
        raise UsageError("--out goes with --all; add --all, or use --json and write standard output to a file")
    if not users and events_file is None:
        raise UsageError("nobody to recommend for: give --user ID, or --events FILE, or --all with --out FILE")
    if events_file is not None and len(users) > 1:
        raise UsageError("the events of --events belong to one user; give --user once")
    service, inline, at = _open(bundle, store, events_file, at)
    if store is None and events_file is None:
        click.echo(
            "without STORE or --events nothing is known of a user, so everybody is recommended the items with the most clicks; "
            "give one of them",
            err=True,
        )
    for user in users or (None,):
        answer = service.recommend(
            _as_logged(service, user), k=k, at=at, events=inline, exclude_clicked=exclude_clicked
        )
        if as_json:
            click.echo(json.dumps(answer.model_dump(), ensure_ascii=False))
        else:
            _print_answer(answer)


def _parse_at(text: str, store: Path | None) -> int:
    """Seconds; a duration counts back from the end of the store's log, without a store from now."""
    from xdm.evaluation.splits import parse_time
    from xdm.log.store import Store

    return parse_time(text, Store(store).time_range[1] + 1 if store else int(time.time()) + 1)


def _open(
    bundle: Path, store: Path | None, events_file: Path | None, at: int | None
) -> tuple[Service, list[InlineEvent], int]:
    """The service over the bundle and the store, the events of the file, and the question's time."""
    from xdm.bundle.reading import load_recommender
    from xdm.log.store import Store
    from xdm.serving.history import History
    from xdm.serving.inline import read_inline_events
    from xdm.serving.service import Service

    inline = read_inline_events(events_file) if events_file else []
    opened = Store(store) if store else None
    recommender = load_recommender(bundle)
    history = History(opened, recommender.catalogue) if opened else None
    last_seconds = [event.timestamp + 1 for event in inline] + ([history.next_second] if history else [])
    at = at if at is not None else max(last_seconds, default=int(time.time()) + 1)
    return Service.of(recommender, history), inline, at


def _as_logged(service: Service, user: str | None) -> str | int | None:
    """The user's id in the type that the log gave it, where it is known: the command line knows only text."""
    history = service.served.history
    vocabularies = [service.served.catalogue.users] + ([history.store.users.vocabulary] if history else [])
    for vocabulary in vocabularies:
        index = vocabulary.index(user)
        if index != PADDING:
            return vocabulary.ids[index - 1].as_py()
    return user


def _recommend_all(
    bundle: Path, store: Path, out: Path, at: int | None, k: int, exclude_clicked: bool, overwrite: bool, as_json: bool
) -> None:
    from xdm.bundle.reading import load_recommender
    from xdm.console import Progress
    from xdm.log.store import Store
    from xdm.serving.bulk import check_out, recommend_all
    from xdm.serving.history import History

    check_out(out, overwrite=overwrite)
    opened = Store(store)
    recommender = load_recommender(bundle)
    history = History(opened, recommender.catalogue)
    at = history.next_second if at is None else at
    with Progress().bar("recommending", len(opened.users), unit="users") as bar:
        rows = recommend_all(
            recommender,
            history,
            out,
            at=at,
            k=k,
            exclude_clicked=exclude_clicked,
            overwrite=overwrite,
            progress=lambda users: bar.advance(by=users),
        )
    if as_json:
        click.echo(json.dumps({"out": str(out), "users": len(opened.users), "rows": rows, "timestamp": at}))
    else:
        click.echo(f"{rows:,} rows for {len(opened.users):,} users at {at}: {out}")


def _print_answer(answer: RecommendAnswer) -> None:
    who = "the events given" if answer.user_id is None else f"user {answer.user_id}"
    unknown = f", {answer.unknown_items} of unknown items skipped" if answer.unknown_items else ""
    later = f", {answer.later_events} at or after it not looked at" if answer.later_events else ""
    click.echo(f"{who} at {answer.timestamp}: {answer.events_seen} events before it{unknown}{later}; {answer.source}")
    click.echo("rank       score  item_id")
    for item in answer.items:
        click.echo(f"{item.rank:>4}  {item.score:>10.4f}  {item.item_id}")
