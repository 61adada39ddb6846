"""A model as it is trained and served: an encoder, the unclicked extension, and the item vectors that are scored."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from xdm.behaviours.points import FeatureTable
from xdm.data.batches import Batch
from xdm.data.catalogue import Catalogue
from xdm.models.encoder import Encoder
from xdm.models.registry import MODELS
from xdm.models.shared.inputs import Sizes
from xdm.models.shared.scoring import PairScoring, Scoring, SquaredDistance
from xdm.models.unclicked import Queries, UnclickedConfig, UnclickedExtension
from xdm.schema import ConfigError


class RetrievalModel(nn.Module):
    """An encoder, the unclicked extension where it is enabled, and the item vectors that are scored."""

    def __init__(
        self, model: BaseModel, unclicked: UnclickedConfig, sizes: Sizes, codes: np.ndarray, item_features: bool = False,
        scoring: Scoring | None = None,
    ) -> None:  # fmt: skip
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`; ``item_features``: item vectors are sums with their features';
        ``scoring`` takes the place of the encoder's own."""
        super().__init__()
        self.sizes = sizes
        self.encoder: Encoder = MODELS[model.name].encoder(model, sizes, codes)  # type: ignore[attr-defined, call-arg]
        if scoring is not None:
            kind = type(self.encoder)
            if not self.scoring.foldable or self.scoring.beside or kind.item_tree is not Encoder.item_tree:
                raise ConfigError(f"item_vectors.scoring: items of {kind.__name__} are found by a score of its own; leave it at own")
            if isinstance(scoring, SquaredDistance) and self.encoder.interests > 1:
                raise ConfigError(
                    f"item_vectors.scoring: squared distances of the {self.encoder.interests} interests of {kind.__name__} to an item "
                    "do not fold into inner products that can be compared; leave it at own, or take cosine"
                )
            self.encoder.scoring = scoring
        if unclicked.enabled and unclicked.user_query and not self.encoder.users.width:
            raise ConfigError(
                "unclicked.user_query: this encoder reads nothing of the user that a query could be made of"
            )
        # V of the papers: one row a candidate; row 0 is the padding row of index 0. See `scored`.
        if not model.tie_item_embedding:  # type: ignore[attr-defined]
            self.output = scored_table(sizes.n_candidates, self.encoder.width)
            self.encoder.draw_scored(self.output)
        features = sizes.features.values() if item_features else ()
        self.output_features = nn.ModuleList(scored_table(n, self.encoder.width) for n in features)
        if self.scoring.bias:
            self.output_bias = nn.Embedding(sizes.n_candidates + 1, 1, padding_idx=0)
            nn.init.zeros_(self.output_bias.weight)
        self.unclicked = UnclickedExtension(unclicked, self.encoder) if unclicked.enabled else None

    def forward(self, batch: Batch, h: Tensor | None = None) -> Queries:
        """Queries at every point of ``batch`` (tensors); ``h`` ``[P, K, d + beside]`` are the encoder's, if it was asked already."""
        h = self.encoder.encode(batch) if h is None else h  # [P, K, d + beside]
        if self.unclicked is not None:
            return self.unclicked(h, self.encoder, batch, self.vectors)
        places = h[..., : self.encoder.width] if self.scoring.beside else h  # [P, K, d]
        return Queries(self.scoring.queries(h), places, places)

    @property
    def scoring(self) -> Scoring:
        """How queries and item vectors make scores."""
        return self.encoder.scoring

    def score(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """``[P, S]``: the scores of ``queries`` ``[P, K, d']`` with ``vectors`` ``[S, d']``, the same for all points, or
        ``[P, S, d']``, each point's own; of K interests the best."""
        if isinstance(self.scoring, PairScoring):
            return self.scoring.scores(queries, vectors)
        if vectors.dim() == 3 and queries.shape[1] == 1:  # a product of vectors: faster than one of matrices of one row
            return (queries * vectors).sum(-1)
        scores = queries @ (vectors.T if vectors.dim() == 2 else vectors.transpose(1, 2))  # [P, K, S]
        return scores[:, 0] if queries.shape[1] == 1 else scores.amax(dim=1)

    @property
    def item_table(self) -> nn.Embedding:
        """The table of item vectors, of at least ``n_candidates + 1`` rows: the input table of items where the two are tied."""
        table = self.output if hasattr(self, "output") else self.encoder.items.tables[0]
        assert isinstance(table, nn.Embedding)
        return table

    def vectors(self, items: Tensor) -> Tensor:
        """Item vectors of ``items`` (any shape): ``[..., d]``; of what cannot be recommended, zeros."""
        items = torch.where(items <= self.sizes.n_candidates, items, 0)
        vectors = self.item_table(items)
        for table, codes in zip(self.output_features, self.encoder.items.codes[1:], strict=False):
            vectors = vectors + table(codes[items])
        return self.encoder.compose(vectors, items)

    def scored(self, items: Tensor) -> Tensor:
        """Item vectors of ``items`` (any shape) as they are scored: ``[..., d']``."""
        items = torch.where(items <= self.sizes.n_candidates, items, 0)
        bias = self.output_bias(items).squeeze(-1) if self.scoring.bias else None
        return self.scoring.items(self.encoder.dated(self.vectors(items), items), bias)

    def item_vectors(self) -> Tensor:
        """All that can be recommended, as it is scored: ``[n_candidates, d']``; row i belongs to index i + 1."""
        rows = slice(1, self.sizes.n_candidates + 1)
        vectors = self.item_table.weight[rows]
        for table, codes in zip(self.output_features, self.encoder.items.codes[1:], strict=False):
            vectors = vectors + table(codes[rows])
        items = torch.arange(1, self.sizes.n_candidates + 1, device=vectors.device)
        vectors = self.encoder.dated(self.encoder.compose(vectors, items), items)
        return self.scoring.items(vectors, self.output_bias.weight[rows, 0] if self.scoring.bias else None)


def scored_table(rows: int, width: int) -> nn.Embedding:
    """A table whose rows are scored, or sums of which are; uniform in ±0.1 as in SDM's code, zeros for padding."""
    table = nn.Embedding(rows + 1, width, padding_idx=0)
    nn.init.uniform_(table.weight, -0.1, 0.1)
    with torch.no_grad():
        table.weight[0] = 0
    return table


def sizes_of(catalogue: Catalogue) -> Sizes:
    """The sizes of a catalogue."""
    return Sizes(
        catalogue.n_items, catalogue.n_candidates, catalogue.n_users,
        {name: feature.size for name, feature in catalogue.items.features.items()},
        {name: feature.size for name, feature in catalogue.users.features.items()},
    )  # fmt: skip


def build_model(
    model: BaseModel, unclicked: UnclickedConfig, catalogue: Catalogue, seed: int, item_features: bool = False,
    scoring: Scoring | None = None,
) -> RetrievalModel:  # fmt: skip
    """A model with fresh weights. The extension's are drawn last, so that XDM starts from the very SDM of the same seed."""
    torch.manual_seed(seed)
    codes = FeatureTable.of(catalogue.n_items, catalogue.items.features).codes
    return RetrievalModel(model, unclicked, sizes_of(catalogue), codes, item_features, scoring)
