"""What ``xdm prepare`` has to say of a log: kept in the manifest, printed by the command."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from xdm.log.features import EntityReport


@dataclass
class PrepareReport:
    """Counts of one `prepare_log`: ``rows_read`` = ``events`` + bad rows + ``duplicates``."""

    store: str
    rows_read: int
    events: int
    clicks: int
    users: int
    items: int
    first_timestamp: int
    last_timestamp: int
    parts: int
    duplicates: int  # rows that repeated another in every column, dropped
    bad_rows: dict[str, dict[str, Any]]  # reason: {"count", "first": [{"file", "row", "value"}]}, dropped
    clicks_without_exposure: int  # kept: such a click is its own exposure
    unknown_clicks: int  # rows whose click expression came out as null, kept as not clicked
    rounded_times: int  # rows whose time had a fraction of a second
    seconds: float
    items_table: EntityReport | None = None
    users_table: EntityReport | None = None
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.rows_read:,} rows read in {self.seconds:.1f} s, {self.events:,} events kept in {self.store}",
            f"  users   {self.users:>12,}   in {self.parts} part{'s' if self.parts > 1 else ''}",
            f"  items   {self.items:>12,}",
            f"  clicks  {self.clicks:>12,}   {self.clicks / self.events:.2%} of the events",
            f"  from    {_utc(self.first_timestamp)} to {_utc(self.last_timestamp)}",
        ]
        dropped = {reason: bad["count"] for reason, bad in self.bad_rows.items()}
        if self.duplicates:
            dropped["row that repeats another in every column"] = self.duplicates
        lines += [f"  dropped {count:>12,}   {reason}" for reason, count in dropped.items()]
        for count, about in (
            (self.clicks_without_exposure, "clicks without an earlier exposure, each its own exposure"),
            (self.unknown_clicks, "rows where --clicked-when came out as null, not clicked"),
            (self.rounded_times, "times with a fraction of a second, rounded down"),
        ):
            lines += [f"  kept    {count:>12,}   {about}"] * (count > 0)
        lines += _table_lines("items", self.items_table) + _table_lines("users", self.users_table)
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def _table_lines(name: str, table: EntityReport | None) -> list[str]:
    if table is None:
        return []
    lines = [f"  {name} table: {table.rows:,} rows, {table.unused:,} of them not in the log"]
    if table.absent:
        first = ", ".join(str(value) for value in table.absent_first)
        lines.append(f"    {table.absent:,} {name} of the log are not in it and have no features: {first}, …")
    lines += [f"    + {column}: {about}" for column, about in table.taken.items()]
    return lines + [f"    - {column}: {why}" for column, why in table.left_out.items()]


def _utc(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
