"""The vocabulary: column names, reserved indices, dtypes and the one exception family. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

# --- columns of an exposure log (outside) -------------------------------------------------------------------------
USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
CLICKED = "clicked"
SESSION_ID = "session_id"
ACTION = "action"
POSITION = "position"
DWELL = "dwell"

REQUIRED_COLUMNS = (USER_ID, ITEM_ID, TIMESTAMP, CLICKED)

# --- columns of results ---------------------------------------------------------------------------------------------
RANK = "rank"
SCORE = "score"

# --- inside ---------------------------------------------------------------------------------------------------------
PADDING = 0  # index 0 of items, users and every feature: "none" or "unknown"; real rows start at 1
NO_SESSION = -1  # session code of a row without a session_id: equal to no other row's

ITEM_DTYPE = np.int32
TIME_DTYPE = np.int64  # seconds since 1970 UTC; never a float: float32 cannot hold a second of this century
CLICKED_DTYPE = np.bool_
SESSION_DTYPE = np.int32
SCORE_DTYPE = np.float32

# A time in seconds at or above this (the year 3000) is taken for a time in another unit and refused.
TIME_LIMIT = 32_503_680_000
LONGEST_LIST = 10_000  # the longest list that is judged, by whatever command

HOUR = 3600
DAY = 24 * HOUR


class XdmError(Exception):
    """Base of every error that this package raises on purpose.

    ``exit_code`` is what the command line returns: 2 for wrong use or bad input, 1 for a fault of ours.
    A message says what was wrong, where (file, row, column, key), and what to do.
    """

    exit_code = 2


class UsageError(XdmError):
    """Arguments or a request that cannot be carried out as given."""


class ConfigError(XdmError):
    """A configuration key that does not exist, or a value of the wrong type or range."""


class LogError(XdmError):
    """An exposure log, items table or users table that cannot be read or holds bad rows."""


class StoreError(XdmError):
    """A folder that is no event store, or a store of a format that this version cannot read."""


class BundleError(XdmError):
    """A folder that is no bundle, or whose content does not match its manifest."""


class InternalError(XdmError):
    """A broken promise inside the package: a fault of ours."""

    exit_code = 1


def describe_path(path: Path | str, **where: Any) -> str:
    """``file.csv, row 12, column 'clicked'``: where something is, for messages."""
    parts = [str(path)] + [f"{name} {value!r}" if name == "column" else f"{name} {value}" for name, value in where.items()]
    return ", ".join(parts)


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` where one of ``known`` is near ``name``, else nothing."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
