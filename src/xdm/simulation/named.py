"""Worlds with a name, and worlds from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xdm.folders import MANIFEST
from xdm.schema import ConfigError, nearest
from xdm.simulation.world import World

# A list of 50 is short of room: 120 items in a cluster, 24 of them liked, and some five clicks a user. A skipped item is
# shown just once more, so that what was shown more than once in three days is nearly all that was skipped. With so
# many users SDM learns from clicks nearly what can be known from them.
REFERENCE = World(
    users=60_000, days=3, clusters=2, topics=20, items_per_topic=6, click_liked=0.8, popularity_skew=0.7,
    show_again=1.0, shown_at_most=2, visits=4, least_exposures=4, most_exposures=8,
)  # fmt: skip

# The reference world with one thing changed, each
WORLDS = {
    "small": World(),
    "reference": REFERENCE,
    "skips-random": REFERENCE.model_copy(update={"skip_information": 0.0}),
    "fading": REFERENCE.model_copy(update={"taste_change": 0.2}),
    "noisy": REFERENCE.model_copy(update={"exposure_noise": 0.3}),
}


def load_world(source: Path | str) -> World:
    """The world that ``source`` names: a folder that `xdm simulate` wrote, a YAML file of settings, or a key of `WORLDS`.

    Raises:
        ConfigError: there is no such world, or its settings cannot be.
    """
    path = Path(source)
    if path.is_dir():
        return make_world(_settings_of_folder(path), str(path / MANIFEST))
    if path.is_file():
        return make_world(_settings_of_yaml(path), str(path))
    if str(source) in WORLDS:
        return WORLDS[str(source)]
    raise ConfigError(
        f"there is no world {str(source)!r}: it is no folder of `xdm simulate`, no YAML file of settings and none of "
        f"{', '.join(WORLDS)}.{nearest(str(source), WORLDS)}"
    )


def make_world(settings: dict[str, Any], where: str = "") -> World:
    """`World` of ``settings``. The error names the file ``where`` they are from, or without one the command's options.

    Raises:
        ConfigError: an unknown setting, or values that cannot be.
    """
    try:
        return World(**settings)
    except ValidationError as error:
        found = "; ".join(_describe(one, "" if where else "--") for one in error.errors())
        raise ConfigError(f"{where}: {found}" if where else found) from None


def _settings_of_folder(path: Path) -> dict[str, Any]:
    from xdm.simulation.writing import FORMAT

    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ConfigError(f"{path} is no simulated log: its {MANIFEST} is missing or not one of `xdm simulate`")
    settings: dict[str, Any] = manifest["settings"]
    return settings


def _settings_of_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        settings = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML ({error})") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} holds no settings of a world; write lines such as users: 5000")
    return {str(name): value for name, value in settings.items()}


def _describe(error: Any, prefix: str) -> str:
    if error["type"] == "extra_forbidden":
        unknown = str(error["loc"][0])
        return f"{unknown!r} is no setting of a world.{nearest(unknown, World.model_fields)}"
    names = [str(part).replace("_", "-") if prefix else str(part) for part in error["loc"]]
    where = "".join(f"{prefix}{name} {error['input']!r}: " for name in names)
    return where + error["msg"].removeprefix("Value error, ")
