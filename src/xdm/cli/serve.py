"""`xdm serve`: a bundle over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from xdm.serving.state import Durability


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 picks a free port.")
@click.option(
    "--state",
    default=Path("xdm-state.sqlite"),
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="SQLite file of the live events; made if it is not there.",
)
@click.option(
    "--history",
    type=click.Path(path_type=Path),
    help="Event store whose events stand before the live ones of each user.",
)
@click.option(
    "--durability",
    default="full",
    show_default=True,
    type=click.Choice(["full", "normal"]),
    help="full: an acknowledged event survives a power cut. normal: quicker, survives a crash of the process.",
)
@click.option("--allow-public", is_flag=True, help="Listen where other machines can reach it. There are no keys yet.")
def serve(
    bundle: Path, host: str, port: int, state: Path, history: Path | None, durability: Durability, allow_public: bool
) -> None:
    """Serve the model in BUNDLE over HTTP, with the events that arrive while it runs.

    \b
    POST /v1/recommend   the items a user would click next
    POST /v1/events      exposures and clicks as they happen
    GET  /health         which model, since when, how many events
    GET  /docs           all of it, to try in a browser

    \b
    Examples:
      xdm serve bundle --history store
      xdm serve bundle --port 8080 --state /var/lib/xdm/events.sqlite
    """
    from xdm.bundle.reading import load_recommender
    from xdm.serving.running import listen, run_service

    # The address first: it is the cheapest to be wrong.
    with listen(host, port, allow_public=allow_public) as listener:
        run_service(load_recommender(bundle), listener, state=state, history=history, durability=durability)
