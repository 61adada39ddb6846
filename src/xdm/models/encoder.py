"""The contract of an encoder: what a model's file fills, and what it may override. Everything else is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.shared.inputs import ItemInputs, UserInputs
from xdm.models.shared.scoring import InnerProduct, Scoring

if TYPE_CHECKING:
    from xdm.data.clicks import TrainingLog
    from xdm.models.retrieval_model import RetrievalModel
    from xdm.retrieval.tree import ItemTree


class Encoder(nn.Module):
    """From behaviours to query vectors.

    A model sets ``width`` (d), ``interests`` (K, at most), ``items``, ``users`` and, where it is not the inner product,
    ``scoring`` in its constructor ``(config, sizes, codes)``, and fills `encode`. The rest has defaults.
    """

    # Names in the state that belong to one catalogue as a whole: no row of theirs can be carried over to another (`renew`).
    of_catalogue: ClassVar[tuple[str, ...]] = ()
    width: int
    interests: int
    items: ItemInputs
    users: UserInputs

    def __init__(self) -> None:
        super().__init__()
        self.scoring: Scoring = InnerProduct()

    def encode(self, batch: Batch) -> Tensor:
        """Queries at every point of ``batch``: ``[P, K, d]``, and behind the d as many coordinates as ``scoring.beside`` says. Of what
        comes after a point's position nothing may be used."""
        raise NotImplementedError

    def draw_scored(self, table: nn.Embedding) -> None:
        """Draws the table of item vectors anew, where it is not the input table and the model has a way of its own."""

    def compose(self, vectors: Tensor, items: Tensor) -> Tensor:
        """Item vectors ``[..., d]`` of ``items`` (any shape), made of their rows ``vectors`` ``[..., d]`` of the table; by default
        these rows."""
        return vectors

    def dated(self, vectors: Tensor, items: Tensor) -> Tensor:
        """Item vectors ``[..., d]`` as of the end of the training part, where they change with time, of those of no time. What is
        scored goes through this; what a query is made of does not, for in training that end lies after the question."""
        return vectors

    def readout(self, queries: Tensor, label_vectors: Tensor) -> Tensor:
        """``[P, d]``: the one query that learns from each label, of K interests ``[P, K, d]``; by default the one that scores
        the label's vector ``[P, d]`` highest. Vectors are as they are scored."""
        return best_interest(queries, label_vectors)

    def trained(self, batch: Batch, rng: np.random.Generator) -> Tensor | None:
        """Which points the loss asks for in a step of training, bool ``[P]``, at least one; None: all of them."""
        return None

    def extra(self, batch: Batch, rng: np.random.Generator) -> tuple[Tensor, Tensor] | None:
        """Further queries ``[Q, K, d]`` with labels int64 ``[Q]`` that the objective asks for in training, beside the points."""
        return None

    def penalty(self, queries: Tensor, batch: Batch) -> Tensor | None:
        """A scalar added to the loss, from the plain queries ``[P, K, d]``."""
        return None

    def own_loss(
        self, queries: Tensor, targets: Tensor, batch: Batch, model: RetrievalModel, rng: np.random.Generator
    ) -> Tensor | None:
        """A loss in the place of the configured objective, from the plain queries ``[P, K, d]`` and targets int64 ``[P, M]``."""
        return None

    def after_step(self, model: RetrievalModel) -> None:
        """Called after each step of the optimiser, without gradients: for weights that must stay within bounds."""

    def before_training(self, model: RetrievalModel, log: TrainingLog) -> None:
        """Called once, without gradients, before the first epoch and again where a run goes on: for what a model must know of the
        training part as a whole. What it makes of it must follow from ``log`` alone."""

    def before_epoch(self, model: RetrievalModel, epoch: int) -> None:
        """Called, without gradients, before the first step of each epoch (from 0). What it changes must be weights or buffers,
        so that a run that is resumed is the same."""

    def after_epoch(self, model: RetrievalModel) -> None:
        """Called, without gradients, after the last step of each epoch, before the model is judged."""

    def carried(self) -> dict[str, Tensor]:
        """Buffers that a run must have to go on and a bundle need not: checkpoints keep them. `before_training` gives their shapes."""
        return {}

    def renew(self, model: RetrievalModel) -> None:
        """Called, without gradients, when weights of an earlier catalogue were put into this one's: to make ``of_catalogue`` anew."""

    def item_tree(self) -> ItemTree | None:
        """The tree by which items are searched, where the model has one; else all items are."""
        return None


def best_interest(queries: Tensor, vectors: Tensor) -> Tensor:
    """``[P, d]``: of K interests ``[P, K, d]`` the one whose inner product with the vector ``[P, d]`` is largest."""
    if queries.shape[1] == 1:
        return queries[:, 0]
    best = (queries * vectors[:, None]).sum(-1).argmax(dim=1)
    return queries[torch.arange(len(queries), device=queries.device), best]
