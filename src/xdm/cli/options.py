"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from xdm.schema import LONGEST_LIST

F = TypeVar("F", bound=Callable[..., Any])

LIST_LENGTH = click.IntRange(1, LONGEST_LIST)


class GivenPath(click.Path):
    """A path that is no empty text: that would mean the current folder, which nobody meant who wrote ``"$UNSET"``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the path is empty; name a file or a folder (the current one is .)", param, ctx)
        return super().convert(value, param, ctx)


PATH = GivenPath(path_type=Path)
FILE = GivenPath(path_type=Path, dir_okay=False)
PATH_OR_NAME = GivenPath()  # as text: patterns of files, names of worlds

# Field of BehaviourRules, which has the default and checks values, and the help of its option
_RULES = {
    "session_gap": "Seconds: a click that comes sooner than this after the last joins its session.",
    "session_max": "Clicks that a session holds at most.",
    "history_max": "The latest so many clicks, whatever their session; 0: the session.",
    "long_window": "Seconds that long-term lists reach back before the session.",
    "long_max": "Values that a long-term list holds at most.",
    "unclicked_window": "Seconds that the unclicked sequence reaches back.",
    "unclicked_k": "An unclicked item was shown more than this many times.",
    "unclicked_max": "Items that the unclicked sequence holds at most.",
    "keep_clicked": "Keep clicked items in it too: what was shown, a control.",
    "stream_max": "Exposures that the stream of clicks and skips reaches back; 0: no stream.",
}


def rule_options(command: F) -> F:
    """The options of `xdm.behaviours.rules.BehaviourRules`, by name."""
    from xdm.behaviours.rules import BehaviourRules

    for name, text in reversed(_RULES.items()):
        default = BehaviourRules.model_fields[name].default
        command = click.option(_option(name), name, type=type(default), default=default, help=text)(command)
    return command


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


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
        raise UsageError("; ".join(f"{_option(str(e['loc'][0]))}: {e['msg']}" for e in error.errors())) from None
