"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

# option, field of BehaviourRules, help. Values are checked by BehaviourRules; defaults are the design's.
_RULES = (
    (
        "--session-gap",
        "session_gap",
        600,
        "Seconds: a click that comes sooner than this after the last joins its session.",
    ),
    ("--session-max", "session_max", 50, "Clicks that a session holds at most."),
    ("--history-max", "history_max", 0, "The latest so many clicks, whatever their session; 0: the session."),
    ("--long-window", "long_window", 604_800, "Seconds that long-term lists reach back before the session."),
    ("--long-max", "long_max", 20, "Values that a long-term list holds at most."),
    ("--unclicked-window", "unclicked_window", 259_200, "Seconds that the unclicked sequence reaches back."),
    ("--unclicked-k", "unclicked_k", 1, "An unclicked item was shown more than this many times."),
    ("--unclicked-max", "unclicked_max", 100, "Items that the unclicked sequence holds at most."),
    ("--keep-clicked", "keep_clicked", False, "Keep clicked items in it too: what was shown, a control."),
    ("--stream-max", "stream_max", 0, "Exposures that the stream of clicks and skips reaches back; 0: no stream."),
)


def rule_options(command: F) -> F:
    """The options of `xdm.behaviours.rules.BehaviourRules`, by name."""
    for option, name, default, text in reversed(_RULES):
        command = click.option(option, name, type=type(default), default=default, help=text)(command)
    return command


def rules_from(values: dict[str, Any]):
    """`BehaviourRules` from the options' values.

    Raises:
        UsageError: a value out of range, named as the option.
    """
    from pydantic import ValidationError

    from xdm.behaviours.rules import BehaviourRules
    from xdm.schema import UsageError

    try:
        return BehaviourRules(**values)
    except ValidationError as error:
        options = {name: option for option, name, *_ in _RULES}
        raise UsageError("; ".join(f"{options[str(e['loc'][0])]}: {e['msg']}" for e in error.errors())) from None
