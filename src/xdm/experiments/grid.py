"""The variants of a file: lists become grids, ranges and choices become search spaces."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from xdm.evaluation.baselines import BASELINES, baseline_config
from xdm.experiments.file import ExperimentFile
from xdm.schema import ConfigError, nearest

ORACLES = ("oracle", "oracle-clicks")
UNTRAINED = (*BASELINES, *ORACLES)  # judged once, for they have no seed
OF_BASELINE = "baseline."  # what a baseline's own settings begin with
# What the experiment sets itself, for all variants alike, since they must answer the same questions.
COMMON_ONLY = ("training.seed", "training.threads", "split.validation", "split.test")
NOT_SEARCHED = ("training.monitor",)  # what trials are compared by
SPACE_KEYS = {"low", "high", "log", "choices"}  # `first` alone makes no space


class Range(BaseModel):
    """A range of numbers, ends included; whole numbers where both ends are; ``log``: even on a log scale. ``first`` is what the first
    trial takes, such as the authors' own value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: int | float
    high: int | float
    log: bool = False
    first: int | float | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Range:
        if self.first is not None and not self.low <= self.first <= self.high:
            raise ValueError("first must lie within the range")
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is true")
        return self


class Choices(BaseModel):
    """Values of which one is chosen; ``first`` by the first trial."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choices: tuple[str | int | float | bool | None, ...] = Field(min_length=2)
    first: str | int | float | bool | None = None

    @model_validator(mode="after")
    def _first_is_one(self) -> Choices:
        if self.first is not None and self.first not in self.choices:
            raise ValueError("first must be one of the choices")
        return self


Space = Range | Choices


@dataclass(frozen=True)
class Variant:
    """One thing that is compared: a preset or an untrained recommender, its ``assignments`` (``key.key`` to value, those
    common to all variants included) and, where it is searched, its ``spaces`` (``key.key`` to space). ``like``: the variant whose
    search gives it its values; ``logs``: those it is run on, None for all."""

    name: str
    model: str
    assignments: dict[str, Any] = field(default_factory=dict)
    spaces: dict[str, Space] = field(default_factory=dict)
    like: str | None = None
    logs: tuple[str, ...] | None = None

    @property
    def searched(self) -> str:
        """The variant whose search, if there is one, decides its values."""
        return self.like or self.name

    def on(self, log: str) -> bool:
        """Whether it is run on ``log``."""
        return self.logs is None or log in self.logs

    @property
    def trained(self) -> bool:
        return self.model not in UNTRAINED

    def words(self, values: Mapping[str, Any] | None = None) -> list[str]:
        """The assignments as ``--set`` takes them, with ``values`` of the search spaces over them."""
        return [f"{key}={json.dumps(value)}" for key, value in {**self.assignments, **(values or {})}.items()]


def variants_of(file: ExperimentFile, log: str | None = None) -> list[Variant]:
    """All variants of the file, grids expanded, in the file's order; the control is one of them. With ``log`` those that are run on
    it, the settings of the log in theirs.

    Raises:
        ConfigError: a variant without a model, a setting that a variant may not have, two variants of one name, a space
            that is none, a control that is no variant, an oracle on a log that is not simulated, a variant like one that is
            not searched, or on a log that there is not.
    """
    common = flat(file.settings) | ({} if log is None else flat(file.logs[log].settings))
    _check_common(common)
    found: list[Variant] = []
    for name, entry in file.variants.items():
        found += expand(name, entry, common)
    names = [variant.name for variant in found]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigError(f"variants: {', '.join(doubled)} stands for two variants; give them other names or values")
    if file.control not in names:
        raise ConfigError(f"control: there is no variant '{file.control}'; the variants are {', '.join(names)}")
    searched = {variant.name for variant in found if variant.spaces}
    for variant in found:
        _check_like_and_logs(variant, searched, file.logs)
    for log_name, log_entry in file.logs.items():
        oracles = [variant.name for variant in found if variant.model in ORACLES and variant.on(log_name)]
        if oracles and log_entry.world is None:
            raise ConfigError(f"variants: {', '.join(oracles)} needs a simulated world, and the log {log_name} names none")
    return [variant for variant in found if log is None or variant.on(log)]


def _check_like_and_logs(variant: Variant, searched: set[str], logs: Mapping[str, Any]) -> None:
    if variant.like is not None and (variant.spaces or not variant.trained):
        raise ConfigError(f"variants.{variant.name}: like takes another's values; leave out its own ranges, and train it")
    if variant.like is not None and variant.like not in searched:
        raise ConfigError(f"variants.{variant.name}: like: '{variant.like}' is no variant that is searched")
    for log in variant.logs or ():
        if log not in logs:
            raise ConfigError(f"variants.{variant.name}: logs: there is no log '{log}'.{nearest(log, logs)}")


def _check_common(common: Mapping[str, Any]) -> None:
    for key in ("model", "training.seed", "training.threads"):
        if key in common:
            where = {"model": "variants", "training.seed": "seeds"}.get(key, "workers: each run has one thread")
            raise ConfigError(f"settings: {key} is not set here; see {where}")
    for key, value in common.items():
        if _is_space(value):
            raise ConfigError(f"settings: {key} is a search space; only a variant can have one")


def expand(name: str, entry: Mapping[str, Any], common: Mapping[str, Any] | None = None) -> list[Variant]:
    """The variants that ``entry`` of the file stands for: one for each combination of its lists' values.

    A list of one value is that value, without a suffix: a setting that is a list itself is written as a list in a list.
    """
    own = dict(entry)
    model, like, logs = own.pop("model", None), own.pop("like", None), own.pop("logs", None)
    if not (logs is None or (isinstance(logs, list) and logs)):
        raise ConfigError(f"variants.{name}: logs is a list of names, such as [news]")
    if not isinstance(model, str):
        raise ConfigError(f"variants.{name}: name its model, such as model: xdm, or model: popularity")
    own = flat(own)
    if model in UNTRAINED:
        _check_untrained(name, model, own)
        # How the log is split is all that it needs of the settings.
        common = {key: value for key, value in (common or {}).items() if key.startswith("split.")}
    for key in COMMON_ONLY:
        if key in own:
            where = "seeds" if key == "training.seed" else "settings" if key.startswith("split") else "workers"
            raise ConfigError(f"variants.{name}: {key} is the same for all variants; see {where}")
    spaces = {key: _space(name, key, value) for key, value in own.items() if _is_space(value)}
    single = {key: value for key, value in own.items() if key not in spaces}
    lists = {key: value for key, value in single.items() if isinstance(value, list)}
    for key, values in lists.items():
        if not values:
            raise ConfigError(f"variants.{name}: {key} is an empty list; give it a value")
    grid = {key: values for key, values in lists.items() if len(values) > 1}
    fixed = {key: lists[key][0] if key in lists else value for key, value in single.items() if key not in grid}
    short = _short_names(list(grid))
    found = []
    for combination in itertools.product(*grid.values()):
        chosen = dict(zip(grid, combination, strict=True))
        suffix = "".join(f"-{short[key]}={_as_name(value)}" for key, value in chosen.items())
        assignments = {**(common or {}), **fixed, **chosen}
        assigned = {key: value for key, value in assignments.items() if key not in spaces}
        found.append(Variant(name + suffix, model, assigned, spaces, like, None if logs is None else tuple(logs)))
    return found


def _check_untrained(name: str, model: str, own: Mapping[str, Any]) -> None:
    """What is not trained takes its own settings, if it has any, and no other; nothing searches for their values."""
    has_settings = model in BASELINES and BASELINES[model].config is not None
    wrong = [key for key in own if not (has_settings and key.startswith(OF_BASELINE))]
    if wrong:
        takes = f"settings below {OF_BASELINE[:-1]} alone" if has_settings else "no settings"
        raise ConfigError(f"variants.{name}: {model} is not trained and takes {takes}, but has {', '.join(wrong)}")
    for key, value in own.items():
        if _is_space(value):
            raise ConfigError(f"variants.{name}: {key}: only what is trained is searched; give a list of values")


def divide(words: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """A baseline's own settings among a variant's ``words`` (`Variant.words`), and the other words."""
    words = list(words)
    own = (word.removeprefix(OF_BASELINE).split("=", 1) for word in words if word.startswith(OF_BASELINE))
    return {key: json.loads(value) for key, value in own}, [word for word in words if not word.startswith(OF_BASELINE)]


def untrained_settings(model: str, words: Iterable[str]) -> dict[str, Any] | None:
    """All settings of what is not trained, as plain values; None where it has none.

    Raises:
        ConfigError: a setting that it has not, or a wrong value.
    """
    config = None if model in ORACLES else baseline_config(model, divide(words)[0])
    return None if config is None else config.model_dump(mode="json")


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}, "c.d": 2}`` as ``{"a.b": 1, "c.d": 2}``; search spaces stay whole."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and not _is_space(value):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _is_space(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and set(value) & SPACE_KEYS != set()


def _space(name: str, key: str, value: dict[str, Any]) -> Space:
    if key in NOT_SEARCHED:
        raise ConfigError(f"variants.{name}: {key} cannot be searched, since trials are compared by it")
    kind: type[Space] = Choices if "choices" in value else Range
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or key}: {e['msg']}" for e in error.errors())
        raise ConfigError(
            f"variants.{name}: {key}: {faults}; write {{low: 0.1, high: 2, log: true}} or {{choices: [a, b]}}"
        ) from None


def _short_names(keys: list[str]) -> dict[str, str]:
    """The last word of each key, or the whole key where another has the same."""
    last = [key.rsplit(".", 1)[-1] for key in keys]
    return {key: word if last.count(word) == 1 else key for key, word in zip(keys, last, strict=True)}


def _as_name(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"[^\w.=,+\-]+", "_", text)
