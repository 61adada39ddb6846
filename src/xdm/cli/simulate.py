"""``xdm simulate``: write a simulated exposure log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from xdm.cli.options import PATH, PATH_OR_NAME


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
@click.option("--out", required=True, type=PATH, help="Folder to write.")
@click.option("--world", "source", metavar="WORLD", default="small", show_default=True, type=PATH_OR_NAME,
              help="To start from: small, reference, skips-random, fading, noisy, a YAML file or an earlier --out.")  # fmt: skip
@world_options
@click.option("--overwrite", is_flag=True, help="Replace a folder that this command wrote before.")
@click.option("--json", "as_json", is_flag=True, help="Print settings and counts as JSON.")
@click.pass_context
def simulate(context: click.Context, out: Path, source: str, overwrite: bool, as_json: bool, **settings: Any) -> None:
    """Write a simulated exposure log whose skips mean something.

    Users like few topics of one cluster; a skipped item says that its topic is not among them. The folder holds
    exposures.parquet, items.parquet and users.parquet, as `xdm prepare` reads them, and truth.parquet: the topics that
    each user likes, from which day to which. Defaults are those of the world small; an option that is given changes
    one setting of --world. `xdm oracle` says how well the clicks of a world can be foreseen.

    \b
    Examples:
      xdm simulate --out world
      xdm simulate --out world --users 500 --days 10 --seed 3
      xdm simulate --out world --world reference --skip-information 0.5
    """
    from xdm.console import Progress
    from xdm.simulation.named import load_world, make_world
    from xdm.simulation.writing import write_world

    given = {
        name: value for name, value in settings.items() if context.get_parameter_source(name) != ParameterSource.DEFAULT
    }
    world = make_world(load_world(source).model_dump() | given)
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
