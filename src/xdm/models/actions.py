"""SDM over one action-typed sequence: clicks and skips in the order of time, each with an embedding of its action.

The control that asks whether a branch for skips is needed, or whether it is enough to show the encoder all that
happened. One token an exposure with its final action; the label's own exposure is never among them, because a stream
holds what came strictly before the label's second.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.entry import ModelEntry
from xdm.models.sdm import SDM, SDMConfig
from xdm.models.shared.inputs import Sizes

ACTIONS = 2  # 1 skipped, 2 clicked; 0 is padding


class ActionSDMConfig(SDMConfig):
    """SDM's settings; the sequence is the stream of exposures, so ``behaviours.stream_max`` must be set."""

    reads_stream: ClassVar[bool] = True

    name: Literal["sdm_actions"] = "sdm_actions"  # type: ignore[assignment]


class ActionSDM(SDM):
    """SDM whose short-term branch reads the stream; the long-term lists hold clicks, as ever."""

    def __init__(self, config: ActionSDMConfig, sizes: Sizes, codes: np.ndarray) -> None:
        super().__init__(config, sizes, codes)
        self.actions = nn.Embedding(ACTIONS + 1, self.items.width, padding_idx=0)
        nn.init.normal_(self.actions.weight, std=0.1)
        with torch.no_grad():
            self.actions.weight[0] = 0

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        user = self.users(batch)  # [B, d_u]
        x = self.items(batch.stream) + self.actions(batch.stream_action)  # [S, T, d_in]
        states = self.short_term(x, user[batch.stream_owner])  # [S, T, d]
        at = states.reshape(-1, self.width)[batch.stream_row * states.shape[1] + batch.stream_position]  # [P, d]
        return self.fused(at, batch, user)


ENTRIES = {
    "sdm_actions": ModelEntry(
        ActionSDM, ActionSDMConfig, "SDM over one sequence of clicks and skips with action embeddings",
        needs=("exposures", "features"),
        settings={"behaviours": {"stream_max": 50}},
    ),
}  # fmt: skip
