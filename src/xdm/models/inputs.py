"""Input tables: items with their side features, and users with their profiles. Shared by every branch of a model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from xdm.data.batches import Batch


@dataclass(frozen=True)
class Sizes:
    """What a model must know of the catalogue to build its tables. Sizes count real rows, without the 0 for none."""

    n_items: int
    n_candidates: int  # the first rows of the catalogue, which can be recommended
    n_users: int
    features: dict[str, int] = field(default_factory=dict)  # item feature: distinct values
    profile: dict[str, int] = field(default_factory=dict)  # profile field: distinct values


def table(rows: int, width: int) -> nn.Embedding:
    """An input table with a zero row for padding; truncated normal with deviation 1/sqrt(rows), as SDM's code has it."""
    embedding = nn.Embedding(rows + 1, width, padding_idx=0)
    deviation = max(rows, 1) ** -0.5
    nn.init.trunc_normal_(embedding.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    with torch.no_grad():
        embedding.weight[0] = 0
    return embedding


class ItemInputs(nn.Module):
    """``e_i = concat_f W_f x_f``: the item id and each side feature has a table; all are concatenated to ``[..., width]``."""

    codes: Tensor

    def __init__(self, sizes: Sizes, item_width: int, feature_width: int, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: the feature codes of every item, the item's own index first."""
        super().__init__()
        self.widths = [item_width] + [feature_width] * len(sizes.features)
        rows = [sizes.n_items, *sizes.features.values()]
        self.tables = nn.ModuleList(table(n, width) for n, width in zip(rows, self.widths, strict=True))
        # Not a weight: the codes travel in the bundle's items table, and in the exported tower as constants.
        self.register_buffer("codes", torch.as_tensor(np.asarray(codes, np.int64)), persistent=False)

    @property
    def width(self) -> int:
        return sum(self.widths)

    def forward(self, items: Tensor) -> Tensor:
        """Inputs of ``items`` (any shape, 0 for padding, which gives zeros): ``[..., width]``."""
        return torch.cat([self.of_feature(f, self.codes[f][items]) for f in range(len(self.widths))], dim=-1)

    def of_feature(self, feature: int, codes: Tensor) -> Tensor:
        """Rows of one feature's table: ``[..., widths[feature]]``."""
        return self.tables[feature](codes)


class UserInputs(nn.Module):
    """``e_u``: the user id (width 0 leaves it out) and each profile field, concatenated to ``[B, width]``."""

    def __init__(self, sizes: Sizes, user_width: int, field_width: int) -> None:
        super().__init__()
        self.user = table(sizes.n_users, user_width) if user_width else None
        self.fields = nn.ModuleList(table(n, field_width) for n in sizes.profile.values())
        self.width = user_width + field_width * len(self.fields)
        # A model with nothing to know of its users still has the same equations: e_u is then one constant.
        self.constant = None if self.width else nn.Parameter(torch.zeros(1))
        self.width = self.width or 1

    def forward(self, batch: Batch) -> Tensor:
        """``[B, width]``; an unknown user or field gives zeros."""
        if self.constant is not None:
            return self.constant.expand(batch.user.shape[0], 1)
        parts = [] if self.user is None else [self.user(batch.user)]
        parts += [embedding(batch.profile[:, f]) for f, embedding in enumerate(self.fields)]
        return torch.cat(parts, dim=-1)
