"""The bundles of the models folder: loaded beside the active one, checked, switched to at once, and back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from xdm.behaviours.rules import BehaviourRules
from xdm.bundle.reading import read_manifest
from xdm.folders import MANIFEST
from xdm.log.store import Events
from xdm.retrieval.changes import ItemChange
from xdm.retrieval.types import MODEL, Points
from xdm.schema import PADDING, BundleError, UsageError, XdmError
from xdm.serving.errors import StateUnavailableError, UnknownBundleError
from xdm.serving.messages.items import ItemsAnswer, PostedItem
from xdm.serving.messages.models import ActivateAnswer, BundleAnswer, LoadAnswer, LoadRequest, ModelsAnswer
from xdm.serving.questions import Served
from xdm.serving.service import Service, model_info
from xdm.serving.state import State
from xdm.serving.telemetry import Telemetry

LEAST_SHARED = 0.5  # a bundle that knows fewer of the active one's items is likely the wrong one
SMOKE_K = 10
SMOKE_TIME = 2_000_000_000

logger = logging.getLogger("xdm.serving")
Opener = Callable[[Path], Served]  # opens and verifies a bundle, without changes of items


class Shelf:
    """What may be served, and what is. One change at a time; answers go on meanwhile.

    Of bundles that are not active two are kept in memory: the one before, to go back to, and the one loaded last.
    """

    def __init__(self, folder: Path, opener: Opener, service: Service, configured: str, telemetry: Telemetry) -> None:
        """``folder`` holds the bundles; ``configured`` is the fingerprint of the bundle that the service was started with."""
        self.folder, self._open, self._service, self._configured = folder, opener, service, configured
        self._telemetry = telemetry
        self._state: State = service.state
        self._lock = threading.RLock()
        self._previous: Served | None = None
        self._loaded: Served | None = None
        self._version = -1  # of the state, as far as it is followed
        self._items_version = 0  # of the changes in the active catalogue
        self._items_applied = 0  # of those in the catalogue made last

    # --- what there is --------------------------------------------------------------------------------------------------
    def models(self) -> ModelsAnswer:
        """The bundles of the folder, in order of name."""
        active = self._service.served
        names = sorted(path.parent.name for path in self.folder.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("."))
        return ModelsAnswer(active=active.model, models=[self._described(name, active) for name in names])

    def _described(self, name: str, active: Served) -> BundleAnswer:
        try:
            manifest = read_manifest(self.folder / name)
            model = model_info(manifest)
        except (XdmError, KeyError) as error:
            return BundleAnswer(name=name, state="unreadable", detail=str(error).replace(str(self.folder), ""))
        in_memory = {"active": active, "previous": self._previous, "loaded": self._loaded}
        held = [state for state, served in in_memory.items() if served and (served.name, served.model) == (name, model)]
        return BundleAnswer(
            name=name, model=model, state=held[0] if held else "on_disk", created=manifest.get("created"),
            index=manifest.get("index"), items=manifest.get("candidates"), users=manifest.get("users"),
        )  # fmt: skip

    def rules(self) -> list[BehaviourRules]:
        """What each bundle in memory may want to know of a user."""
        with self._lock:
            held = [self._service.served, self._previous, self._loaded]
        return [served.catalogue.recommender.rules for served in held if served is not None]

    # --- loading and switching ------------------------------------------------------------------------------------------
    def load(self, asked: LoadRequest) -> LoadAnswer:
        """Open a bundle beside the active one, compare every file with its hash, apply the changes of items, ask it questions.

        Raises:
            UnknownBundleError: the folder has no such bundle.
            BundleError: it cannot be read, is another than was asked for, or fails a check; the active one is untouched.
        """
        with self._lock:
            began = time.perf_counter()
            try:
                served = self._opened(asked.name)
                if asked.fingerprint not in (None, served.model.fingerprint):
                    raise BundleError(f"{asked.name} has the fingerprint {served.model.fingerprint}, not {asked.fingerprint}")
                shared = self._shared(served)
                if shared < LEAST_SHARED and not asked.force:
                    raise BundleError(
                        f"{asked.name} knows only {shared:.0%} of the active model's items; pass \"force\": true if it is meant"
                    )
            except XdmError:
                self._telemetry.swapped("refused")
                raise
            self._loaded = served
            self._telemetry.swapped("loaded")
            recommender = served.catalogue.recommender
            return LoadAnswer(
                name=served.name, model=served.model, items=served.catalogue.n_candidates, users=len(recommender.users),
                width=served.catalogue.width, shared_items=shared, seconds=round(time.perf_counter() - began, 3),
            )  # fmt: skip

    def activate(self, name: str) -> ActivateAnswer:
        """Switch to a bundle, loading it where it is not: every answer begun from now on is its own.

        Raises:
            UnknownBundleError, BundleError: as `load` does.
            StateUnavailableError: the other workers could not be told; nothing is switched.
        """
        with self._lock:
            if self._loaded is None or self._loaded.name != name:
                self.load(LoadRequest(name=name))
            assert self._loaded is not None
            return self._switch(self._loaded, "activated")

    def roll_back(self) -> ActivateAnswer:
        """Switch to the bundle that was active before; in memory where it still is, else loaded again.

        Raises:
            UnknownBundleError: there was none since the service was started with its bundle.
            BundleError, StateUnavailableError: as `activate` does.
        """
        with self._lock:
            self.follow()  # another worker may have switched
            active = self._state.active_model()
            if active is None or active.configured != self._configured or active.previous is None:
                raise UnknownBundleError("no other model was active before this one; activate one by its name")
            held = self._previous
            if held is None or held.name != active.previous:
                held = self._opened(active.previous)
            return self._switch(held, "rolled_back")

    def _switch(self, to: Served, outcome: str, *, tell: bool = True) -> ActivateAnswer:
        before = self._service.served
        try:
            to = self._current(to)
            check(to)
            if tell:
                self._state.activate(to.name, to.model.fingerprint, self._configured, self._before(to))
            self._service.served = to
        except Exception:
            self._telemetry.swapped("failed")
            raise
        self._previous, self._loaded = self._previous if before.model == to.model else before, None
        self._items_version = self._items_applied
        self._telemetry.swapped(outcome)
        self._telemetry.serves(to.name, to.model.fingerprint, to.catalogue.n_candidates)
        logger.info("model %s (%s) is active, before it %s", to.name, to.model.fingerprint, before.model.fingerprint)
        return ActivateAnswer(name=to.name, active=to.model, previous=self._previous.model if self._previous else None)

    def _before(self, to: Served) -> str | None:
        """The bundle to go back to after a switch to ``to``: what all workers were told last, which this one may not follow yet. A
        switch that is asked for twice, as by a client that had no answer, keeps the one before the first."""
        told, active = self._state.active_model(), self._service.served
        if told is not None and told.configured == self._configured:
            return told.previous if told.fingerprint == to.model.fingerprint else told.name
        return None if active.model == to.model else active.name

    def _opened(self, name: str) -> Served:
        path = self.folder / name
        if not (path / MANIFEST).is_file():
            raise UnknownBundleError(f"the models folder holds no bundle {name!r}; GET /v1/models lists what it holds")
        try:
            served = self._current(self._open(path))
        except BundleError as error:
            raise BundleError(str(error).replace(f"{path.parent}/", "")) from error  # where bundles lie is for no client
        check(served)
        return served

    def _shared(self, served: Served) -> float:
        active = self._service.served.catalogue.recommender.catalogue.ids
        return float((served.catalogue.recommender.catalogue.indices(active) != PADDING).mean()) if len(active) else 1.0

    # --- changes of items -----------------------------------------------------------------------------------------------
    def change_items(self, items: Sequence[PostedItem]) -> ItemsAnswer:
        """Keep the changes and apply them: the next answer is made with them.

        Raises:
            UsageError: a vector of another length than the active model's.
            StateUnavailableError: they could not be kept; nothing is changed.
        """
        with self._lock:
            served = self._service.served
            changes = [_change(item, number, served) for number, item in enumerate(items)]
            self._state.change_items(changes)
            reasons = self._follow_items()
            wanted = {str(change.item_id) for change in changes}
            waiting = [f"{item}: {reason}" for item, reason in reasons.items() if item in wanted]
            served = self._service.served
            return ItemsAnswer(
                accepted=len(items), not_recommended=waiting, items=served.catalogue.n_candidates, model=served.model
            )

    def _current(self, served: Served) -> Served:
        """``served`` with all changes of items, from the first on: each model makes its own vectors of them."""
        self._items_applied, changes = self._state.item_changes(0)
        catalogue, _ = served.catalogue.unchanged().changed(changes)
        return replace(served, catalogue=catalogue)

    def _follow_items(self) -> dict[str, str]:
        """Apply what is new to the active catalogue; returns why some items have no vector, by id."""
        version, changes = self._state.item_changes(self._items_version)
        served = self._service.served
        catalogue, reasons = served.catalogue.changed(changes)
        self._service.served = replace(served, catalogue=catalogue)
        self._items_version = version
        self._telemetry.serves(served.name, served.model.fingerprint, catalogue.n_candidates)
        return reasons

    # --- other workers --------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Take up what was kept: the changes of items, and the model that was activated over HTTP, if the service was then
        started with the same bundle as now."""
        try:
            self.follow()
        except StateUnavailableError:  # it answers without; a later look catches up
            self._telemetry.fault("state")
        except (BundleError, UnknownBundleError) as error:  # the night is no time to refuse to start
            self._telemetry.fault("model")
            logger.error("the model that was active cannot be served (%s); %s answers", error, self._service.served.name)
        served = self._service.served
        self._telemetry.serves(served.name, served.model.fingerprint, served.catalogue.n_candidates)

    def follow(self) -> None:
        """Do what other workers did since: changes of items, another active model.

        Raises:
            StateUnavailableError: the state cannot be reached.
            BundleError: the active model cannot be served by this worker, which goes on with what it has.
        """
        version = self._state.version()
        if version == self._version:
            return
        with self._lock:
            self._follow_items()
            self._follow_model()
            self._version = version

    def _follow_model(self) -> None:
        active = self._state.active_model()
        served = self._service.served
        if active is None or active.configured != self._configured or active.fingerprint == served.model.fingerprint:
            return
        for held in (self._loaded, self._previous):
            if held is not None and held.model.fingerprint == active.fingerprint:
                self._switch(held, "activated", tell=False)
                return
        self._switch(self._opened(active.name), "activated", tell=False)


def check(served: Served) -> None:
    """Ask a bundle what nobody asks of it yet: about users with one click, with several, and with none.

    Raises:
        BundleError: an answer is short, holds an item twice, or a score that is no number.
    """
    catalogue = served.catalogue
    n = len(catalogue.recommender.catalogue)
    most = min(SMOKE_K, catalogue.n_candidates)
    for clicks in ([], [1], list(range(1, min(n, 5) + 1))):
        events = Events.of_one_user(clicks, np.arange(len(clicks)) * 60 + SMOKE_TIME - 3600, [True] * len(clicks))
        points = Points(events, np.zeros(1, np.int64), np.zeros(1, np.int32), np.array([SMOKE_TIME]))
        try:
            top = catalogue.top_k(points, SMOKE_K, None, None)
        except Exception as error:
            raise BundleError(f"{served.name} fails on a user with {len(clicks)} clicks ({error}); the active model stays") from error
        items = top.items[0][top.items[0] != PADDING]
        if len(items) < most or len(np.unique(items)) < len(items) or not np.isfinite(top.scores[0][: len(items)]).all():
            raise BundleError(
                f"{served.name} answers {len(items)} of {most} items to a user with {len(clicks)} clicks, or some twice, or with a "
                "score that is no number; the active model stays"
            )
        if clicks and top.source[0] != MODEL:
            raise BundleError(f"{served.name} does not answer a user with clicks by its model; the active model stays")


def _change(item: PostedItem, number: int, served: Served) -> ItemChange:
    width = served.catalogue.width
    if item.vector is not None and len(item.vector) != width:
        raise UsageError(
            f"items, row {number}: the vector has {len(item.vector)} numbers, those of the active model {width}"
        )
    of_model = None if item.vector is None else served.model.fingerprint
    vector = None if item.vector is None else tuple(item.vector)
    return ItemChange(item.item_id, item.withdrawn, dict(item.features), tuple(item.similar_to), vector, of_model)
