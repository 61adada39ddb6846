"""`POST /v1/items`: items that come, change and go while the service runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xdm.serving.messages.common import FeatureName, FeatureValue, Flag, Id, Message, ModelInfo

MAX_ITEMS = 1000  # of a batch
MAX_WIDTH = 4096  # numbers of a vector
MAX_SIMILAR = 100

Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e6, le=1e6)]


class PostedItem(Message):
    """An item to recommend from now on, or no more.

    Its vector is the one given; else the mean of those of ``similar_to``; else, of an item that the model knows, its own; else, of
    a model that learns from item features, the one that its ``features`` make.
    """

    item_id: Id
    withdrawn: Flag = Field(False, description="true: never recommend it; false: recommend it (again)")
    features: dict[FeatureName, FeatureValue] = Field(default_factory=dict, max_length=64)
    similar_to: list[Id] = Field(default_factory=list, max_length=MAX_SIMILAR, description="known items that it is like")
    vector: list[Number] | None = Field(
        None, min_length=1, max_length=MAX_WIDTH, description="as long as the active model's item vectors; holds for that model alone"
    )

    @model_validator(mode="after")
    def _goes_or_comes(self) -> PostedItem:
        if self.withdrawn and (self.features or self.similar_to or self.vector):
            raise ValueError("an item that is withdrawn needs neither features nor a vector; leave them out")
        return self


class ItemsRequest(Message):
    """Items that come, change or go; all or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"items": [{"item_id": "i99", "features": {"category": "shoes"}, "similar_to": ["i3", "i8"]}]},
                {"items": [{"item_id": "i3", "withdrawn": True}]},
            ]
        }
    )

    items: list[PostedItem] = Field(min_length=1, max_length=MAX_ITEMS)


class ItemsAnswer(BaseModel):
    """What became of the items: other workers follow within seconds."""

    accepted: int
    not_recommended: list[str] = Field(
        description="which of them have no vector under the active model, and why: they wait for another model"
    )
    items: int = Field(description="how many items can be recommended now")
    model: ModelInfo
