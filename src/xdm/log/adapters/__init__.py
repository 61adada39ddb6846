"""Adapters: public data sets, read from the files that their publishers hand out (docs/datasets.md).

An adapter is one module with a function ``open_source(path) -> LogSource``. It is imported when it is called, so that
looking a name up in `ADAPTERS` costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdm.log.source import LogSource


def _adapter(module: str) -> Callable[[Path], LogSource]:
    def open_source(path: Path) -> LogSource:
        return importlib.import_module(f"{__name__}.{module}").open_source(Path(path))

    return open_source


# name on the command line: a callable that opens the data set in a folder, or raises `LogError` naming the files
# that it looked for
ADAPTERS: dict[str, Callable[[Path], LogSource]] = {
    name: _adapter(name) for name in ("ebnerd", "kuairand", "mind", "movielens")
}
