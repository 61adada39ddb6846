"""Events of one user from a file of JSON lines."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from xdm.schema import UsageError, describe_path
from xdm.serving.messages.recommend import InlineEvent


def read_inline_events(path: Path) -> list[InlineEvent]:
    """The events of the file, in its order; empty lines are passed over.

    Raises:
        UsageError: the file cannot be read or holds no event, or a line is no event (the first such line is named).
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); give a UTF-8 file of JSON lines") from None
    events = [_event(line, path, row) for row, line in enumerate(lines, start=1) if line.strip()]
    if not events:
        raise UsageError(f"{path} holds no event; write one JSON object a line")
    return events


def _event(line: str, path: Path, row: int) -> InlineEvent:
    try:
        return InlineEvent.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"])
        where = describe_path(path, row=row, column=field) if field else describe_path(path, row=row)
        raise UsageError(
            f'{where}: {first["msg"]}; a line is {{"item_id": "i3", "timestamp": 1700000000, "clicked": true}}, '
            'with "session_id" if there is one'
        ) from None
