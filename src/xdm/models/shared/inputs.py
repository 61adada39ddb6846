"""Input tables: items with their side features, and users with their profiles. Shared by every branch of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.schema import ConfigError, nearest


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


def glorot(embedding: nn.Module) -> None:
    """Draw an input table anew, uniform in ±sqrt(6 / (rows + width)): TensorFlow's default; its padding row stays zero."""
    assert isinstance(embedding, nn.Embedding)
    nn.init.xavier_uniform_(embedding.weight)
    with torch.no_grad():
        embedding.weight[0] = 0


def widths_of(key: str, names: Iterable[str], default: int, named: Mapping[str, int]) -> list[int]:
    """The width of each of ``names``: the one it is given in ``named``, else ``default``.

    Raises:
        ConfigError: ``named`` (the setting ``key``) names what is not among ``names``.
    """
    names = list(names)
    for name in named:
        if name not in names:
            has = f"It has: {', '.join(names)}" if names else "It has none"
            raise ConfigError(f"{key}: the store has no '{name}'.{nearest(name, names)} {has}")
    return [named.get(name, default) for name in names]


class ItemInputs(nn.Module):
    """``e_i = concat_f W_f x_f``: the item id and each side feature has a table; all are concatenated to ``[..., width]``.

    ``features`` are the rows of ``codes`` that are read, 0 the item id; ``widths`` and ``tables`` are theirs, in this order.
    """

    codes: Tensor

    def __init__(
        self, sizes: Sizes, item_width: int, feature_width: int, codes: np.ndarray,
        feature_widths: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        """``codes`` int ``[F, items + 1]``: the feature codes of every item, the item's own index first.

        ``feature_width`` is each side feature's, unless ``feature_widths`` gives it another; 0 leaves a feature out.

        Raises:
            ConfigError: a name in ``feature_widths`` that is no side feature.
        """
        super().__init__()
        widths = [item_width, *widths_of("model.feature_widths", sizes.features, feature_width, feature_widths or {})]
        rows = [sizes.n_items, *sizes.features.values()]
        self.features = [f for f, width in enumerate(widths) if width]
        self.widths = [widths[f] for f in self.features]
        self.tables = nn.ModuleList(table(rows[f], widths[f]) for f in self.features)
        # Not a weight: the codes travel in the bundle's items table, and in the exported tower as constants.
        self.register_buffer("codes", torch.as_tensor(np.asarray(codes, np.int64)), persistent=False)

    @property
    def width(self) -> int:
        return sum(self.widths)

    def forward(self, items: Tensor) -> Tensor:
        """Inputs of ``items`` (any shape, 0 for padding, which gives zeros): ``[..., width]``."""
        return torch.cat([self.of_table(i, self.codes[f][items]) for i, f in enumerate(self.features)], dim=-1)

    def of_table(self, place: int, codes: Tensor) -> Tensor:
        """Rows of the table at ``place``, feature ``features[place]``'s: ``[..., widths[place]]``."""
        return self.tables[place](codes)


class UserInputs(nn.Module):
    """``e_u``: the user id (width 0 leaves it out) and each profile field, concatenated to ``[B, width]``."""

    def __init__(
        self, sizes: Sizes, user_width: int, field_width: int, field_widths: Mapping[str, int] | None = None
    ) -> None:
        """``field_width`` is each profile field's, unless ``field_widths`` gives it another; 0 leaves a field out.

        Raises:
            ConfigError: a name in ``field_widths`` that is no profile field.
        """
        super().__init__()
        widths = widths_of("model.field_widths", sizes.profile, field_width, field_widths or {})
        self.user = table(sizes.n_users, user_width) if user_width else None
        self.read = [f for f, width in enumerate(widths) if width]
        rows = list(sizes.profile.values())
        self.fields = nn.ModuleList(table(rows[f], widths[f]) for f in self.read)
        self.width = user_width + sum(widths)
        # A model with nothing to know of its users still has the same equations: e_u is then one constant.
        self.constant = None if self.width else nn.Parameter(torch.zeros(1))
        self.width = self.width or 1

    def forward(self, batch: Batch) -> Tensor:
        """``[B, width]``; an unknown user or field gives zeros."""
        if self.constant is not None:
            return self.constant.expand(batch.user.shape[0], 1)
        parts = [] if self.user is None else [self.user(batch.user)]
        parts += [embedding(batch.profile[:, f]) for f, embedding in zip(self.read, self.fields, strict=True)]
        return torch.cat(parts, dim=-1)


class NoUserInputs(UserInputs):
    """For encoders that know nothing of the user but what was clicked: ``e_u`` of width 0."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.width = 0

    def forward(self, batch: Batch) -> Tensor:
        """``[B, 0]``."""
        return torch.zeros((batch.user.shape[0], 0), device=batch.user.device)
