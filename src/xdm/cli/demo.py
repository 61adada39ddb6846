"""``xdm demo``: the whole road on a simulated log."""

from __future__ import annotations

from pathlib import Path

import click

from xdm.cli.options import PATH


@click.command(context_settings={"show_default": True})
@click.option("--out", default="demo", type=PATH, help="The folder to fill.")
@click.option("--users", type=click.IntRange(100), default=6000, help="Simulated users; with few of them differences drown in noise.")
@click.option("--seed", type=click.IntRange(0), default=7, help="Of the world and of training.")
@click.option("--epochs", type=click.IntRange(1), default=20, help="Epochs at most.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier demo left in OUT.")
def demo(out: Path, users: int, seed: int, epochs: int, overwrite: bool) -> None:
    """Walk the whole road on a simulated log: prepare, train SDM and XDM, judge, compare, look at one user, serve.

    Every step is an ordinary command, printed before it runs. The log is simulated, and made so that skips mean
    something; what the models make of it is measured, not promised. Takes one to three minutes on two cores.

    \b
    Examples:
      xdm demo
      xdm demo --users 1000 --seed 3 --out small-demo
    """
    from xdm.demo.walk import walk

    walk(out, users=users, seed=seed, epochs=epochs, overwrite=overwrite)
