"""YouTubeDNN: the mean of the last clicks, the user's profile and the age of the example, through a tower of dense layers.

Paper: Covington, Adams and Sargin, "Deep Neural Networks for YouTube Recommendations", RecSys 2016, sections 3.1 to 3.4
(candidate generation). Differences to the original: docs/models/youtubednn.md.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry, Preset
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes, UserInputs
from xdm.models.shared.layers import linear

if TYPE_CHECKING:
    from xdm.data.clicks import TrainingLog
    from xdm.models.retrieval_model import RetrievalModel


class YouTubeDNNConfig(BaseModel):
    """YouTubeDNN's settings. Defaults: the paper's tower of depth 3."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["youtubednn"] = "youtubednn"
    width: int = Field(256, ge=1, description="d: of the last layer and of the item vectors")
    hidden: tuple[int, ...] = Field((1024, 512), max_length=7, description="widths of the layers below the last, from the lowest")
    item_width: int = Field(256, ge=1, description="input width of the item id, in a table of its own")
    window: int = Field(50, ge=1, description="how many of the last clicks the mean is over")
    feature_width: int = Field(0, ge=0, description="input width of each side feature of an item; 0, as the paper: ids alone")
    field_width: int = Field(16, ge=0, description="input width of each field of the user's profile; 0 leaves them out")
    example_age: bool = Field(
        True, description="read how long before the end of the training part the label was clicked; 0 in service and judging"
    )
    final_activation: bool = Field(True, description="a ReLU after the last layer too, as in the paper: queries are then not negative")
    tie_item_embedding: bool = Field(False, description="score items by their input vectors; item_width must be width then")

    @model_validator(mode="after")
    def _ties_fit(self) -> YouTubeDNNConfig:
        if self.tie_item_embedding and self.item_width != self.width:
            raise ValueError(f"tie_item_embedding needs an item_width of width {self.width}, not {self.item_width}")
        return self


class YouTubeDNN(Encoder):
    """A mean, some fields and a scalar through dense layers with ReLUs. Clicks have no order within the window."""

    until: Tensor  # int64: the end of the training part, in seconds; 0 before training
    span: Tensor  # int64: from the first click to that end

    def __init__(self, config: YouTubeDNNConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        self.width, self.interests, self.config = config.width, 1, config
        self.items = ItemInputs(sizes, config.item_width, config.feature_width, codes)
        read = config.field_width and sizes.profile
        self.users = UserInputs(sizes, 0, config.field_width) if read else NoUserInputs()
        widths = [self.items.width + self.users.width + config.example_age, *config.hidden, config.width]
        self.layers = nn.ModuleList(linear(below, above) for below, above in pairwise(widths))
        for name in ("until", "span"):  # made anew from the log where a run goes on
            self.register_buffer(name, torch.zeros((), dtype=torch.int64), persistent=False)

    def before_training(self, model: RetrievalModel, log: TrainingLog) -> None:
        """The end of the training part, from which examples age, and its length."""
        self.until.fill_(log.until)
        self.span.fill_(max(1, log.until - int(log.clicks.time[0])))

    def encode(self, batch: Batch) -> Tensor:
        """Queries at every point: ``[P, 1, d]``."""
        parts = [self.mean(batch), self.users(batch)[batch.row]]  # [P, d_i], [P, d_u]
        if self.config.example_age:
            parts.append(self.age(batch.time)[:, None])  # [P, 1]
        x = torch.cat(parts, dim=-1)
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x)
            if number < len(self.layers) or self.config.final_activation:
                x = torch.relu(x)
        return x[:, None]

    def mean(self, batch: Batch) -> Tensor:
        """``[P, d_i]``: the mean over the last ``window`` clicks of each point, by running sums along each row."""
        sums = self.items(batch.short).cumsum(dim=1)  # [B, T, d_i]
        begin = batch.position - self.config.window  # [P]: the last click that is not in the window any more
        before = sums[batch.row, begin.clamp(min=0)] * (begin >= 0)[:, None]  # [P, d_i]
        count = (batch.position + 1).clamp(max=self.config.window)  # [P]
        return (sums[batch.row, batch.position] - before) / count[:, None]

    def age(self, time: Tensor) -> Tensor:
        """``[P]``: the example age of labels clicked at ``time`` ``[P]`` (seconds), 1 for the oldest; outside of training, 0."""
        if not self.training:
            return torch.zeros(time.shape, device=time.device)
        return ((self.until - time).clamp(min=0) / self.span.clamp(min=1)).to(torch.float32)


ENTRIES = {
    "youtubednn": ModelEntry(
        YouTubeDNN, YouTubeDNNConfig, "YouTubeDNN (RecSys 2016): the mean of the clicks and the profile through dense layers",
        paper="Covington et al., RecSys 2016, doi 10.1145/2959100.2959190", needs=("times",),
        settings={**IDS_ALONE, "behaviours": {"history_max": 50}, "data": {"labels_per_user": 50}},
        presets={
            "youtubednn-comirec": Preset(
                "YouTubeDNN as ComiRec's authors run it: the mean and one layer, without activation, profile and age",
                {
                    **IDS_ALONE, "behaviours": {"history_max": 50},
                    "model": {
                        "name": "youtubednn", "width": 64, "item_width": 64, "hidden": [], "field_width": 0, "example_age": False,
                        "final_activation": False, "tie_item_embedding": True,
                    },
                },
            ),
        },
    ),
}  # fmt: skip
