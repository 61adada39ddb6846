"""Settings of every model for the contract suite, by shape: each file has ``SMALL`` (small widths, by model), ``SWITCHES`` (further
cases, by a name of their own) and ``ALTERNATIVES`` (by model, for every setting what it is changed from and to)."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

_FILES = [importlib.import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]


def _joined(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in _FILES:
        held = getattr(file, name)
        assert not found.keys() & held.keys(), (name, found.keys() & held.keys())
        found |= held
    return found


SMALL_MODELS: dict[str, dict[str, Any]] = _joined("SMALL")
SWITCHES: dict[str, dict[str, Any]] = _joined("SWITCHES")
SDM_SWITCHES = {name: settings for name, settings in SWITCHES.items() if settings.get("name", "sdm") in ("sdm", "sdm_actions")}
SESSION_SWITCHES = {name: settings for name, settings in SWITCHES.items() if name not in SDM_SWITCHES}
ALTERNATIVES: dict[str, dict[str, tuple[dict[str, Any], Any]]] = _joined("ALTERNATIVES")
