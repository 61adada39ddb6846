"""`xdm serve`: a bundle over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xdm.cli.options import FILE, PATH


@click.command()
@click.argument("bundle", required=False, type=PATH)
@click.option("--host", help="Address to listen on; one that others can reach needs --keys.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="0 picks a free one.  [default: 8000]")
@click.option("--workers", type=int, help="Processes that answer; each holds the model.  [default: 1]")
@click.option(
    "--state", help="Where live events are kept: a file, or redis://HOST:PORT/DB.  [default: xdm-state.sqlite]"
)
@click.option(
    "--history",
    type=PATH,
    help="Event store whose events stand before the live ones of each user.",
)
@click.option(
    "--durability",
    type=click.Choice(["full", "normal"]),
    help="full: an acknowledged event survives a power cut. normal: quicker, survives a crash of the process.  [default: full]",
)
@click.option("--keys", type=FILE, help="API keys, made with `xdm keys new`.")
@click.option("--models", type=PATH, help="Folder of bundles that may be loaded.  [default: BUNDLE/..]")
@click.option(
    "--config",
    type=FILE,
    help="YAML file of settings; --print-config writes one.",
)
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any other setting, as in --set deadline_ms=100."
)
@click.option("--print-config", is_flag=True, help="Print all settings as YAML with what they mean, and stop.")
def serve(config: Path | None, sets: tuple[str, ...], print_config: bool, **flags: Any) -> None:
    """Serve the model in BUNDLE over HTTP, with the events that arrive while it runs.

    \b
    Settings come from --config FILE, then from variables XDM_SERVE_… (XDM_SERVE_PORT=8080), then from the command
    line; what is later overrides what is earlier.

    \b
    POST /v1/recommend   the items a user would click next
    POST /v1/events      exposures and clicks as they happen
    GET  /docs           all of it, to try in a browser

    \b
    Examples:
      xdm serve bundle --history store
      xdm serve bundle --host 0.0.0.0 --keys keys.yaml --workers 2 --set rate_limit=500/second
      xdm serve --print-config > serve.yaml
      xdm serve --config serve.yaml
    """
    from xdm.serving.settings import as_yaml, load_settings

    settings = load_settings(config, flags, sets)
    if print_config:
        click.echo(as_yaml(settings))
        return
    from xdm.serving.running import run_service

    run_service(settings)
