"""The configured objective on a model: what each label is compared with, how the scores come about, and the loss over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xdm.models.retrieval_model import RetrievalModel
from xdm.objectives import ranking
from xdm.objectives.blockwise import hits_of
from xdm.objectives.gathered import own_scores
from xdm.objectives.samplers import InBatch, Negatives, Sampler, everything, sampler_of
from xdm.objectives.softmax import (
    FEW_SCORES,
    full_softmax,
    sampled_softmax,
    sampled_softmax_blockwise,
    softmax_over,
    target_weights,
)
from xdm.schema import ConfigError
from xdm.training.config import WITHOUT_NEGATIVES, ObjectiveConfig


@dataclass(frozen=True)
class Objective:
    """The objective that ``config`` names over ``n`` items. Made once for a run: a sampler may hold what it made of all clicks."""

    config: ObjectiveConfig
    n: int
    sampler: Sampler

    @classmethod
    def of(cls, config: ObjectiveConfig, n: int, clicks: np.ndarray | None = None) -> Objective:
        """``clicks`` ``[n]`` of the items, for samplers that go by them.

        Raises:
            InternalError: the sampler goes by clicks, and there are none.
        """
        return cls(config, n, sampler_of(config.sampler, n, config.negatives, config.batch_columns, config.alpha, clicks))

    @property
    def takes_all(self) -> bool:
        """Whether every item is compared with: half of the catalogue, shared by a batch, is not worth sampling. Draws in
        proportion to clicks stand for all items in a softmax alone; to any other loss their proportions matter."""
        config = self.config
        stand_for_all = ["log_uniform", "uniform", *(["popularity"] if config.name == "sampled_softmax" else [])]
        half = config.negatives_for == "batch" and config.sampler in stand_for_all and 2 * config.negatives >= self.n
        return half or config.name == "softmax"

    def __call__(self, model: RetrievalModel, queries: Tensor, targets: Tensor, rng: np.random.Generator) -> Tensor:
        """The mean over points, a scalar, of ``queries`` ``[P, K, d']`` as they are scored and their ``targets`` int64 ``[P, M]``:
        the label, then further targets, 0 for none. Where scores are inner products, the one of K interests that learns from a
        label is chosen by the label; else the model's own score of all K is what learns."""
        of_targets = model.scored(targets)  # [P, M, d']
        if model.scoring.foldable:
            queries = model.encoder.readout(queries, of_targets[:, 0])[:, None]  # [P, 1, d']
        if self.config.name in WITHOUT_NEGATIVES:
            return distance_to_targets(model, queries, targets, of_targets, self.config.name)
        if self.takes_all and self.config.name in ("softmax", "sampled_softmax"):
            return softmax_over_all(model, queries, targets)
        if self.config.negatives_for == "label":
            return self._each_label_alone(model, queries, targets, of_targets, rng)
        total = torch.zeros(())
        size = -(-len(queries) // self.config.split)
        for begin in range(0, len(queries), size):
            part = slice(begin, begin + size)
            mean = self._shared(model, queries[part], targets[part], of_targets[part], rng)
            total = total + mean * (len(targets[part]) / len(targets))
        return total

    def _shared(
        self, model: RetrievalModel, queries: Tensor, targets: Tensor, of_targets: Tensor, rng: np.random.Generator
    ) -> Tensor:
        """All points are compared with one set: one matrix product. A scalar from ``queries`` ``[P, K, d']`` and the vectors
        ``of_targets`` ``[P, M, d']``."""
        negatives = everything(self.n) if self.takes_all else self.sampler.shared(rng, targets[:, 0].numpy())
        vectors = model.item_vectors() if self.takes_all else model.scored(torch.from_numpy(negatives.items))  # [S, d']
        hits = self._left_out(targets, negatives)  # [2, H]
        positive = model.score(queries, of_targets)  # [P, M]
        weights = target_weights(targets, positive.dtype)  # [P, M]
        if self._goes_by_blocks and model.scoring.foldable and len(queries) * len(vectors) > FEW_SCORES:
            off_targets, off_columns = self._corrections(targets, negatives)
            return sampled_softmax_blockwise(queries[:, 0], vectors, off_columns, positive - off_targets, weights, hits)
        negative = model.score(queries, vectors)  # [P, S]
        valid = torch.ones(negative.shape, dtype=torch.bool)
        valid[hits[0], hits[1]] = False
        return self._of_scores(positive, negative, targets, weights, valid, negatives).mean()

    @property
    def _goes_by_blocks(self) -> bool:
        """Whether scores are taken block by block, in half of the time or less. With log-uniform sampling they are not: what was
        trained and written down with it, the default, would come out otherwise by the rounding of sums."""
        return self.config.name == "sampled_softmax" and self.config.sampler != "log_uniform"

    def _left_out(self, targets: Tensor, negatives: Negatives) -> Tensor:
        """int64 ``[2, H]``: which columns of a shared set are not compared with which points ``[P, M]``. Masked: those that are one of
        the point's own targets (accidental hits). Else the one that is the point's own label."""
        if self.config.mask_hits or self.takes_all:
            return hits_of(targets, torch.from_numpy(negatives.items))
        if negatives.point is None:
            return torch.zeros((2, 0), dtype=torch.int64)
        column = np.flatnonzero(negatives.point >= 0)
        return torch.from_numpy(np.stack([negatives.point[column], column]))

    def _each_label_alone(
        self, model: RetrievalModel, queries: Tensor, targets: Tensor, of_targets: Tensor, rng: np.random.Generator
    ) -> Tensor:
        """Each of the L targets of all points is compared with a set of its own; a scalar, a point's targets sharing its weight."""
        point, place = torch.nonzero(targets, as_tuple=True)  # [L], [L]
        label, asked = targets[point, place][:, None], queries[point]  # [L, 1], [L, K, d']
        negatives = self.sampler.own(rng, label[:, 0].numpy())
        items = torch.from_numpy(negatives.items)  # [L, S]
        positive = model.score(asked, of_targets[point, place][:, None])  # [L, 1]
        if model.scoring.foldable:
            negative = own_scores(asked[:, 0], model.item_vectors(), items - 1)  # [L, S]
        else:
            negative = model.score(asked, model.scored(items))  # [L, S]
        valid = torch.ones(items.shape, dtype=torch.bool)
        if self.config.mask_hits:
            for own in targets[point].T:  # [L], M times: [L, M, S] at once would be the largest array of a step
                valid &= own[:, None] != items
        of_labels = self._of_scores(positive, negative, label, torch.ones_like(positive), valid, negatives)  # [L]
        return (of_labels * target_weights(targets, positive.dtype)[point, place]).sum() / len(targets)

    def _of_scores(
        self, positive: Tensor, negative: Tensor, targets: Tensor, weights: Tensor, valid: Tensor, negatives: Negatives
    ) -> Tensor:
        """``[P]`` from the scores of ``targets`` ``[P, M]`` and of columns ``[P, S]``. In a softmax a point's targets stand beside
        each other; any other loss is taken of each of them. ``weights`` ``[P, M]`` sum to 1."""
        if self.config.name == "sampled_softmax":
            off_targets, off_columns = self._corrections(targets, negatives)
            return sampled_softmax(positive - off_targets, negative - off_columns, weights, valid)
        loss, total = self._loss(negatives), torch.zeros(len(weights))
        for place in range(weights.shape[1]):
            total = total + weights[:, place] * loss(positive[:, place], negative, valid)
        return total

    def _corrections(self, targets: Tensor, negatives: Negatives) -> tuple[Tensor, Tensor]:
        """What is taken off the scores of ``targets`` ``[P, M]`` and of the columns ahead of the softmax (``logq``)."""
        labels = np.maximum(targets.numpy(), 1)
        if self.config.logq == "none":
            return torch.zeros(targets.shape), torch.zeros(negatives.items.shape)
        if self.config.logq == "expected":
            return floats(negatives.log_expected(labels)), floats(negatives.log_expected(negatives.items))
        assert isinstance(self.sampler, InBatch)  # the configuration sees to it
        assert negatives.log_support is not None
        return floats(self.sampler.log_clicks(labels)), floats(negatives.log_support)

    def _loss(self, negatives: Negatives) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """The loss of ``(positive [P], negative [P, S], valid [P, S])``, with its settings."""
        config = self.config
        if config.name == "gbce":
            return lambda r, s, valid: ranking.generalised_binary(r, s, valid, self.n, config.t)
        if config.name == "bpr_max":
            return lambda r, s, valid: ranking.bpr_max(r, s, valid, config.bpreg, config.elu)
        if config.name == "hinge":
            return lambda r, s, valid: ranking.hinge(r, s, valid, config.ranking_margin)
        if config.name == "warp":
            expected = floats(negatives.log_expected(negatives.items))
            return lambda r, s, valid: ranking.warp(r, s, valid, config.ranking_margin, expected)
        return {"bce": ranking.binary, "bpr": ranking.bpr, "top1": ranking.top1, "top1_max": ranking.top1_max}[config.name]


def softmax_over_all(model: RetrievalModel, queries: Tensor, targets: Tensor) -> Tensor:
    """The softmax over the catalogue, a scalar, of ``queries`` ``[P, K, d']`` (K = 1 where scores are inner products)."""
    vectors = model.item_vectors()  # [n, d']
    if model.scoring.foldable:
        return full_softmax(queries[:, 0], targets, vectors)
    return softmax_over(model.score(queries, vectors), targets)


def distance_to_targets(model: RetrievalModel, queries: Tensor, targets: Tensor, of_targets: Tensor, name: str) -> Tensor:
    """The mean distance, a scalar, between ``queries`` ``[P, 1, d']`` and their targets ``of_targets`` ``[P, M, d']``, which share
    the weight 1. ``squared_error`` is a mean over coordinates too; ``cosine`` is 1 less the cosine."""
    if model.scoring.kind != WITHOUT_NEGATIVES[name]:
        raise ConfigError(f"objective.name {name} needs item_vectors.scoring={WITHOUT_NEGATIVES[name]}, not {model.scoring.kind}")
    distances = model.scoring.distances(queries, of_targets)  # [P, M]
    mean = (distances * target_weights(targets, distances.dtype)).sum(1).mean()
    return mean / model.encoder.width if name == "squared_error" else mean


def floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
