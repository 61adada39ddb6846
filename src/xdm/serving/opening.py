"""From settings to a service: the state, the store, the bundle, and the shelf that others are loaded from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xdm.bundle.reading import load_recommender
from xdm.log.store import Store
from xdm.retrieval.live import LiveCatalogue
from xdm.schema import BundleError
from xdm.serving.history import History
from xdm.serving.questions import Served
from xdm.serving.service import Service, model_info
from xdm.serving.settings import ServeSettings
from xdm.serving.shelf import Shelf, check
from xdm.serving.state import open_state
from xdm.serving.telemetry import Telemetry


@dataclass(frozen=True)
class Opened:
    """A service that is ready to answer, the shelf of its bundles, and what it counts."""

    service: Service
    shelf: Shelf
    telemetry: Telemetry


def open_service(settings: ServeSettings, telemetry: Telemetry) -> Opened:
    """Open what ``settings`` name, warm it up, and take up where the state says that the service was.

    Raises:
        BundleError, StoreError, StateError: what is to be served cannot be opened.
    """
    history = Store(settings.history) if settings.history else None
    opener = partial(open_bundle, history=history, exact=settings.index == "exact")
    served = opener(settings.bundle_path.absolute())
    check(served)
    state = open_state(settings.state, durability=settings.durability)
    try:
        service = Service(served, state=state, counts=telemetry)
        shelf = Shelf(settings.models_folder, opener, service, served.model.fingerprint, telemetry)
        shelf.begin()
    except BaseException:
        state.close()
        raise
    return Opened(service, shelf, telemetry)


def open_bundle(path: Path, *, history: Store | None, exact: bool) -> Served:
    """The bundle at ``path`` with the store's events in its terms.

    Raises:
        BundleError: it is none, not as it was written, or a control, which does not read its users' own skips.
    """
    # One thread searches: more workers use more cores, and a query alone is too small to share.
    recommender = load_recommender(path, threads=1, exact=exact)
    refuse_control(recommender.manifest.get("unclicked_source", "own"))
    model = model_info(recommender.manifest)
    past = History(history, recommender.catalogue) if history else None
    if past is not None:
        past.events_of("", before=1, newest=1)  # sorts the ids now, and not when somebody waits
    recommender.users.index(""), recommender.catalogue.index("")
    return Served(path.name, model, LiveCatalogue(recommender, model.fingerprint), past)


def refuse_control(unclicked_source: str) -> None:
    """
    Raises:
        BundleError: the bundle was trained as a control for comparisons, and is not for people.
    """
    if unclicked_source != "own":
        raise BundleError(
            f"the bundle was trained with data.unclicked_source={unclicked_source}, a control for comparisons and not for people; "
            "train it with data.unclicked_source=own"
        )
