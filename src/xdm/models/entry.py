"""What a model's file says of its model: its encoder and settings, where it is from, and what ``--model NAME`` stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from xdm.models.encoder import Encoder

Retrieved = Literal["inner product", "scoring every pair", "beam search over a tree"]
Settings = dict[str, Any]  # of the whole configuration, nested


@dataclass(frozen=True)
class Preset:
    """Further settings that a model goes by under a name of its own."""

    summary: str
    settings: Settings


@dataclass(frozen=True)
class ModelEntry:
    """An encoder and its settings. A model's file holds its entries, by name, as ``ENTRIES``."""

    encoder: type[Encoder]  # made of (config, sizes, codes)
    config: type[BaseModel]
    summary: str
    paper: str = ""  # authors, where and when it was published, arXiv number
    needs: tuple[str, ...] = ()  # of "user", "times", "sessions", "features", "exposures": beyond the clicked items in order
    retrieved: Retrieved = "inner product"  # how its items are found; a test holds it against the bundle's index
    label: str = ""  # what it is beside its paper, where the original was no retrieval model or is not known in full
    settings: Settings = field(default_factory=dict)  # beside the defaults, what ``--model NAME`` sets outside of ``model``
    presets: dict[str, Preset] = field(default_factory=dict)


IDS_ALONE: Settings = {"item_vectors": {"features": False}}  # as most papers score items
OWN_NEGATIVES: Settings = {"sampler": "uniform", "negatives_for": "label"}


def of_last_200(model: Settings, epochs: int, patience: int, **objective: Any) -> Settings:
    """A transformer as its authors train it on ML-1M: the user's last 200 clicks, Adam 1e-3, 128 rows a step."""
    return {
        "model": model, **IDS_ALONE, "behaviours": {"history_max": 200}, "objective": objective,
        "training": {
            "learning_rate": 1e-3, "batch_size": 128, "epochs": epochs, "patience": patience,
            "monitor": "ndcg@10", "exclude_seen": True,  # their rankings hold no item that was clicked before
        },
    }  # fmt: skip
