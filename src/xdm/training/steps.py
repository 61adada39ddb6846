"""One training step: sampling, loss, gradient. Everything random in it is drawn from (seed, step, part) alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xdm.data.batches import Batch
from xdm.models.encoder import best_interest
from xdm.models.retrieval_model import RetrievalModel
from xdm.models.unclicked import Queries
from xdm.objectives.distillation import distillation
from xdm.objectives.rejection import not_to_recommend
from xdm.objectives.triplet import triplet
from xdm.schema import ConfigError
from xdm.training.config import ObjectiveConfig
from xdm.training.objective import Objective
from xdm.training.teacher import Lesson


@dataclass(frozen=True)
class Losses:
    """``total = softmax + metric_weight * metric + not_to_recommend * rejection``; scalars with gradient. ``softmax`` stands for
    the objective, whatever its name, and what the encoder adds to it."""

    total: Tensor
    softmax: Tensor
    metric: Tensor
    rejection: Tensor
    asked: int  # queries that the objective is the mean over


def seed_step(seed: int, step: int, part: int = 0) -> np.random.Generator:
    """Seed torch (dropout) for this ``part`` of the step's batch and return the generator of its samples.

    A run that goes on from a checkpoint needs no saved random state: step s draws the same numbers in any process.
    """
    torch.manual_seed(np.random.SeedSequence([seed, step, 0, part]).generate_state(1, np.uint64).item() >> 1)
    return np.random.default_rng([seed, step, 1, part])


def losses(
    model: RetrievalModel, batch: Batch, targets: Tensor, config: ObjectiveConfig, rng: np.random.Generator,
    h: Tensor | None = None, objective: Objective | None = None, lesson: Lesson | None = None,
) -> Losses:  # fmt: skip
    """The losses of one batch of tensors; ``targets`` int64 ``[P, M]``: the label, then the clicks after it, 0 for none.

    ``h`` ``[P, K, d]``: the encoder's queries, where it was asked already. ``objective``: what `Objective.of` made of ``config``;
    made here if there is none, which a sampler that goes by clicks cannot do without. ``lesson``: what a teacher says of the points.
    """
    encoder, n = model.encoder, model.sizes.n_candidates
    if (kept := encoder.trained(batch, rng)) is not None:
        batch, targets = batch.at(kept), targets[kept]
        lesson = lesson and replace(lesson, known=lesson.known[kept], probabilities=lesson.probabilities[kept[lesson.known]])
    queries = model(batch, h)
    labels = targets[:, 0]  # [P]
    softmax, n_asked = encoder.own_loss(queries.fused, targets, batch, model, rng), len(labels)
    if softmax is None:
        objective = objective or Objective.of(config, n)
        all_queries, all_targets = asked(model, queries, batch, targets, rng)
        n_asked = len(all_targets)
        if lesson is None:
            softmax = objective(model, all_queries, all_targets, rng)
        else:
            softmax = _taught(model, objective, all_queries, all_targets, lesson, rng)
    if (penalty := encoder.penalty(queries.fused, batch)) is not None:
        softmax = softmax + penalty
    metric, rejection = torch.zeros(()), torch.zeros(())
    if queries.unclicked is not None and queries.has_unclicked is not None and config.metric != "none":
        label_vectors = model.vectors(labels)  # [P, d]
        clicked = best_interest(queries.clicked, label_vectors)
        metric = triplet(
            clicked, queries.unclicked, label_vectors, queries.has_unclicked, config.margin, config.metric, config.distance
        )
    if config.not_to_recommend:
        scored = model.item_vectors()  # [n, d']
        point, item = unclicked_pairs(batch, labels, n)
        query = encoder.readout(queries.query, model.scored(labels))
        rejection = not_to_recommend(query, point, scored[item - 1], scored)
    total = softmax + config.metric_weight * metric + config.not_to_recommend * rejection
    return Losses(total, softmax, metric, rejection, n_asked)


def need_inner_products(model: RetrievalModel, setting: str) -> None:
    """For what goes by the scores of all items.

    Raises:
        ConfigError: the scores of ``model`` are none that fold into inner products; ``setting`` asked for it.
    """
    if not model.scoring.foldable:
        raise ConfigError(f"{setting} needs scores that are inner products; this model's are not. Set it to 0")


def _taught(
    model: RetrievalModel, objective: Objective, queries: Tensor, targets: Tensor, lesson: Lesson, rng: np.random.Generator
) -> Tensor:
    """The mean over all that is asked, ``queries`` ``[A, K, d']`` and ``targets`` ``[A, M]``, the points first: of a point that the
    teacher speaks of its word and, for the rest of the weight, the objective; of all others the objective alone."""
    known = F.pad(lesson.known, (0, len(queries) - len(lesson.known)))  # [A]: what an encoder adds has no lesson
    total = queries.new_zeros(())
    for some, weight in ((known, 1 - lesson.weight), (~known, 1.0)):
        if weight and some.any():
            total = total + weight * some.sum() * objective(model, queries[some], targets[some], rng)
    scored = model.encoder.readout(queries[known], model.scored(targets[known, 0])) @ model.item_vectors().T  # [T, n]
    return (total + lesson.weight * distillation(scored, lesson.probabilities).sum()) / len(queries)


def asked(
    model: RetrievalModel, queries: Queries, batch: Batch, targets: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """What the objective is asked for: the points' queries ``[P, K, d']`` and targets ``[P, M]``, and whatever the encoder adds."""
    extra = model.encoder.extra(batch, rng)
    if extra is None:
        return queries.query, targets
    more = torch.zeros((len(extra[1]), targets.shape[1]), dtype=targets.dtype, device=targets.device)
    more[:, 0] = extra[1]
    return torch.cat([queries.query, model.scoring.queries(extra[0])]), torch.cat([targets, more])


def unclicked_pairs(batch: Batch, labels: Tensor, n_candidates: int) -> tuple[Tensor, Tensor]:
    """``(point, item)`` int64 each: every unclicked item of every point, without those that cannot be recommended and
    without the point's own label, which the softmax asks for."""
    lengths = torch.bincount(batch.unclicked_of, minlength=len(batch.unclicked_owner))
    starts = lengths.cumsum(0) - lengths
    own = lengths[batch.unclicked_row]  # [P]
    point = torch.repeat_interleave(torch.arange(len(own), device=own.device), own)
    before = (own.cumsum(0) - own)[point]
    place = starts[batch.unclicked_row[point]] + torch.arange(len(point), device=own.device) - before
    item = batch.unclicked[place]
    kept = (item <= n_candidates) & (item != labels[point])
    return point[kept], item[kept]


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the rows in one epoch, ``[rows]``: shuffled, then batches of sessions of like length.

    Rows are sorted by length within pools of 50 batches, and the batches shuffled again: little padding, and which
    rows meet in a batch still changes from epoch to epoch.
    """
    rng = np.random.default_rng([seed, epoch, 2])
    order = rng.permutation(len(lengths))
    pool = 50 * batch_size
    batches: list[np.ndarray] = []
    for begin in range(0, len(order), pool):
        rows = order[begin : begin + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    # The short batch of the last pool goes last, so that every other one is full and batch b is rows[b * size:].
    full = [rows for rows in batches if len(rows) == batch_size]
    rest = [rows for rows in batches if len(rows) < batch_size]
    mixed = [full[b] for b in rng.permutation(len(full))]
    return np.concatenate([*mixed, *rest]) if batches else order
