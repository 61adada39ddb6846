"""A training run: store in, bundle out. It can be killed at any moment and gone on with, to the same bits."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from xdm.bundle.format import FORMAT as BUNDLE
from xdm.bundle.writing import search_recall, torch_retriever, torch_tower, write_bundle
from xdm.console import Progress
from xdm.data.batches import Batch
from xdm.data.catalogue import Catalogue, build_catalogue
from xdm.data.controls import Control
from xdm.data.rows import TrainingRows
from xdm.evaluation.running import evaluate
from xdm.folders import check_replaceable, write_bytes
from xdm.log.store import Store
from xdm.models.retrieval_model import RetrievalModel
from xdm.retrieval.recommender import TowerRecommender
from xdm.schema import UsageError
from xdm.training.checkpoints import load_carried, load_checkpoint, newest_checkpoint, read_state, save_checkpoint
from xdm.training.config import Config, differences, parse_config
from xdm.training.item2vec import pretrain
from xdm.training.loop import Loop, StepRecord, new_model, set_threads, training_rows
from xdm.training.parts import parts_of
from xdm.training.teaching import teacher_of


@dataclass
class Best:
    """The best validation so far."""

    value: float = -1.0
    epoch: int = -1
    weights: dict[str, torch.Tensor] = field(default_factory=dict)


def recommender_of(
    model: RetrievalModel, catalogue: Catalogue, config: Config, control: Control | None = None
) -> TowerRecommender:
    """The model as it stands, ready to recommend."""
    return TowerRecommender(
        lambda batch: torch_tower(model, batch), torch_retriever(model), catalogue.items, catalogue.users, config.behaviours,
        control,
    )  # fmt: skip


def some_questions(rows: TrainingRows, n: int = 100) -> Batch:
    """At most ``n`` questions spread over the training rows: each a row's last."""
    which = np.unique(np.linspace(0, rows.n_rows - 1, n).astype(np.int64))
    batch, _ = rows.batch(which)
    return batch.at(np.append(batch.row[1:] != batch.row[:-1], True))


class Run:
    """One training run. Its folder (``OUT.run`` beside the bundle ``OUT``) holds config.yaml, steps.jsonl and checkpoints."""

    def __init__(
        self, store: Store, config: Config, out: Path | str, *, overwrite: bool = False, without_test: bool = False
    ) -> None:
        """``without_test``: ``store`` holds no test part any more (`xdm.training.parts.parts_of`)."""
        self.store, self.config, self.out = store, config, Path(out)
        self.overwrite = overwrite
        self.folder = self.out.with_name(self.out.name + ".run")
        self.parts = parts_of(store, config.split, without_test=without_test)
        self.history: list[dict[str, Any]] = []
        self.best = Best()
        self.recent_from: int | None = None  # the epoch from which on only the most recent labels are learned from
        self._pending: list[str] = []

    def train(self, *, resume: bool = False, progress: Progress | None = None) -> dict[str, Any]:
        """Train and write the bundle; returns what happened. With ``resume`` goes on from the last checkpoint, if any.

        Raises:
            UsageError: ``out`` may not be written, a run is already there, or it belongs to another store or configuration.
            ConfigError: a split that does not part the log.
        """
        check_replaceable(self.out, BUNDLE, overwrite=self.overwrite)
        progress = progress or Progress(quiet=True)
        checkpoint = self._open_folder(resume)
        threads = set_threads(self.config.training.threads)
        parts = self.parts
        progress.say(f"catalogue and training rows up to {parts.until} ...")
        catalogue = build_catalogue(parts.training, parts.until, self.config.data.min_clicks)
        rows = training_rows(parts.training, catalogue, self.config, until=parts.until)
        if not rows.n_labels:
            raise UsageError(
                f"{self.store.path} holds no click that follows another before the validation part; nothing to learn from"
            )
        progress.say(
            f"{rows.n_labels:,} labels in {rows.n_rows:,} sessions; left out: "
            + ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in rows.dropped.items())
        )
        model = new_model(self.config, catalogue)
        if checkpoint is None:
            pretrain(model, rows.log, self.config.item_vectors, self.config.training.seed)
        teacher = teacher_of(parts.training, catalogue, self.config, parts.until, progress)
        loop = Loop(model, rows, self.config, teacher)
        if checkpoint is not None:
            if read_state(checkpoint).get("recent_from") is not None:
                loop = self._recent(loop, catalogue)
            self._restore(checkpoint, loop)
            progress.say(f"going on after step {loop.step} (epoch {loop.epoch + 1})")
        if self.recent_from is None:
            self._loop(loop, catalogue, progress)
        if self.config.training.recent_share:
            if self.recent_from is None:
                loop.model.load_state_dict(self.best.weights)
                loop = self._recent(loop, catalogue)
                self.recent_from = loop.epoch
            self._loop(loop, catalogue, progress)
        loop.model.load_state_dict(self.best.weights)
        facts = {
            "model": self.config.name, "seed": self.config.training.seed, "threads": threads, "best_epoch": self.best.epoch + 1,
            "stopped_by": self._stopped_by(loop), self.config.training.monitor: self.best.value,
            "labels": rows.n_labels, "sessions": rows.n_rows,
            "labels_left_out": rows.dropped, "store": self.store.manifest["fingerprint"],
            "split": parts.described,
        }  # fmt: skip
        k = int(self.config.training.monitor.split("@")[1])
        found = search_recall(loop.model, some_questions(rows), k)
        if found is not None:
            facts[f"search_recall@{k}"] = found
        steps = (self.folder / "steps.jsonl").read_bytes()
        write_bundle(self.out, loop.model, catalogue, self.config, facts, self.history, steps, overwrite=self.overwrite)
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        write_bytes(self.folder / "finished", b"")
        return facts | {"epochs": loop.epoch, "steps": loop.step, "validation": self.history, "bundle": str(self.out)}

    # --- the run folder ---------------------------------------------------------------------------------------------

    def _open_folder(self, resume: bool) -> Path | None:
        """Make the run folder, or find the checkpoint to go on from."""
        checkpoint = newest_checkpoint(self.folder / "checkpoints") if self.folder.is_dir() else None
        if resume and checkpoint is not None:
            state = read_state(checkpoint)
            held = parse_config(state["config"])
            differing = differences(self.config, held)
            if differing:
                raise UsageError(
                    f"{self.folder} was trained with another configuration, so going on would not be the same run: "
                    + "; ".join(differing) + ". Resume with the run's own settings, or start anew with --overwrite"
                )  # fmt: skip
            if state["store"] != self.store.manifest["fingerprint"]:
                raise UsageError(
                    f"{self.folder} was trained on another log than {self.store.path}; start anew with --overwrite"
                )
            return checkpoint
        if (
            self.folder.exists()
            and not self.overwrite
            and not (self.folder / "finished").exists()
            and checkpoint is not None
        ):
            raise UsageError(
                f"{self.folder} holds an unfinished run; go on with --resume, or start anew with --overwrite"
            )
        # Beside a mistyped OUT there may lie a folder of that name that no run ever wrote.
        check_replaceable(self.folder, "config.yaml", overwrite=True)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        write_bytes(self.folder / "config.yaml", yaml.safe_dump(self.config.to_dict(), sort_keys=False).encode())
        write_bytes(self.folder / "steps.jsonl", b"")
        (self.folder / "checkpoints").mkdir()
        return None

    def _restore(self, checkpoint: Path, loop: Loop) -> None:
        state = read_state(checkpoint)
        weights = load_checkpoint(checkpoint, loop.model, loop.optimizer)
        if loop.carried():
            loop.carry_on(load_carried(checkpoint))
        loop.epoch, loop.batch, loop.step = state["epoch"], state["batch"], state["step"]
        loop.cpu_seconds = state.get("cpu_seconds", 0.0)
        self.history = state["history"]
        self.best = Best(state["best_value"], state["best_epoch"], weights)
        self.recent_from = state.get("recent_from")
        # Steps after the checkpoint are done again; their records are written again.
        # There is a line a step from step 0 on; what follows them may end in half a line, where the process was killed.
        lines = (self.folder / "steps.jsonl").read_bytes().splitlines(keepends=True)
        write_bytes(self.folder / "steps.jsonl", b"".join(lines[: loop.step]))

    def _save(self, loop: Loop) -> None:
        with (self.folder / "steps.jsonl").open("a") as file:
            file.writelines(self._pending)
        self._pending.clear()
        state = {
            "epoch": loop.epoch, "batch": loop.batch, "step": loop.step, "history": self.history,
            "best_value": self.best.value, "best_epoch": self.best.epoch, "config": self.config.to_dict(),
            "store": self.store.manifest["fingerprint"], "recent_from": self.recent_from, "cpu_seconds": loop.cpu_seconds,
        }  # fmt: skip
        save_checkpoint(self.folder / "checkpoints", state, loop.model, self.best.weights, loop.optimizer, loop.carried() or None)

    def _recent(self, loop: Loop, catalogue: Catalogue) -> Loop:
        """A loop over the most recent ``recent_share`` of the labels of ``loop``, which it goes on from with a fresh optimiser."""
        _, time, _ = loop.rows.labels
        first = int(np.sort(time)[-max(1, round(self.config.training.recent_share * len(time)))])
        rows = training_rows(self.parts.training, catalogue, self.config, until=self.parts.until, first=first)
        recent = Loop(loop.model, rows, self.config, loop.teacher)
        recent.epoch, recent.step, recent.cpu_seconds = loop.epoch, loop.step, loop.cpu_seconds
        return recent

    # --- the loop ---------------------------------------------------------------------------------------------------

    def _loop(self, loop: Loop, catalogue: Catalogue, progress: Progress) -> None:
        settings = self.config.training
        epochs = settings.epochs if self.recent_from is None else self.recent_from + settings.recent_epochs

        total = loop.step - loop.batch + (epochs - loop.epoch) * loop.batches_an_epoch

        def goes_on() -> bool:
            patient = self.recent_from is not None or loop.epoch - self.best.epoch <= settings.patience
            return loop.epoch < epochs and not loop.spent and patient

        with progress.bar("training", total, done=loop.step, unit="steps") as bar:

            def after_step(record: StepRecord) -> None:
                self._pending.append(json.dumps(record) + "\n")
                bar.advance(f"epoch {loop.epoch + 1}, loss {record['loss']:.3f}")
                if loop.step % settings.checkpoint_steps == 0 and loop.batch < loop.batches_an_epoch:
                    self._save(loop)

            while goes_on():
                loop.run_epoch(after_step)
                self._validate(loop, catalogue)
                bar.say(
                    f"epoch {loop.epoch}: validation {settings.monitor} {self.history[-1][settings.monitor]:.4f}"
                    + (" (best)" if self.best.epoch == loop.epoch - 1 else "")
                )
                self._save(loop)

    def _stopped_by(self, loop: Loop) -> str:
        """Which setting ended the training: ``cpu_seconds``, ``epochs`` or ``patience``."""
        if loop.spent:
            return "cpu_seconds"
        whole = loop.epoch >= self.config.training.epochs or self.recent_from is not None
        return "epochs" if whole else "patience"

    def _validate(self, loop: Loop, catalogue: Catalogue) -> None:
        """Judge the model on the validation part, over the full catalogue; keep its weights if they are the best."""
        monitor = self.config.training.monitor
        k = int(monitor.split("@")[1])
        recommender = recommender_of(loop.model, catalogue, self.config, loop.rows.control)
        seen = self.config.training.exclude_seen
        metrics = evaluate(recommender, self.store, self.parts.validation, ks=(k,), baselines=(), exclude_seen=seen)
        figures = {name: value for name, value in metrics.items() if name.endswith(f"@{k}")}
        self.history.append({"epoch": loop.epoch, "step": loop.step, **figures})
        if metrics[monitor] > self.best.value:
            weights = {name: tensor.detach().clone() for name, tensor in loop.model.state_dict().items()}
            self.best = Best(metrics[monitor], loop.epoch - 1, weights)
