"""RecTools: `SASRecModel`, trained by its own Lightning module, asked by its own `recommend`."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from measuring import TOP, AfterStep, Sequences, Side, Task, chunks, run, top_unseen
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import NDCG, HitRate, calc_metrics
from rectools.models import SASRecModel

warnings.filterwarnings("ignore")
LOSS = {"softmax": "softmax", "sampled": "sampled_softmax"}
NEGATIVES = 256


class StepsTold(Callback):
    def __init__(self, after_step: AfterStep) -> None:
        self.after_step = after_step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.after_step(int((batch["yw"] != 0).sum()))


class RecTools(Side):
    LOSSES = tuple(LOSS)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        torch.set_num_threads(1)

    def _read(self) -> None:
        log = pd.read_parquet(self.task.log, columns=["user_id", "item_id", "timestamp"])
        log = log.rename(columns={"timestamp": Columns.Datetime})
        self.last = log[Columns.Datetime].max()
        self.test = log[log[Columns.Datetime] == self.last]
        self.known = log[log[Columns.Datetime] < self.last].assign(weight=1.0)
        for frame in (self.known, log):
            frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
        self.log = log
        self.dataset = Dataset.construct(self.known[self.known[Columns.Datetime] < self.known[Columns.Datetime].max()])

    def _model(self, **settings) -> SASRecModel:
        task = self.task
        return SASRecModel(
            n_blocks=task.blocks, n_heads=task.heads, n_factors=task.width, dropout_rate=task.dropout,
            session_max_len=task.length, loss=LOSS[task.loss], n_negatives=NEGATIVES, lr=task.learning_rate,
            batch_size=task.batch, **settings,
        )  # fmt: skip

    def _trainer(self, **settings) -> Callable[[], Trainer]:
        return lambda: Trainer(
            accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, **settings,
        )

    def first_batch(self) -> None:
        self._read()
        model = self._model()
        model._build_model_from_dataset(self.dataset)
        next(iter(model.data_preparator.get_dataloader_train()))

    def prepare(self) -> None:
        self._read()
        torch.manual_seed(self.task.seed)

    def train(self, after_step: AfterStep) -> None:
        trainer = self._trainer(max_epochs=10**6, callbacks=[StepsTold(after_step)])
        self.model = self._model(get_trainer_func=trainer)
        self.model.fit(self.dataset)

    def _fit_one_step(self) -> SASRecModel:
        model = self._model(get_trainer_func=self._trainer(max_steps=1))
        model.fit(self.dataset)
        return model

    def evaluate(self) -> int:
        if not hasattr(self, "fitted"):
            self.fitted, self.whole = self._fit_one_step(), Dataset.construct(self.known)
        found = self.fitted.recommend(self.test[Columns.User].unique(), self.whole, TOP, filter_viewed=True)
        calc_metrics({"ndcg": NDCG(TOP), "hr": HitRate(TOP)}, found, self.test)
        return self.test[Columns.User].nunique()

    def answerer(self) -> Callable[[int], None]:
        model, data = self._fit_one_step(), Sequences(self.task.folder)

        def answer(user: int) -> None:
            items = data.of(user % data.n_users)[-self.task.length :]
            events = pd.DataFrame({
                Columns.User: f"new {user}", Columns.Item: items.astype(str), Columns.Weight: 1.0,
                Columns.Datetime: pd.to_datetime(1_700_000_000 + np.arange(len(items)), unit="s"),
            })  # fmt: skip
            found = model.recommend([f"new {user}"], Dataset.construct(events), TOP, filter_viewed=True)
            assert len(found) == TOP, found

        return answer

    def lists(self) -> np.ndarray:
        data, found = Sequences(self.task.folder), []
        ids = self.model.data_preparator.item_id_map
        known = ids.external_ids[self.model.data_preparator.n_item_extra_tokens :].astype(np.int64)
        code = np.zeros(data.n_items + 1, np.int64)  # what training never saw is padding
        code[known] = self.model.data_preparator.get_known_items_sorted_internal_ids()
        module = self.model.lightning_model
        network = module.torch_model
        network.eval()
        with torch.no_grad():
            vectors = network.item_model.get_all_embeddings()
            for users in chunks(data.n_users):
                batch = {"x": torch.from_numpy(code[data.padded(self.task.length, users)])}
                queries = network.encode_sessions(batch, vectors)[:, -1]
                scores = np.full((len(users), data.n_items), -np.inf, np.float32)
                scores[:, known - 1] = (queries @ vectors.T).numpy()[:, code[known]]
                found.append(top_unseen(scores, data, users))
        network.train()
        return np.concatenate(found)


if __name__ == "__main__":
    run(RecTools)
