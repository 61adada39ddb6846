"""`xdm keys`: make, list and revoke the API keys of a service."""

from __future__ import annotations

from pathlib import Path

import click

from xdm.cli.options import FILE

FILE_OPTION = click.option("--file", required=True, type=FILE, help="File of the keys' hashes (YAML).")


@click.group()
def keys() -> None:
    """Make, list and revoke the API keys of a service.

    \b
    The file holds hashes, so a key is shown once, when it is made. A running service reads a changed file within a second.

    \b
    Scopes (a key has those that it is given, none includes another):
      read    recommend, similar, what is held of a user, metrics
      write   events, deleting a user
      admin   items, models

    \b
    Examples:
      xdm keys new --file keys.yaml --name shop --scopes read,write
      xdm keys revoke --file keys.yaml --name shop
    """


@keys.command()
@FILE_OPTION
@click.option("--name", required=True, help="How logs and metrics call the key.")
@click.option("--scopes", required=True, help="What it may do: one or more of read,write,admin.")
@click.option("--rate-limit", help='Its own limit, as in "500/second".')
def new(file: Path, name: str, scopes: str, rate_limit: str | None) -> None:
    """Make a key, keep its hash in the file and print it, once."""
    from xdm.schema import UsageError
    from xdm.serving.keys import new_key, read_keys, write_keys

    known = read_keys(file) if file.exists() else []
    if any(key.name == name for key in known):
        raise UsageError(f"{file} has a key of the name {name!r}; choose another, or revoke that one first")
    key, kept = new_key(name, [scope.strip() for scope in scopes.split(",")], rate_limit)  # type: ignore[misc]
    write_keys(file, [*known, kept])
    click.echo(f"kept the hash of {name!r} in {file}; this is the only time that the key is shown:", err=True)
    click.echo(key)


@keys.command("list")
@FILE_OPTION
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(file: Path, as_json: bool) -> None:
    """List the keys' names, scopes and limits."""
    import json

    from xdm.serving.keys import read_keys

    for key in read_keys(file):
        if as_json:
            click.echo(json.dumps(key.model_dump(mode="json", exclude={"sha256"})))
        else:
            click.echo(f"{key.name:<20} {','.join(key.scopes):<18} {key.rate_limit or ''}".rstrip())


@keys.command()
@FILE_OPTION
@click.option("--name", required=True, help="The key to take away.")
def revoke(file: Path, name: str) -> None:
    """Take a key away: requests with it are refused within a second."""
    from xdm.schema import UsageError, nearest
    from xdm.serving.keys import read_keys, write_keys

    known = read_keys(file)
    left = [key for key in known if key.name != name]
    if len(left) == len(known):
        raise UsageError(f"{file} has no key of the name {name!r}.{nearest(name, [key.name for key in known])}")
    write_keys(file, left)
    click.echo(f"revoked {name!r}; {len(left)} left in {file}")
