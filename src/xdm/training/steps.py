"""One training step: sampling, loss, gradient. Everything random in it is drawn from (seed, step) alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xdm.data.batches import Batch
from xdm.models.encoder import best_interest
from xdm.models.registry import RetrievalModel
from xdm.models.unclicked import Queries
from xdm.objectives.rejection import not_to_recommend
from xdm.objectives.softmax import full_softmax, log_expected_count, log_uniform_sample, sampled_softmax
from xdm.objectives.triplet import triplet
from xdm.training.config import ObjectiveConfig


@dataclass(frozen=True)
class Losses:
    """``total = softmax + metric_weight * metric + not_to_recommend * rejection``; scalars with gradient. ``softmax`` stands for
    the objective, whatever its name, and what the encoder adds to it."""

    total: Tensor
    softmax: Tensor
    metric: Tensor
    rejection: Tensor


def seed_step(seed: int, step: int) -> np.random.Generator:
    """Seed torch (dropout) for this step and return the generator of its samples.

    A run that goes on from a checkpoint needs no saved random state: step s draws the same numbers in any process.
    """
    torch.manual_seed(np.random.SeedSequence([seed, step, 0]).generate_state(1, np.uint64).item() >> 1)
    return np.random.default_rng([seed, step, 1])


def losses(
    model: RetrievalModel, batch: Batch, targets: Tensor, config: ObjectiveConfig, rng: np.random.Generator, h: Tensor | None = None
) -> Losses:
    """The losses of one batch of tensors; ``targets`` int64 ``[P, M]``: the label, then the clicks after it, 0 for none;
    ``h`` ``[P, K, d]``: the encoder's queries, where it was asked already."""
    encoder, n = model.encoder, model.sizes.n_candidates
    if encoder.trained_points == "last":
        last = torch.cat([batch.row[1:] != batch.row[:-1], torch.ones_like(batch.row[:1], dtype=torch.bool)])
        batch, targets = batch.at(last), targets[last]
    queries = model(batch, h)
    labels = targets[:, 0]  # [P]
    full = config.name == "softmax" or 2 * config.negatives >= n
    scored = model.item_vectors() if full or config.not_to_recommend else None  # [n, d']
    own = encoder.own_loss(queries.fused, targets, model, rng)
    softmax = own if own is not None else objective(model, queries, batch, targets, scored if full else None, config, rng)
    if (penalty := encoder.penalty(queries.fused, batch)) is not None:
        softmax = softmax + penalty
    metric, rejection = torch.zeros(()), torch.zeros(())
    if queries.unclicked is not None and queries.has_unclicked is not None and config.metric != "none":
        label_vectors = model.vectors(labels)  # [P, d]
        clicked = best_interest(queries.clicked, label_vectors)
        metric = triplet(
            clicked, queries.unclicked, label_vectors, queries.has_unclicked, config.margin, config.metric, config.distance
        )
    if config.not_to_recommend and scored is not None:
        point, item = unclicked_pairs(batch, labels, n)
        query = encoder.readout(queries.query, model.scored(labels))
        rejection = not_to_recommend(query, point, scored[item - 1], scored)
    total = softmax + config.metric_weight * metric + config.not_to_recommend * rejection
    return Losses(total, softmax, metric, rejection)


def objective(
    model: RetrievalModel, queries: Queries, batch: Batch, targets: Tensor, scored: Tensor | None, config: ObjectiveConfig,
    rng: np.random.Generator,
) -> Tensor:  # fmt: skip
    """The configured objective over the points and whatever else the encoder asks for; ``scored`` are all item vectors
    ``[n, d']``, for a softmax over all of them."""
    query = queries.query  # [P, K, d']
    if (extra := model.encoder.extra(batch, rng)) is not None:
        query = torch.cat([query, model.scoring.queries(extra[0])])  # [P + Q, K, d']
        more = torch.zeros((len(extra[1]), targets.shape[1]), dtype=targets.dtype, device=targets.device)
        more[:, 0] = extra[1]
        targets = torch.cat([targets, more])
    target_vectors = model.scored(targets)  # [P + Q, M, d']
    query = model.encoder.readout(query, target_vectors[:, 0])  # [P + Q, d']
    if scored is not None:
        return full_softmax(query, targets, scored)
    return split_softmax(model, query, targets, target_vectors, config, rng)


def split_softmax(
    model: RetrievalModel, query: Tensor, targets: Tensor, target_vectors: Tensor, config: ObjectiveConfig, rng: np.random.Generator
) -> Tensor:
    """The sampled softmax over ``query`` ``[P, d]``, whose points fall into groups with a sample of their own each."""
    n, total = model.sizes.n_candidates, torch.zeros(())
    size = -(-len(query) // config.split)
    for begin in range(0, len(query), size):
        part = slice(begin, begin + size)
        sample = log_uniform_sample(rng, n, config.negatives)
        items, own = torch.from_numpy(sample.items), targets[part]

        def log_expected(which: np.ndarray, draws: int = sample.draws) -> Tensor:
            return torch.from_numpy(log_expected_count(which, n, draws).astype(np.float32))

        mean = sampled_softmax(
            query[part], own, target_vectors[part], items, model.scored(items),
            log_expected(np.maximum(own.numpy(), 1)), log_expected(sample.items),
        )  # fmt: skip
        total = total + mean * (len(own) / len(query))
    return total


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
