"""The training loop over one period's rows: where it stands is two numbers, and each step is a function of them (and, in the
session-parallel order, of the states that it carries)."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

import numpy as np
import torch

from xdm.data.batches import Batch
from xdm.data.catalogue import Catalogue
from xdm.data.controls import control_of
from xdm.data.rows import TrainingRows
from xdm.log.store import Store
from xdm.models.retrieval_model import RetrievalModel, build_model
from xdm.models.shared.scoring import Cosine, SquaredDistance
from xdm.schema import ConfigError
from xdm.training.adagrad import MomentumAdagrad
from xdm.training.adversarial import perturbed
from xdm.training.config import Config, TrainingConfig
from xdm.training.item2vec import freeze
from xdm.training.item_dropout import without_some
from xdm.training.memory import keep_freed_memory
from xdm.training.objective import Objective
from xdm.training.session_parallel import SessionParallel
from xdm.training.steps import epoch_order, losses, need_inner_products, seed_step
from xdm.training.teacher import Lesson, Teacher

StepRecord = dict[str, float | int]
LOSSES = {"loss": "total", "softmax": "softmax", "metric": "metric", "rejection": "rejection"}  # as a step's record names them


def set_threads(threads: int) -> int:
    """Let torch use ``threads`` cores (0: all); returns the number. Deterministic algorithms only, and freed memory is kept."""
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    # As torch.use_deterministic_algorithms(True), which would load torch's compiler to tell it so: 70 MB and a second.
    torch.set_deterministic_debug_mode("error")
    # With deterministic algorithms torch writes NaN into every new tensor, to catch a read of what was never written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    keep_freed_memory()
    return threads


def training_rows(store: Store, catalogue: Catalogue, config: Config, *, until: int, first: int = 0) -> TrainingRows:
    """The rows of the labels in ``[first, until)`` (seconds), as ``config`` wants them."""
    return TrainingRows(
        store, catalogue, config.behaviours, until=until, first=first,
        label_scope=config.data.label_scope, unclicked_at=config.data.unclicked_at,
        control=control_of(config.data.unclicked_source, store, catalogue, until), n_targets=config.data.n_targets,
    )  # fmt: skip


def new_model(config: Config, catalogue: Catalogue) -> RetrievalModel:
    """The model of ``config`` over ``catalogue``, with the fresh weights of its seed."""
    settings = config.item_vectors
    scoring = {"own": None, "cosine": Cosine(settings.temperature), "squared_distance": SquaredDistance()}[settings.scoring]
    model = build_model(config.model, config.unclicked, catalogue, config.training.seed, settings.features, scoring)
    if settings.frozen:
        freeze(model, inputs=settings.inputs)
    return model


def new_optimizer(model: RetrievalModel, settings: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser that ``training.optimizer`` names."""
    momentum, rate, decay = settings.momentum, settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adagrad":
        return torch.optim.Adagrad(model.parameters(), rate, weight_decay=decay, initial_accumulator_value=0.1)
    if settings.optimizer == "adagrad_momentum":
        tables = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
        by_rows = [weight for weight in model.parameters() if id(weight) in tables]
        others = [weight for weight in model.parameters() if id(weight) not in tables]
        return MomentumAdagrad(others, by_rows, rate, momentum)
    return torch.optim.Adam(model.parameters(), rate, weight_decay=decay, fused=True)


class Loop:
    """Steps of the optimiser over training rows. ``epoch`` and ``batch`` (from 0) say what comes next; ``step`` counts from 0."""

    def __init__(self, model: RetrievalModel, rows: TrainingRows, config: Config, teacher: Teacher | None = None) -> None:
        if config.objective.not_to_recommend:
            need_inner_products(model, "objective.not_to_recommend")
        self.model, self.rows, self.config = model, rows, config
        self.teacher, self._lessons = teacher, None if teacher is None else teacher.beside(rows)
        with torch.no_grad():
            model.encoder.before_training(model, rows.log)
        self.optimizer = new_optimizer(model, config.training)
        self.objective = Objective.of(config.objective, model.sizes.n_candidates, rows.item_clicks)
        self.epoch = self.batch = self.step = 0
        self.cpu_seconds = 0.0  # of this process's processors, in steps
        self._ordered, self._order = -1, np.zeros(0, np.int64)  # of the epoch `_ordered`; see `order`
        self._kept: np.ndarray | None = None
        self.live: SessionParallel | None = None
        if config.training.order == "session_parallel":
            self.live = SessionParallel(model.encoder, rows, config.training.batch_size)
        # A click may have no label. And as with GRU4Rec's authors the last live session, alone with its label, teaches nothing.
        self._least = 0 if self.live is None else 2 if config.objective.of_labels_alone else 1

    @property
    def spent(self) -> bool:
        """Whether the steps have taken what `training.cpu_seconds` grants."""
        return 0 < self.config.training.cpu_seconds <= self.cpu_seconds

    @property
    def batches_an_epoch(self) -> int:
        settings = self.config.training
        if self.live is not None:
            return self.live.steps
        return -(-len(self.order) // settings.batch_size)

    @property
    def kept(self) -> np.ndarray | None:
        """bool ``[n_labels]``: the labels that the current epoch learns from; None for all."""
        most = self.config.data.labels_per_user
        if not most:
            return None
        return self.rows.some_of_each_user(most, np.random.default_rng([self.config.training.seed, self.epoch, 3]))

    @property
    def order(self) -> np.ndarray:
        """The order of the current epoch's rows, or labels; not of live sessions, which say themselves what comes next."""
        if self._ordered != self.epoch:
            self._kept, self._ordered = self.kept, self.epoch
            self._order = self._ordered_anew(self._kept)
        return self._order

    def run_epoch(self, after_step: Callable[[StepRecord], None]) -> None:
        """Finish the current epoch from where the loop stands, or cut it short where the budget is `spent`; ``after_step`` is called
        with the figures of each step.

        Raises:
            ConfigError: the loss, its gradient or a weight is no finite number.
        """
        settings = self.config.training
        order = None if self.live is not None else self.order
        if not self.batch:
            with torch.no_grad():
                self.model.encoder.before_epoch(self.model, self.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * settings.decay ** (self.epoch // settings.decay_epochs)
        self.model.train()
        while self.batch < self.batches_an_epoch and not self.spent:
            began = time.process_time()
            begin = self.batch * settings.batch_size
            record = self._step(None if order is None else order[begin : begin + settings.batch_size])
            self.batch += 1
            self.step += 1
            self.cpu_seconds += time.process_time() - began
            after_step(record)
        with torch.no_grad():
            self.model.encoder.after_epoch(self.model)
        if not all(weight.isfinite().all() for weight in self.model.parameters()):
            raise self._diverged("a weight is no number any more")
        self.epoch += 1
        self.batch = 0

    def carried(self) -> dict[str, torch.Tensor]:
        """What goes from step to step beside the weights, the optimiser's slots and the numbers that say where the loop stands."""
        held = {f"encoder.{name}": value for name, value in self.model.encoder.carried().items()}
        return held | ({} if self.live is None else self.live.state_dict())

    def carry_on(self, held: dict[str, torch.Tensor]) -> None:
        """Put back what `carried` gave."""
        held = dict(held)
        for name, value in self.model.encoder.carried().items():
            value.copy_(held.pop(f"encoder.{name}"))
        if self.live is not None:
            self.live.load_state_dict(held)

    def _diverged(self, what: str) -> ConfigError:
        rate = self.config.training.learning_rate
        return ConfigError(
            f"training has diverged: in epoch {self.epoch + 1}, after {self.step} steps, {what}. A lower training.learning_rate "
            f"than {rate:g}, or a lower training.clip_norm, may help"
        )

    def _ordered_anew(self, kept: np.ndarray | None) -> np.ndarray:
        settings = self.config.training
        rng = np.random.default_rng([settings.seed, self.epoch, 2])
        if settings.order == "points":
            order = rng.permutation(self.rows.n_labels)
            return order if kept is None else order[kept[order]]
        some = np.arange(self.rows.n_rows) if kept is None else np.flatnonzero(self.rows.count_of(kept))  # without any: left out
        if settings.length_groups:
            return rng.permutation(some)
        return some[epoch_order(self.rows.lengths[some], settings.batch_size, settings.seed, self.epoch)]

    def _step(self, which: np.ndarray | None) -> StepRecord:
        """One step over the rows, or labels, ``which``; None: over the next click of the live sessions."""
        self.optimizer.zero_grad(set_to_none=True)
        record: StepRecord = {"step": self.step, "epoch": self.epoch, **dict.fromkeys(LOSSES, 0.0), "gradient_norm": 0.0, "labels": 0}
        parts, asked = self._parts(which), 0
        for part, rows in enumerate(parts):
            found, of_part = self._learn(rows, part, parted=len(parts) > 1)
            asked += of_part
            for name, value in found.items():
                record[name] += value
        if not record["labels"]:
            return record
        if len(parts) > 1:
            self._divide(record, asked)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.training.clip_norm)
        if not math.isfinite(record["loss"]) or not math.isfinite(norm):
            raise self._diverged(f"the loss is {record['loss']} and its gradient's norm {float(norm)}")
        self.optimizer.step()
        with torch.no_grad():
            self.model.encoder.after_step(self.model)
        return record | {"gradient_norm": float(norm)}

    def _parts(self, which: np.ndarray | None) -> list[np.ndarray | None]:
        """What a step computes one after the other: all at once, or groups of rows of like length, so that little is computed for
        padding though the batch is drawn at random."""
        groups = self.config.training.length_groups
        if which is None or not groups:
            return [which]
        which = which[np.argsort(self.rows.lengths[which], kind="stable")]
        return [part for part in np.array_split(which, groups) if len(part)]

    def _learn(self, which: np.ndarray | None, part: int = 0, *, parted: bool = False) -> tuple[dict[str, float], int]:
        """Add the gradients of the rows, or labels, ``which``; their losses, how many labels there were, and how many queries
        were asked. Where they are but a part of the batch, gradients and losses are times that number, for `_divide`."""
        settings = self.config.training
        rng = seed_step(settings.seed, self.step, part)
        batch, labels, h = self._inputs(which, part)
        if len(labels) < self._least:  # too little is asked to learn from: the states are carried on all the same
            return {}, 0
        lesson = None if self._lessons is None or which is None else self._lessons.of(self._numbers(which))
        loss = losses(self.model, batch, labels, self.config.objective, rng, h, self.objective, lesson)
        # GRU4Rec's authors divide by the number of slots; a step with fewer sessions, at the end of an epoch, counts for less.
        slots = 1.0 if self.live is None else len(labels) / settings.batch_size
        weight = loss.asked if parted else 1
        (slots * weight * loss.total).backward()
        self._learn_perturbed(batch, labels, lesson)
        figures = {name: weight * float(getattr(loss, field).detach()) for name, field in LOSSES.items()}
        return {**figures, "labels": len(labels)}, loss.asked

    def _divide(self, record: StepRecord, asked: int) -> None:
        """Make of the sums over a batch's parts, each weighted by what it asked, those of the batch: the step is then that of the
        whole batch, for the objective is a mean over what is ``asked``."""
        for name in LOSSES:
            record[name] /= asked
        for weight in self.model.parameters():
            if weight.grad is not None:
                weight.grad /= asked

    def _learn_perturbed(self, batch: Batch, labels: torch.Tensor, lesson: Lesson | None) -> None:
        """Add the gradients of the same loss, with the same draws, where the weights are shifted along them."""
        settings = self.config.training
        if not settings.adversarial_weight or self.epoch < settings.adversarial_after:
            return
        with perturbed(self.model, settings.adversarial_noise):
            rng = seed_step(settings.seed, self.step)
            again = losses(self.model, batch, labels, self.config.objective, rng, objective=self.objective, lesson=lesson)
            (settings.adversarial_weight * again.total).backward()

    def _inputs(self, which: np.ndarray | None, part: int = 0) -> tuple[Batch, torch.Tensor, torch.Tensor | None]:
        """The batch, the targets, and the encoder's queries where the order of training asked it already."""
        if self.live is not None:
            return self.live.step(self.batch, self._with_holes)
        which = np.asarray(which)
        if self.config.training.order == "points":
            batch, labels = self.rows.points(which)
        else:
            batch, labels = self.rows.batch(which)
            if self._kept is not None:
                asked = self._kept[self.rows.labels_of(which)]
                batch, labels = batch.at(asked), labels[asked]
        return self._with_holes(batch, part).map(torch.from_numpy), torch.from_numpy(labels), None

    def _numbers(self, which: np.ndarray) -> np.ndarray:
        """int64 ``[P]``: which labels the points of `_inputs` are."""
        if self.config.training.order == "points":
            return np.asarray(which)
        labels = self.rows.labels_of(np.asarray(which))
        return labels if self._kept is None else labels[self._kept[labels]]

    def _with_holes(self, batch: Batch, part: int = 0) -> Batch:
        return without_some(batch, self.config.data.item_dropout, self.config.training.seed, self.step, part)
