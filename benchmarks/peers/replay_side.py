"""RePlay: `replay.nn.sequential.SasRec` from its own parameters, its Parquet loader and its Lightning module."""

from __future__ import annotations

import warnings
from pathlib import Path

import lightning
import numpy as np
import polars as pl
import torch
from measuring import AfterStep, Sequences, Side, Task, chunks, run, top_unseen
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.loss import CESampled
from replay.nn.sequential import SasRec
from replay.nn.transform import UniformNegativeSamplingTransform
from replay.nn.transform.template import make_default_sasrec_transforms
from replay.preprocessing.label_encoder import LabelEncoder, LabelEncodingRule

warnings.filterwarnings("ignore")
ITEM = "item_id"
NEGATIVES = 512  # of loss "sampled"


class StepsTold(lightning.Callback):
    def __init__(self, after_step: AfterStep) -> None:
        self.after_step = after_step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.after_step(int(batch["target_padding_mask"].sum()))


class RePlay(Side):
    LOSSES = ("softmax", "sampled")

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        torch.set_num_threads(1)

    def _encode(self, folder: Path) -> pl.DataFrame:
        """The training part of the log as one row a user, encoded by its label encoder."""
        log = pl.read_parquet(self.task.log).sort("user_id", "timestamp")
        encoder = LabelEncoder([LabelEncodingRule("user_id"), LabelEncodingRule(ITEM)])
        log = encoder.fit_transform(log)
        self.number = np.array([0, *(int(name) for name in encoder.inverse_mapping[ITEM].values())])
        self.n_items = log[ITEM].n_unique()
        last = log["timestamp"].max()
        rows = log.filter(pl.col("timestamp") < last - 1).group_by("user_id", maintain_order=True).agg(ITEM)
        rows.write_parquet(folder / "train.parquet")
        return rows

    def _loader(self, folder: Path) -> ParquetModule:
        self.schema = TensorSchema([
            TensorFeatureInfo(
                ITEM, is_seq=True, feature_type=FeatureType.CATEGORICAL, embedding_dim=self.task.width,
                padding_value=self.n_items, cardinality=self.n_items, feature_hint=FeatureHint.ITEM_ID,
                feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, ITEM)],
            )
        ])  # fmt: skip
        shape = {"train": {ITEM: {"shape": self.task.length + 1, "padding": self.n_items}}}
        transforms = {"train": make_default_sasrec_transforms(self.schema)["train"]}
        if self.task.loss == "sampled":
            transforms["train"].append(UniformNegativeSamplingTransform(self.n_items, NEGATIVES))
        return ParquetModule(
            batch_size=self.task.batch, metadata=shape, transforms=transforms, train_path=str(folder / "train.parquet")
        )

    def first_batch(self) -> None:
        self._encode(self.task.folder)
        loader = self._loader(self.task.folder)
        loader.setup("fit")
        loader.compiled_transforms["train"](next(iter(loader.train_dataloader())))

    def prepare(self) -> None:
        task, folder = self.task, self.task.folder / f"replay-{self.task.loss}"
        folder.mkdir()
        torch.manual_seed(task.seed)
        self._encode(folder)
        self.loader = self._loader(folder)
        self.model = SasRec.from_params(
            self.schema, embedding_dim=task.width, num_heads=task.heads, num_blocks=task.blocks,
            max_sequence_length=task.length, dropout=task.dropout,
        )  # fmt: skip
        if task.loss == "sampled":
            self.model.loss = CESampled(ignore_index=self.n_items)
            self.model.loss.logits_callback = self.model.get_logits
        self.module = LightningModule(self.model, OptimizerFactory(learning_rate=task.learning_rate))

    def train(self, after_step: AfterStep) -> None:
        lightning.Trainer(
            accelerator="cpu", devices=1, max_epochs=10**6, limit_val_batches=0, callbacks=[StepsTold(after_step)], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        ).fit(self.module, self.loader)  # fmt: skip

    def lists(self) -> np.ndarray:
        data, found = Sequences(self.task.folder), []
        code = np.zeros(self.n_items + 1, np.int64)
        code[self.number[1:]] = np.arange(self.n_items)
        code[0] = self.n_items
        self.model.eval()
        with torch.no_grad():
            for users in chunks(data.n_users):
                items = torch.from_numpy(code[data.padded(self.task.length, users)])
                answer = self.model(feature_tensors={ITEM: items}, padding_mask=items != self.n_items)
                scores = np.empty((len(users), self.n_items), np.float32)
                scores[:, self.number[1:] - 1] = answer["logits"].numpy()
                found.append(top_unseen(scores, data, users))
        self.model.train()
        return np.concatenate(found)


if __name__ == "__main__":
    run(RePlay)
