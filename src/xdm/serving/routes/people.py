"""`/v1/events`, `/v1/users`: what is kept of people."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from xdm.serving.messages.common import MAX_ID_CHARACTERS
from xdm.serving.messages.events import EventsAnswer, EventsRequest
from xdm.serving.messages.users import DeletedAnswer, UserAnswer
from xdm.serving.people import delete_user, show_user
from xdm.serving.routes.answers import WITH_BODY, documented, json_of
from xdm.serving.service import Service

UserId = Annotated[str, Path(min_length=1, max_length=MAX_ID_CHARACTERS, description="percent-encoded")]


class AnyText(Convertor[str]):
    """The rest of a path, whatever it holds: an id is decoded before the router sees it, and may hold slashes and line ends."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any_text", AnyText())


def routes(service: Service) -> APIRouter:
    """The operations over one user's data. They run in threads: a flush to disk holds up no other request."""
    router = APIRouter(tags=["people"])
    user = "/v1/users/{user_id:any_text}"

    @router.post("/v1/events", response_model=EventsAnswer, **documented("write", 409, *WITH_BODY))
    def events(asked: EventsRequest) -> Response:
        """Store exposures. They are durable when the answer arrives, and count in every later question."""
        return json_of(service.record(asked.events))

    @router.get(user, response_model=UserAnswer, **documented("read", 422))
    def show(user_id: UserId) -> Response:
        """What is held of a user: live events, and the behaviours that the model sees now."""
        return json_of(show_user(service, user_id))

    @router.delete(user, response_model=DeletedAnswer, **documented("write", 422))
    def delete(user_id: UserId) -> Response:
        """Delete what is held of a user. From then on the store's events and the trained vector of the user are not used either."""
        return json_of(delete_user(service, user_id))

    return router
