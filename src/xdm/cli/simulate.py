"""``xdm simulate``: write a simulated exposure log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from xdm.schema import ConfigError


def world_options(command: Any) -> Any:
    """One option for each setting of `xdm.simulation.World`, with its default and its description."""
    from xdm.simulation.world import World

    for name, field in reversed(World.model_fields.items()):
        option = click.option(
            f"--{name.replace('_', '-')}",
            name,
            type=field.annotation,
            default=field.default,
            show_default=True,
            help=field.description,
        )
        command = option(command)
    return command


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@world_options
@click.option("--overwrite", is_flag=True, help="Replace a folder that this command wrote before.")
@click.option("--json", "as_json", is_flag=True, help="Print settings and counts as JSON.")
def simulate(out: Path, overwrite: bool, as_json: bool, **settings: Any) -> None:
    """Write a simulated exposure log whose skips mean something.

    Users like few topics of one cluster; a skipped item says that its topic is not among them. The folder holds
    exposures.parquet, items.parquet and users.parquet, as `xdm prepare` reads them, and truth.parquet: the topics that
    each user likes.

    \b
    Examples:
      xdm simulate --out world
      xdm simulate --out world --users 500 --days 10 --seed 3
    """
    from pydantic import ValidationError

    from xdm.console import Progress
    from xdm.simulation.world import World
    from xdm.simulation.writing import write_world

    try:
        world = World(**settings)
    except ValidationError as error:
        raise ConfigError("; ".join(_describe(one) for one in error.errors())) from None
    with Progress().bar("simulating", world.users, unit="users") as bar:
        manifest = write_world(world, out, overwrite=overwrite, progress=bar.reach)
    if as_json:
        click.echo(json.dumps({"out": str(out), **manifest}))
        return
    share = manifest["clicks"] / manifest["exposures"] if manifest["exposures"] else 0.0
    click.echo(
        f"{out}: simulated {manifest['exposures']:,} exposures of {manifest['items']:,} items to {manifest['users']:,} "
        f"users in {world.days} days, {manifest['clicks']:,} clicked ({share:.1%})"
    )
    click.echo(
        f"next: xdm prepare {out}/exposures.parquet --items {out}/items.parquet --users {out}/users.parquet --out STORE"
    )


def _describe(error: Any) -> str:
    where = "".join(f"--{str(part).replace('_', '-')} {error['input']!r}: " for part in error["loc"])
    return where + error["msg"].removeprefix("Value error, ")
