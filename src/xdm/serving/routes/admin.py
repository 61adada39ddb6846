"""`/v1/items`, `/v1/models`: what is recommended, and by which model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from xdm.serving.messages.items import ItemsAnswer, ItemsRequest
from xdm.serving.messages.models import ActivateAnswer, LoadAnswer, LoadRequest, ModelsAnswer, Nothing
from xdm.serving.routes.answers import WITH_BODY, documented, json_of
from xdm.serving.shelf import Shelf

NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"
BundleName = Annotated[str, Path(pattern=NAME, description="the bundle's folder in the models folder")]


def routes(shelf: Shelf) -> APIRouter:
    """The operations that need the scope `admin`. They run in threads, one after the other; answers go on meanwhile."""
    router = APIRouter(tags=["operations"])

    @router.post("/v1/items", response_model=ItemsAnswer, **documented("admin", *WITH_BODY))
    def items(asked: ItemsRequest) -> Response:
        """Add, change or withdraw items, all or none; they are kept, and count from the next answer on."""
        return json_of(shelf.change_items(asked.items))

    @router.get("/v1/models", response_model=ModelsAnswer, **documented("admin"))
    def models() -> Response:
        """The bundles of the models folder, and which one answers."""
        return json_of(shelf.models())

    @router.post("/v1/models", response_model=LoadAnswer, **documented("admin", 404, *WITH_BODY))
    def load(asked: LoadRequest) -> Response:
        """Load a bundle beside the active one: its files are compared with their hashes, it is warmed up and asked questions."""
        return json_of(shelf.load(asked))

    # Before the path with a name, which would take it for one.
    @router.post("/v1/models/rollback", response_model=ActivateAnswer, **documented("admin", 404, *WITH_BODY))
    def roll_back(asked: Nothing) -> Response:
        """Switch back to the model that was active before."""
        return json_of(shelf.roll_back())

    @router.post("/v1/models/{name}/activate", response_model=ActivateAnswer, **documented("admin", 404, *WITH_BODY))
    def activate(name: BundleName, asked: Nothing) -> Response:
        """Switch to a bundle, loading it where it is not; an answer is from one model or the other, never of both."""
        return json_of(shelf.activate(name))

    return router
