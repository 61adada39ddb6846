"""The settings of `xdm serve`: a YAML file, the environment and the command line, each overriding the one before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xdm.schema import ConfigError, nearest
from xdm.serving.keys import RateText

ENVIRONMENT_PREFIX = "XDM_SERVE_"

Durability = Literal["full", "normal"]


class ServeSettings(BaseModel):
    """Everything that can be set about a service. Times are in the unit that the name says."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    bundle: Path | None = Field(None, description="the model to serve first")
    models: Path | None = Field(None, description="folder of the bundles that may be loaded; null: the bundle's parent")
    history: Path | None = Field(None, description="event store whose events stand before the live ones of each user")
    index: Literal["bundle", "exact"] = Field("bundle", description="search the bundle's index, or every item")
    host: str = Field(
        "127.0.0.1", min_length=1, description="address to listen on; one that others can reach needs keys"
    )
    port: int = Field(8000, ge=0, le=65_535, description="0 picks a free one")
    workers: int = Field(1, ge=1, le=64, description="processes that answer; each holds the model")
    state: str = Field(
        "xdm-state.sqlite", min_length=1, description="where live events are kept: a file, or redis://HOST:PORT/DB"
    )
    durability: Durability = Field(
        "full", description="full: an acknowledged event survives a power cut; normal: a crash of the process"
    )
    max_age_days: int | None = Field(None, ge=1, description="live events are deleted at this age at the latest")
    keys: Path | None = Field(
        None, description="file of the API keys, as `xdm keys new` writes it; null: no key asked for"
    )
    rate_limit: RateText | None = Field(None, description='requests a key, as in "500/second"; a key may have its own')
    max_body_bytes: int = Field(1 << 20, ge=1024, le=1 << 28, description="larger requests are refused")
    request_timeout_s: float = Field(10.0, gt=0, le=3600, description="a request must have arrived in this time")
    max_connections: int = Field(1000, ge=1, description="open connections of a worker; more are turned away")
    deadline_ms: int = Field(200, ge=1, le=60_000, description="an answer that takes longer is the next best source's")
    queue_max: int = Field(
        512, ge=1, description="questions that may wait; one more is answered by the next best source"
    )
    drain_seconds: float = Field(
        10.0, ge=0, le=3600, description="running requests get this long when the service stops"
    )
    stop_delay_seconds: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="go on this long after SIGTERM, not ready, so that a load balancer looks away first",
    )
    refresh_seconds: float = Field(
        1.0, gt=0, le=3600, description="how often a worker looks for changes of items and model"
    )
    log_format: Literal["json", "text"] = Field("json", description="a JSON object a line, or text")
    access_log: bool = Field(True, description="one line a request; never with ids of users or items")

    @property
    def models_folder(self) -> Path:
        """Where bundles may be loaded from."""
        return self.models or self.bundle_path.absolute().parent

    @property
    def bundle_path(self) -> Path:
        """The bundle.

        Raises:
            ConfigError: none is set.
        """
        if self.bundle is None:
            raise ConfigError(
                "no bundle is set: `xdm serve BUNDLE`, `bundle:` in the --config file, or XDM_SERVE_BUNDLE"
            )
        return self.bundle


def load_settings(
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> ServeSettings:
    """The settings of a service: what is later overrides what is earlier.

    ``file`` is YAML, then come variables ``XDM_SERVE_…`` of the environment, then ``sets`` (``key=value``) and ``flags``
    (None: not given). An empty text in the environment or in ``sets`` stands for null.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or range (named with where it was set), an unreadable file.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    sources = [*_of_file(file), *_of_environment(environment), *_of_sets(sets), *_of_flags(flags or {})]
    for key, value, where in sources:
        if key not in ServeSettings.model_fields:
            raise ConfigError(f"{where}: there is no such setting.{nearest(key, ServeSettings.model_fields)}")
        values[key], origin[key] = value, where
    try:
        return ServeSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{origin.get(key, key)}: {values.get(key)!r} does not fit: {reason}") from None


def as_yaml(settings: ServeSettings) -> str:
    """The settings as a file for ``--config``, each with what it means."""
    lines = ["# xdm serve --config FILE"]
    for name, value in settings.model_dump(mode="json").items():
        lines.append(f"# {ServeSettings.model_fields[name].description}")
        lines.append(yaml.safe_dump({name: value}, allow_unicode=True, width=1000).strip())
    return "\n".join(lines)


Found = Iterable[tuple[str, Any, str]]  # key, value, where it was set


def _of_file(file: Path | None) -> Found:
    if file is None:
        return []
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {file} cannot be read ({error}); give a YAML file of settings") from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigError(f"--config {file} is no mapping; write one `key: value` a line, as --print-config does")
    return [(str(key), value, f"{file}, key {key!r}") for key, value in content.items()]


def _of_environment(environment: Mapping[str, str]) -> Found:
    names = sorted(name for name in environment if name.startswith(ENVIRONMENT_PREFIX))
    return [(name[len(ENVIRONMENT_PREFIX) :].lower(), environment[name] or None, name) for name in names]


def _of_sets(sets: Sequence[str]) -> Found:
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r} has no `=`; write --set key=value")
        yield key.strip(), value or None, f"--set {key.strip()}"


def _of_flags(flags: Mapping[str, Any]) -> Found:
    for key, value in flags.items():
        if value is not None:
            yield key, value, "BUNDLE" if key == "bundle" else f"--{key.replace('_', '-')}"
