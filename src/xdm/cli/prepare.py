"""``xdm prepare``: a raw exposure log to an event store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xdm.cli.options import PATH, PATH_OR_NAME
from xdm.schema import UsageError, nearest

if TYPE_CHECKING:
    from xdm.log.ingesting import Progress
    from xdm.log.settings import PrepareSettings
    from xdm.log.source import LogSource

COLUMN_OPTIONS = ("user", "item", "timestamp", "clicked", "session", "action", "position", "dwell")


def column_options(command: Any) -> Any:
    """``--user-column`` and so on, as parameters ``user_column`` …"""
    for name in reversed(COLUMN_OPTIONS):
        default = {"user": "user_id", "item": "item_id", "session": "session_id"}.get(name, name)
        text = (
            f"The log's column for {default}."
            if name in COLUMN_OPTIONS[:4]
            else f"Default: {default}, if there; '' for none."
        )
        command = click.option(f"--{name}-column", metavar="NAME", help=text)(command)
    return command


@click.command()
@click.argument("log", nargs=-1, required=True, metavar="LOG...", type=PATH_OR_NAME)
@click.option("--out", required=True, type=PATH, help="The store's folder.")
@click.option("--items", type=PATH, help="Items table: item_id and features.")
@click.option("--users", type=PATH, help="Users table: user_id and profile columns.")
@column_options
@click.option(
    "--clicked-when", metavar="SQL", help="What counts as a click, e.g. \"event_type = 'click'\"; true for all rows."
)
@click.option(
    "--time-unit", type=click.Choice(["auto", "s", "ms", "us", "ns", "datetime"]), default="auto", show_default=True,
    help="auto: typed times as they are, integers as seconds.",
)  # fmt: skip
@click.option(
    "--id-type", type=click.Choice(["auto", "text", "integer"]), default="auto", show_default=True,
    help="auto: the column's own type; CSV is text.",
)  # fmt: skip
@click.option(
    "--on-bad-rows", type=click.Choice(["fail", "drop"]), default="fail", show_default=True,
    help="fail: say what is bad and write nothing; drop: leave bad rows out and count them.",
)  # fmt: skip
@click.option("--items-columns", metavar="A,B", help="The item features to take.  [default: chosen and said]")
@click.option("--users-columns", metavar="A,B", help="The profile columns to take.  [default: chosen and said]")
@click.option("--partitions", type=click.IntRange(1, 4096), help="Parts of the store.  [default: 2 million rows each]")
@click.option("--adapter", metavar="NAME", help="LOG is a published data set: ebnerd, kuairand, mind or movielens.")
@click.option("--overwrite", is_flag=True, help="Replace an existing store.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def prepare(
    log: tuple[str, ...], out: Path, items: Path | None, users: Path | None, adapter: str | None, overwrite: bool,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Turn a raw exposure log into an event store.

    LOG is one or more Parquet or CSV files (.csv, .csv.gz), folders of them, or quoted patterns, with one row per
    exposure: user_id, item_id, timestamp (seconds since 1970) and clicked; and session_id, action, position, dwell where
    there are such columns.

    \b
      xdm prepare log.parquet --items items.parquet --out store
      xdm prepare 'logs/2024-*.csv.gz' --user-column uid --time-unit ms --out store
      xdm prepare events.parquet --clicked-when "event_type IN ('click', 'buy')" --out store
    """
    from xdm.folders import check_replaceable
    from xdm.log.ingesting import BadRowsError
    from xdm.log.preparing import prepare_log
    from xdm.log.store import FORMAT

    check_replaceable(out, FORMAT, overwrite=overwrite)
    settings = _settings(options)
    source: LogSource | tuple[str, ...] = log if adapter is None else _adapted(adapter, log, options)
    try:
        with _ProgressBar() as progress:
            report = prepare_log(
                source, out, items=items, users=users, settings=settings, overwrite=overwrite, progress=progress
            )
    except BadRowsError as error:
        if as_json:
            click.echo(_json({"rows_read": error.rows_read, "events": 0, "bad_rows": error.bad.as_json()}))
        raise
    click.echo(_json(report.as_json()) if as_json else str(report))


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _settings(options: dict[str, Any]) -> PrepareSettings:
    from pydantic import ValidationError

    from xdm.log.settings import PrepareSettings

    values = {name: value for name, value in options.items() if value is not None}
    for name in ("items_columns", "users_columns"):
        if name in values:
            values[name] = tuple(column.strip() for column in values[name].split(",") if column.strip())
    try:
        return PrepareSettings(**values)
    except ValidationError as error:
        raise UsageError(
            "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        ) from None


def _adapted(name: str, log: tuple[str, ...], options: dict[str, Any]) -> LogSource:
    """The published data set in the folder that ``log`` names."""
    from xdm.log.adapters import ADAPTERS

    if name not in ADAPTERS:
        raise UsageError(f"there is no adapter '{name}'; there are {', '.join(ADAPTERS)}.{nearest(name, ADAPTERS)}")
    given = [f"--{option.replace('_', '-')}" for option in _COLUMN_MEANINGS if options.get(option) is not None]
    if given or options["time_unit"] != "auto":
        raise UsageError(f"an adapter knows its columns; leave out {', '.join(given or ['--time-unit'])}")
    if len(log) != 1:
        raise UsageError(f"--adapter reads one data set, and {len(log)} paths were given")
    if not Path(log[0]).exists():
        raise UsageError(f"{log[0]} does not exist; check the path")
    return ADAPTERS[name](Path(log[0]))


_COLUMN_MEANINGS = (*(f"{name}_column" for name in COLUMN_OPTIONS), "clicked_when")


class _ProgressBar:
    """A bar with rate and estimate on standard error; where that is no terminal, nothing."""

    def __enter__(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("reading", total=1.0, rows=0, rate=0.0)
        return self._show

    def _show(self, stage: str, fraction: float, rows: int) -> None:
        task = self._bar.tasks[0]
        if stage != task.description:
            self._bar.reset(self._task, description=stage)
        # A later stage goes over all the rows again
        done = rows if stage == "reading" else rows * fraction
        self._bar.update(self._task, completed=fraction, rows=rows, rate=done / max(task.elapsed or 0.0, 1e-3))

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
