"""The experiment file: what is compared, on which logs, how it is judged. Typed; an unknown key is an error."""

from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from xdm.evaluation.metrics import METRICS, SKIPPED, SKIPPED_CATEGORY
from xdm.evaluation.splits import parse_duration
from xdm.schema import LONGEST_LIST, ConfigError, UsageError, nearest
from xdm.simulation.world import World

NAME = re.compile(r"[A-Za-z0-9][\w.=,+\-]*")  # of logs and variants, which are folders too
MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([MG])(i?)B", re.IGNORECASE)
SHARE_OF_MEMORY = 0.8  # of the machine's, where the file and the command line name no budget
Kept = Literal["bundle", "recommendations"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, frozen=True)


class TimeProtocol(_Section):
    """Train as `xdm train`, judge the test part."""

    kind: Literal["time"] = "time"
    questions: Literal["time", "each-click", "last-click", "sdm"] = Field("time", description="what is asked, and when")
    recent_window: str = Field("1d", description="of the variant recent_popularity, before the test part")


class LeaveLastOutProtocol(_Section):
    """Train on all but the last two clicks of every user; the last is judged, the one before it chooses the epoch."""

    kind: Literal["leave-last-out"]
    recent_window: str = Field("1d", description="of the variant recent_popularity, before the end of the log")


class WindowsEntry(_Section):
    """Cuts of a rolling evaluation, as `xdm rolling` takes them."""

    start: str = Field(description="the first cut: seconds, an ISO time (UTC), or 6d, 12h before the log's end")
    every: str = Field("24h", description="from one cut to the next")
    windows: int = Field(4, ge=1, le=10_000, description="how many cuts")
    horizon: str = Field("2h", description="the clicks of this long after a cut are judged")

    @field_validator("start", mode="before")
    @classmethod
    def _time_as_text(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, date) else str(value) if isinstance(value, int) else value


class RollingProtocol(WindowsEntry):
    """Train up to each cut, judge the hours after it, as `xdm rolling`."""

    kind: Literal["rolling"]
    warm_epochs: int = Field(0, ge=0, description="go on from the window before for so many epochs; 0: from scratch")
    warm_history: str | None = Field(None, description="with warm_epochs: learn only from labels this recent")
    recent_window: str = Field("4h", description="of the variant recent_popularity, before each cut")
    validation: WindowsEntry | None = Field(None, description="earlier windows, by which a search chooses")


Protocol = Annotated[TimeProtocol | LeaveLastOutProtocol | RollingProtocol, Field(discriminator="kind")]


def _of_kind(protocol: Any) -> Any:
    """``leave-last-out`` for ``{kind: leave-last-out}``, and kind ``time`` where none is named."""
    if isinstance(protocol, str):
        return {"kind": protocol}
    return {"kind": "time", **protocol} if isinstance(protocol, dict) else protocol


class LogEntry(_Section):
    """A log: a prepared store, or a simulated world that is written and prepared once, or a store of such a world. What it says of
    judging and of settings goes over what the file says for all logs."""

    store: Path | None = Field(None, description="an event store; a relative path starts at the file's folder")
    world: World | None = Field(None, description="settings of a simulated world (or the YAML file that holds them)")
    protocol: Protocol | None = Field(None, description="how this log is judged")
    exclude_seen: bool | None = Field(None, description="see the file's")
    unclicked_k: int | None = Field(None, ge=0, description="see the file's")
    settings: dict[str, Any] = Field({}, description="settings of every variant on this log: key.key: value")

    @field_validator("protocol", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return _of_kind(value)


class SearchEntry(_Section):
    """How variants with ranges are searched, by Optuna's TPE sampler."""

    trials: int = Field(20, ge=1, description="trials of each variant on each log")
    at_once: int = Field(2, ge=1, description="trials asked for together; the search is the same for any number of workers")
    seed: int = Field(0, ge=0, description="of the sampler")


class ExperimentFile(_Section):
    """A grid of variants, seeds and logs, and how it is judged."""

    name: str = Field(description="names the report and, by default, the folder of results")
    logs: dict[str, LogEntry] = Field(min_length=1, description="name to {store: PATH} or {world: {settings}}")
    protocol: Protocol = TimeProtocol()
    settings: dict[str, Any] = Field({}, description="settings of every variant: key.key: value")
    variants: dict[str, dict[str, Any]] = Field(min_length=1, description="name to {model: PRESET, key.key: value …}")
    seeds: tuple[int, ...] = Field((1, 2, 3), min_length=1, description="of training; a number n stands for 1 … n")
    control: str = Field(description="the variant that the others are compared with")
    metrics: tuple[str, ...] = Field(("hr@50", "recall@50", "ndcg@50"), min_length=1, description="what is reported")
    ks: tuple[Annotated[int, Field(ge=1, le=LONGEST_LIST)], ...] = Field((20, 50), min_length=1, description="lengths of the lists")
    exclude_seen: bool = Field(False, description="never recommend what the user clicked before")
    unclicked_k: int = Field(1, ge=0, description="strata: an unclicked item was shown more than this many times")
    search: SearchEntry = SearchEntry()
    keep: tuple[Kept, ...] = Field((), description="what each run keeps besides its figures: bundle, recommendations")
    workers: int | None = Field(None, ge=1, description="runs at once; default: the machine's cores")
    memory: str | None = Field(None, description="budget of all runs together, such as 16GB; default: 80 % of the machine's")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, dict):
            value = dict(value)
            if "protocol" in value:
                value["protocol"] = _of_kind(value["protocol"])
            if isinstance(value.get("seeds"), int):
                value["seeds"] = list(range(1, value["seeds"] + 1))
            if isinstance(value.get("logs"), dict):
                value["logs"] = {name: entry or {} for name, entry in value["logs"].items()}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> ExperimentFile:
        for kind, names in (("log", self.logs), ("variant", self.variants)):
            for name in names:
                if not NAME.fullmatch(name):
                    raise ValueError(f"the {kind} {name!r} names a folder too: use letters, digits and _ . = , + -")
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name {self.name!r} names a folder too: use letters, digits and _ . = , + -")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"a seed is given twice in {list(self.seeds)}")
        known = [f"{metric}@{k}" for metric in (*METRICS, SKIPPED, SKIPPED_CATEGORY) for k in self.ks]
        for metric in self.metrics:
            if metric not in known:
                raise ValueError(f"there is no metric {metric!r} with ks {list(self.ks)}.{nearest(metric, known)}")
        for log in self.logs:
            if isinstance(self.protocol_of(log), RollingProtocol):
                if self.exclude_seen_of(log):
                    raise ValueError("exclude_seen is not part of the rolling protocol; leave it out")
                if "bundle" in self.keep:
                    raise ValueError("keep: the rolling protocol makes no bundle, as each window has its own model; leave it out")
        if self.memory is not None:
            parse_memory(self.memory)
        return self

    def protocol_of(self, log: str) -> TimeProtocol | LeaveLastOutProtocol | RollingProtocol:
        """How ``log`` is judged."""
        return self.logs[log].protocol or self.protocol

    def exclude_seen_of(self, log: str) -> bool:
        """Whether on ``log`` nothing that the user clicked before is recommended."""
        own = self.logs[log].exclude_seen
        return self.exclude_seen if own is None else own

    def unclicked_k_of(self, log: str) -> int:
        """On ``log`` an unclicked item, of the strata, was shown more than so many times."""
        own = self.logs[log].unclicked_k
        return self.unclicked_k if own is None else own

    @property
    def n_workers(self) -> int:
        return self.workers or os.cpu_count() or 1

    @property
    def memory_mb(self) -> float:
        """The memory budget in MB (2²⁰ bytes)."""
        if self.memory is not None:
            return parse_memory(self.memory)
        return SHARE_OF_MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20


def parse_memory(text: str) -> float:
    """MB (2²⁰ bytes) of ``500MB``, ``16GB`` or ``16GiB``.

    Raises:
        ValueError: anything else, or nothing.
    """
    match = MEMORY.fullmatch(text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f"memory {text!r} is no amount; write a number and a unit, such as 500MB or 16GB")
    base, power = (1024, {"M": 2, "G": 3}) if match[3] else (1000, {"M": 2, "G": 3})
    return float(match[1]) * base ** power[match[2].upper()] / 2**20


def read_file(path: Path, stores: dict[str, Path] | None = None, **given: Any) -> ExperimentFile:
    """The file at ``path``; ``stores`` (name to store) and ``given`` keys that are not None go over what it says.

    Raises:
        ConfigError: no such file, no YAML, an unknown key (named with the nearest right one), a wrong type or range,
            a log without a store or a world, a store of a log that the file does not have.
    """
    settings = _yaml(path)
    settings |= {key: value for key, value in given.items() if value is not None}
    logs = settings.get("logs")
    if isinstance(logs, dict):
        logs = {name: _resolved(entry, path.parent) for name, entry in logs.items()}
        settings["logs"] = _with_stores(path, logs, stores or {})
    try:
        file = ExperimentFile.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error)}") from None
    for name, entry in file.logs.items():
        if entry.store is None and entry.world is None:
            raise ConfigError(f"{path}: the log {name} has neither a store nor a world; give it with --log {name}=STORE")
    _check_durations(path, file)
    return file


def _with_stores(path: Path, logs: dict[Any, Any], stores: dict[str, Path]) -> dict[str, Any]:
    """The entries of ``logs``, each with the store that is given for it."""
    for name in stores:
        if name not in logs:
            raise ConfigError(
                f"{path}: there is no log {name!r} that --log could give a store to.{nearest(name, map(str, logs))} "
                f"Logs there: {', '.join(map(str, logs)) or 'none'}"
            )
    given = {name: {**(logs[name] or {}), "store": store} for name, store in stores.items() if isinstance(logs[name], dict | None)}
    return logs | given


def _yaml(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is no YAML ({error})") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: must hold keys and values: name, logs, variants, control")
    return value


def _resolved(entry: Any, folder: Path) -> Any:
    """A log's entry with paths that start at ``folder``, and with the world that another file holds."""
    if not isinstance(entry, dict):
        return entry
    entry = dict(entry)
    if isinstance(entry.get("store"), str):
        entry["store"] = folder / Path(entry["store"]).expanduser()
    if isinstance(entry.get("world"), str):
        entry["world"] = _yaml(folder / Path(entry["world"]).expanduser())
    return entry


def _check_durations(path: Path, file: ExperimentFile) -> None:
    for log in file.logs:
        _check_durations_of(path, "protocol" if file.logs[log].protocol is None else f"logs.{log}.protocol", file.protocol_of(log))


def _check_durations_of(path: Path, where: str, protocol: TimeProtocol | LeaveLastOutProtocol | RollingProtocol) -> None:
    texts = {"recent_window": protocol.recent_window}
    if isinstance(protocol, RollingProtocol):
        texts |= {"every": protocol.every, "horizon": protocol.horizon}
        texts |= {"warm_history": protocol.warm_history} if protocol.warm_history else {}
        if protocol.validation is not None:
            texts |= {"validation.every": protocol.validation.every, "validation.horizon": protocol.validation.horizon}
    for key, text in texts.items():
        try:
            parse_duration(text)
        except UsageError as error:
            raise ConfigError(f"{path}: {where}.{key}: {error}") from None


def explain(error: ValidationError, root: type[BaseModel] = ExperimentFile) -> str:
    """One line a fault: the key, what is wrong, and the nearest right key where one is unknown."""
    lines = []
    for fault in error.errors(include_url=False):
        path = [str(part) for part in fault["loc"]]
        where = ".".join(path)
        if fault["type"] == "extra_forbidden":
            known = _keys_at(root, path[:-1])
            lines.append(f"there is no key '{where}'.{nearest(path[-1], known)} Keys there: {', '.join(known)}")
        elif fault["type"] == "missing":
            lines.append(f"the key '{where}' is missing")
        elif not path:
            lines.append(fault["msg"].removeprefix("Value error, "))
        else:
            lines.append(f"{where}: {fault['msg'].removeprefix('Value error, ')}, got {fault['input']!r}")
    return "; ".join(lines)


def _keys_at(root: Any, path: list[str]) -> list[str]:
    """The keys that exist at ``path``, through dictionaries, optional sections and the kinds of protocol."""
    current = root
    for part in path:
        if get_origin(current) is dict:
            current = get_args(current)[1]
            continue
        sections = _sections(current)
        if len(sections) > 1:  # the path names the kind of protocol as a step of its own
            current = next(section for section in sections if part in get_args(section.model_fields["kind"].annotation))
        else:
            current = sections[0].model_fields[part].annotation
    return list(_sections(current)[0].model_fields)


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections that ``annotation`` allows: itself, or those of a union."""
    kinds = get_args(annotation) or (annotation,)
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
