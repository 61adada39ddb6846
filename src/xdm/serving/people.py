"""What is held of one user: shown on request, deleted on request."""

from __future__ import annotations

import numpy as np

from xdm.retrieval.types import Points
from xdm.serving.messages.users import MAX_SHOWN, DeletedAnswer, Exposure, HeldEvent, ShownBehaviours, UserAnswer
from xdm.serving.questions import Prepared, Question, Served, prepare
from xdm.serving.service import Service


def show_user(service: Service, user_id: str | int) -> UserAnswer:
    """The live events of one user, and the behaviours that the model sees of them now.

    Raises:
        StateUnavailableError: the live events cannot be read: what is shown must be all.
        InternalError: this service has no state.
    """
    served, now = service.served, service.now
    held = service.state.events_of(user_id, before=2**62)
    prepared = prepare(Question(user_id), served, service.state, now)
    from_store = 0
    if served.history is not None and not held.forgotten:
        from_store = len(served.history.events_of(user_id, before=2**62, newest=2**31))
    return UserAnswer(
        user_id=user_id,
        in_training=prepared.user != 0,
        forgotten=held.forgotten,
        events=[HeldEvent(**event._asdict()) for event in held.events[-MAX_SHOWN:]],
        events_held=len(held.events),
        history_events=from_store,
        behaviours=_behaviours(prepared, served),
        model=served.model,
    )


def delete_user(service: Service, user_id: str | int) -> DeletedAnswer:
    """Delete what is held of one user; from then on neither a store's events nor a trained vector of theirs is used.

    Raises:
        StateUnavailableError: it could not be done now; ask again.
        InternalError: this service has no state.
    """
    return DeletedAnswer(user_id=user_id, deleted=service.state.forget(user_id))


def _behaviours(prepared: Prepared, served: Served) -> ShownBehaviours:
    recommender = served.catalogue.recommender
    point = Points(prepared.events, np.zeros(1, np.int64), np.array([prepared.user], np.int32), np.array([prepared.at]))
    found = recommender.behaviours(point)
    ids = recommender.catalogue.external_list
    long: dict[str, list[str | int]] = {found.feature_names[0]: ids(found.long_term(0, 0))}
    for place, (name, feature) in enumerate(recommender.items.features.items(), start=1):
        long[name] = feature.external(found.long_term(0, place))
    stream = None
    if recommender.rules.stream_max:
        shown, clicked = found.exposures(0)
        stream = [Exposure(item_id=item, clicked=one) for item, one in zip(ids(shown), clicked.tolist(), strict=True)]
    return ShownBehaviours(
        timestamp=prepared.at, short=ids(found.short_term(0)), sessions=found.sessions(0).tolist(), long=long,
        unclicked=ids(found.unclicked(0)), stream=stream,
    )  # fmt: skip
