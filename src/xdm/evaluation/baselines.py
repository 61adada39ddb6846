"""What is judged without training: the baselines by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from xdm.evaluation.ease import EASE, EASEConfig
from xdm.evaluation.neighbours import ItemKNN, ItemKNNConfig
from xdm.evaluation.popularity import ClickCounts, Popularity, RecentPopularity
from xdm.evaluation.splits import Split
from xdm.log.store import Store
from xdm.retrieval.types import Recommender
from xdm.schema import ConfigError, nearest


@dataclass(frozen=True)
class Baseline:
    """A recommender that only counts. One with settings takes ``(store, counts, split, settings)``, else ``(store, counts)``."""

    summary: str
    recommender: Any
    paper: str = ""
    config: type[BaseModel] | None = None


BASELINES = {
    "popularity": Baseline("what was clicked most before the cut-off", Popularity),
    "recent_popularity": Baseline("what was clicked most in the window before the cut-off", RecentPopularity),
    "itemknn": Baseline(
        "ItemKNN (TOIS 2004): items that share users with the clicked ones, by cosine", ItemKNN,
        "https://doi.org/10.1145/963770.963776", ItemKNNConfig,
    ),
    "ease": Baseline(
        "EASE (WWW 2019): items from items by a linear model in closed form", EASE, "https://arxiv.org/abs/1905.03375", EASEConfig
    ),
}  # fmt: skip
BESIDE_EVERY_MODEL = ("popularity", "recent_popularity")


def baseline_config(name: str, settings: Mapping[str, Any]) -> BaseModel | None:
    """The typed settings of the baseline ``name``, or None for one that has none.

    Raises:
        ConfigError: there is no such baseline, an unknown setting, or a value of the wrong kind.
    """
    if name not in BASELINES:
        raise ConfigError(f"there is no baseline '{name}'.{nearest(name, BASELINES)} Baselines: {', '.join(BASELINES)}")
    kind = BASELINES[name].config
    known = {} if kind is None else kind.model_fields
    for key in settings:
        if key not in known:
            has = f"It has: {', '.join(known)}" if known else "It has none"
            raise ConfigError(f"baseline.{key}: {name} has no such setting.{nearest(key, known)} {has}")
    if kind is None:
        return None
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        faults = "; ".join(f"baseline.{e['loc'][0]}: {e['msg']}, not {e['input']!r}" for e in error.errors())
        raise ConfigError(f"{name}: {faults}") from None


def check_baselines(names: Iterable[str]) -> None:
    """Raise a ConfigError for the first of ``names`` that is no baseline."""
    for name in names:
        baseline_config(name, {})


def baseline(
    name: str, store: Store, split: Split, counts: ClickCounts, settings: Mapping[str, Any] | None = None
) -> Recommender:
    """The baseline ``name``, counted from what is known before the cut-off of ``split`` (`known_before`); ``counts`` are those
    of `count_clicks` for the same split.

    Raises:
        ConfigError: as `baseline_config`.
    """
    config = baseline_config(name, settings or {})
    made = BASELINES[name].recommender
    return made(store, counts) if config is None else made(store, counts, split, config)
