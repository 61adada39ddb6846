"""``xdm experiment``: variants × seeds × logs, in parallel, resumable, with a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xdm.cli.options import PATH

if TYPE_CHECKING:
    from xdm.experiments.running import Grid


@click.command()
@click.argument("file", type=PATH, metavar="FILE.yaml")
@click.option("--out", type=PATH, help="The folder of results.  [default: results/NAME]")
@click.option("--log", "logs", multiple=True, metavar="NAME=STORE", help="The store of a log, over the file's.")
@click.option("--workers", type=click.IntRange(1), help="Runs at once.  [default: the file's, or the cores]")
@click.option("--memory", help="Budget of all runs together, such as 16GB.  [default: the file's, or 80 % of the machine's]")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@click.option("--json", "as_json", is_flag=True, help="What was done, as JSON on standard output.")
def experiment(
    file: Path, out: Path | None, logs: tuple[str, ...], workers: int | None, memory: str | None, quiet: bool, as_json: bool
) -> None:
    """Run the grid of FILE.yaml: each variant with each seed on each log, in processes of their own; then write
    results.parquet, differences.parquet, report.md and report.html.

    The same command goes on where it was stopped, by whatever: runs that are there are not done again, so variants, seeds
    and logs can be added to the file. A run that fails is told at the end and stops no other; the exit code is then 2,
    or 1 if a failure is a fault of ours. docs/experiments.md says what the file may hold.

    \b
    Examples:
      xdm experiment experiments/example.yaml
      xdm experiment experiments/example.yaml --out results/mine --workers 4 --memory 16GB
      xdm experiment FILE.yaml --log news=stores/ebnerd
    """
    from xdm.console import Progress
    from xdm.experiments.file import read_file
    from xdm.experiments.running import run_experiment

    read = read_file(file, _stores(logs), workers=workers, memory=memory)
    folder = out or Path("results") / read.name
    grid = run_experiment(read, folder, Progress(quiet=quiet))
    if as_json:
        failures = [{"run": ended.task.title, "error": ended.error} for ended in grid.failures]
        done = sum(task.done for task in grid.runs())
        click.echo(json.dumps({"out": str(folder), "runs": len(list(grid.runs())), "done": done, "failures": failures}))
    else:
        _print(grid, folder)
    if grid.failures:
        from xdm.schema import InternalError, UsageError

        kind = InternalError if grid.exit_code == InternalError.exit_code else UsageError
        n_runs = len(list(grid.runs()))
        raise kind(f"{len(grid.failures)} of {n_runs} runs failed, as said above; the same command tries them again")


def _stores(logs: tuple[str, ...]) -> dict[str, Path]:
    from xdm.schema import UsageError

    found = {}
    for text in logs:
        name, equals, store = text.partition("=")
        if not (name and equals and store):
            raise UsageError(f"--log {text!r}: must look like NAME=STORE, for example news=stores/ebnerd")
        found[name] = Path(store).expanduser().absolute()
    return found


def _print(grid: Grid, folder: Path) -> None:
    runs = list(grid.runs())
    click.echo(f"{sum(task.done for task in runs)} of {len(runs)} runs are done")
    for ended in grid.failures:
        click.secho(f"failed: {ended.task.title}: {ended.error}", fg="red", err=True)
    click.echo(f"report: {folder / 'report.md'}, {folder / 'report.html'}; every figure: {folder / 'results.parquet'}")
