"""One vector for each user, and what stands in for it where training never met the user. For models of pairs, without a sequence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.shared.inputs import Sizes, UserInputs


class UserVectors(UserInputs):
    """``p_u`` ``[B, d]``; zeros for a user whom no training batch held, as for an unknown one.

    A store names all of its users, those of the test part too. Their rows would be as random as at the start, so the users
    met in training are marked in a buffer, which travels with the weights.
    """

    met: Tensor  # [n_users + 1] bool

    def __init__(self, sizes: Sizes, width: int) -> None:
        super().__init__(sizes, width, field_width=0)
        self.register_buffer("met", torch.zeros(sizes.n_users + 1, dtype=torch.bool))

    @property
    def vectors(self) -> nn.Embedding:
        """The table of all users; row 0 is zeros."""
        assert self.user is not None
        return self.user

    def known(self, batch: Batch) -> Tensor:
        """``[B]`` bool: whether training met the user; in training marks them."""
        if self.training:
            self.met[batch.user] = True
            self.met[0] = False
        return self.met[batch.user]

    def forward(self, batch: Batch) -> Tensor:
        """``[B, d]``."""
        return self.vectors(batch.user) * self.known(batch)[:, None]  # [B, d]

    def at_points(self, batch: Batch, items: Callable[[Tensor], Tensor], strangers: float = 0.0) -> Tensor:
        """``[P, 1, d]``: the user's vector at each point; of a user who is not known, the mean of the items clicked so far, whose
        vectors ``items`` gives. In training all are known, but for a share ``strangers`` of the points, at random."""
        own = self(batch)[batch.row]  # [P, d]
        if self.training and not strangers:
            return own[:, None]
        known = self.known(batch)[batch.row]  # [P]
        if self.training:
            known = known & (torch.rand(known.shape, device=known.device) >= strangers)
        mean = mean_so_far(items(batch.short), batch)  # [P, d]
        return torch.where(known[:, None], own, mean)[:, None]


def mean_so_far(vectors: Tensor, batch: Batch) -> Tensor:
    """``[P, d]``: the mean at each point of the clicks up to it, of ``vectors`` ``[B, T, d]`` of ``batch.short``; holes count not."""
    sums, clicks = vectors.cumsum(dim=1), (batch.short > 0).long().cumsum(dim=1).clamp(min=1)  # [B, T, d], [B, T]
    return sums[batch.row, batch.position] / clicks[batch.row, batch.position][:, None]


def draw(table: nn.Embedding, deviation: float) -> None:
    """Draw a table anew from N(0, deviation²); its padding row stays zero."""
    nn.init.normal_(table.weight, std=deviation)
    with torch.no_grad():
        table.weight[0] = 0


def into_ball(x: Tensor, radius: float = 1.0) -> Tensor:
    """``x`` ``[..., d]`` with vectors longer than ``radius`` cut to that length."""
    return x * (radius / x.norm(dim=-1, keepdim=True).clamp(min=radius))
