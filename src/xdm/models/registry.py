"""The models by name, from their files. Nothing else in the package knows the name of a model."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from xdm.models import (
    actions,
    bert4rec,
    binn,
    caser,
    cml,
    comirec,
    gcsan,
    gru4rec,
    hgn,
    hiertcn,
    hrnn,
    hstu,
    ligr,
    lrml,
    m3,
    masr,
    mdr,
    metas,
    mind,
    mrmn,
    narm,
    prme,
    rrn,
    sasrec,
    sdm,
    shan,
    slirec,
    srgnn,
    stamp,
    tdm,
    transrec,
    triplet,
    youtubednn,
)
from xdm.models.entry import ModelEntry
from xdm.schema import ConfigError, nearest

# In the order in which `xdm models` lists them: by shape, the plainest first.
_FILES = (
    youtubednn,
    sdm, actions,
    shan, slirec, binn,
    gru4rec,
    hrnn,
    hiertcn,
    narm, stamp,
    m3,
    rrn,
    sasrec, ligr, hstu, bert4rec,
    caser, hgn,
    srgnn, gcsan,
    comirec, mind,
    cml, transrec, prme, triplet, lrml, mrmn, metas, mdr, masr,
    tdm,
)  # fmt: skip
MODELS: dict[str, ModelEntry] = {name: entry for file in _FILES for name, entry in file.ENTRIES.items()}


def model_config(settings: Any) -> BaseModel:
    """The typed settings of one model from ``{"name": …, …}``."""
    name = settings.get("name", "sdm") if isinstance(settings, dict) else None
    if not isinstance(name, str) or name not in MODELS:
        raise ConfigError(
            f"model.name: there is no model {name!r}.{nearest(str(name), MODELS)} Models: {', '.join(MODELS)}"
        )
    return MODELS[name].config.model_validate(settings)
