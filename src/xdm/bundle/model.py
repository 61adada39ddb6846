"""The torch model of a bundle, for what the exported tower does not tell: h, n and the confidence fusion. Needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file

from xdm.bundle.format import CONFIG, USERS, WEIGHTS
from xdm.bundle.reading import BundleRecommender, load_recommender
from xdm.data.catalogue import Catalogue
from xdm.log.store import EntityTable
from xdm.models.retrieval_model import RetrievalModel
from xdm.schema import ITEM_DTYPE, USER_ID, BundleError, ConfigError
from xdm.training.config import Config, parse_config
from xdm.training.loop import new_model


@dataclass(frozen=True)
class TrainedModel:
    """A trained ``model`` (in evaluation mode), its configuration, the users that it knows, and the ``recommender`` of the
    same bundle, which finds behaviours and knows the items."""

    model: RetrievalModel
    config: Config
    users: EntityTable
    recommender: BundleRecommender


def load_model(path: Path | str, *, verify: bool = True) -> TrainedModel:
    """The model of the bundle at ``path`` with its trained weights; ``verify`` compares every file with the manifest's hash.

    Raises:
        BundleError: no bundle, a newer format, changed files, or weights and a configuration that this version cannot
            make a model of.
    """
    path = Path(path)
    recommender = load_recommender(path, verify=verify, threads=1)
    users = EntityTable.read(path / USERS, USER_ID)
    # The model's sizes come from the tables; which store they were made from does not matter to it.
    catalogue = Catalogue(recommender.items, users, recommender.n_candidates, np.zeros(0, ITEM_DTYPE))
    try:
        config = parse_config(yaml.safe_load((path / CONFIG).read_text(encoding="utf-8")))
        model = new_model(config, catalogue)
        model.load_state_dict(load_file(path / WEIGHTS))
    except (ConfigError, OSError, yaml.YAMLError, SafetensorError, RuntimeError) as error:
        raise BundleError(
            f"{path}: this version of xdm cannot make the model of {CONFIG} and {WEIGHTS} again ({error}); it can still "
            "be served and evaluated; for this, train it again"
        ) from None
    return TrainedModel(model.eval(), config, users, recommender)
