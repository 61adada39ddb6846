"""The command line. Each command is a module of its own and is imported when it is called, so that ``--help`` is quick."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click

from xdm import __version__
from xdm.schema import XdmError, nearest

# name: (module:function, the line that `xdm --help` shows), in the order of the road from a log to a service
COMMANDS = {
    "prepare": ("xdm.cli.prepare:prepare", "Turn a raw exposure log into an event store."),
    "behaviours": ("xdm.cli.behaviours:behaviours", "Print what a model may see of a user at a time."),
    "train": ("xdm.cli.train:train", "Train a model on a store and write its bundle."),
    "evaluate": ("xdm.cli.evaluate:evaluate", "Judge a bundle over the full catalogue."),
    "rolling": ("xdm.cli.rolling:rolling", "Train up to t, judge the next hours, move on."),
    "experiment": ("xdm.cli.experiment:experiment", "Variants, seeds and logs side by side, with a report."),
    "compare": ("xdm.cli.compare:compare", "Paired tests between evaluated runs."),
    "report": ("xdm.cli.report:report", "Pictures and tables: geometry, case study, sweep."),
    "recommend": ("xdm.cli.recommend:recommend", "Top-K items for users of a store or for events given inline."),
    "index": ("xdm.cli.index:index", "Give a bundle an approximate index, for large catalogues."),
    "serve": ("xdm.cli.serve:serve", "Serve a bundle over HTTP."),
    "keys": ("xdm.cli.keys:keys", "Make, list and revoke the API keys of a service."),
    "models": ("xdm.cli.models:models", "List the models and their settings."),
    "simulate": ("xdm.cli.simulate:simulate", "Write a simulated exposure log whose skips mean something."),
    "oracle": ("xdm.cli.oracle:oracle", "What a Bayes filter reaches on a simulated log."),
    "demo": ("xdm.cli.demo:demo", "Walk the whole road on a simulated log."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name][0].split(":")
        return getattr(importlib.import_module(module), function)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command '{args[0]}'.{nearest(args[0], COMMANDS)} `xdm --help` lists the commands.")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 fine, 2 wrong use or bad input, 1 a fault of ours.",
)
@click.version_option(__version__, prog_name="xdm")
def group() -> None:
    """Candidate retrieval from exposure logs: what people clicked, and what they were shown and skipped.

    \b
    A first walk over the whole road, on simulated data:
      xdm demo
    On a log of your own:
      xdm prepare LOG.parquet --items ITEMS.parquet --out store
      xdm train store --model xdm --out bundle
      xdm evaluate bundle store --out results
      xdm serve bundle --history store
    """


def main() -> NoReturn:
    """Run the command line; every `XdmError` becomes one message on standard error and its exit code. So does every file or
    folder that the system refuses to read or write, with the exit code 2."""
    try:
        group.main(standalone_mode=False)
    except XdmError as error:
        click.secho(f"xdm: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except OSError as error:
        if not isinstance(error.filename, str | bytes | os.PathLike):
            raise  # no path of the user's: the traceback tells more
        click.secho(f"xdm: {_refused(error)}", fg="red", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("xdm: interrupted", err=True)
        sys.exit(130)
    sys.exit(0)


def _refused(error: OSError) -> str:
    """Which path was refused, and why; for what is filled under a hidden name, the name that it would have got."""
    from xdm.folders import final_path

    path = final_path(os.fsdecode(error.filename))
    return f"{path} cannot be read or written ({error.strerror or error}); check the path and its rights, or choose another"
