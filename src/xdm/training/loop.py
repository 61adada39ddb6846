"""The training loop over one period's rows: where it stands is two numbers, and each step is a function of them."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch

from xdm.data.catalogue import Catalogue
from xdm.data.controls import control_of
from xdm.data.rows import TrainingRows
from xdm.log.store import Store
from xdm.models.registry import RetrievalModel, build_model
from xdm.training.config import Config, TrainingConfig
from xdm.training.steps import epoch_order, losses, seed_step

StepRecord = dict[str, float | int]


def set_threads(threads: int) -> int:
    """Let torch use ``threads`` cores (0: all); returns the number. Deterministic algorithms only."""
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
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
    return build_model(
        config.model, config.unclicked, catalogue, config.training.seed, item_features=config.item_vectors.features
    )


def new_optimizer(model: RetrievalModel, settings: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser that ``training.optimizer`` names."""
    if settings.optimizer == "adagrad":
        return torch.optim.Adagrad(model.parameters(), lr=settings.learning_rate, initial_accumulator_value=0.1)
    return torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)


class Loop:
    """Steps of the optimiser over training rows. ``epoch`` and ``batch`` (from 0) say what comes next; ``step`` counts from 0."""

    def __init__(self, model: RetrievalModel, rows: TrainingRows, config: Config) -> None:
        self.model, self.rows, self.config = model, rows, config
        self.optimizer = new_optimizer(model, config.training)
        self.epoch = self.batch = self.step = 0

    @property
    def batches_an_epoch(self) -> int:
        return -(-self.rows.n_rows // self.config.training.batch_size)

    def run_epoch(self, after_step: Callable[[StepRecord], None]) -> None:
        """Finish the current epoch from where the loop stands; ``after_step`` is called with the figures of each step."""
        settings = self.config.training
        order = epoch_order(self.rows.lengths, settings.batch_size, settings.seed, self.epoch)
        if not self.batch:
            with torch.no_grad():
                self.model.encoder.before_epoch(self.model, self.epoch)
        self.model.train()
        while self.batch < self.batches_an_epoch:
            begin = self.batch * settings.batch_size
            record = self._step(order[begin : begin + settings.batch_size])
            self.batch += 1
            self.step += 1
            after_step(record)
        self.epoch += 1
        self.batch = 0

    def _step(self, which: np.ndarray) -> StepRecord:
        settings = self.config.training
        rng = seed_step(settings.seed, self.step)
        batch, labels = self.rows.batch(which)
        loss = losses(self.model, batch.map(torch.from_numpy), torch.from_numpy(labels), self.config.objective, rng)
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            self.model.encoder.after_step(self.model)
        figures = {name: float(value.detach()) for name, value in vars(loss).items()}
        return {
            "step": self.step, "epoch": self.epoch, "loss": figures.pop("total"), **figures,
            "gradient_norm": float(norm), "labels": len(labels),
        }  # fmt: skip
