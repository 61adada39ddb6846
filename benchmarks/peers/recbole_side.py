"""RecBole: its SASRec with cross-entropy, its data loaders and its evaluation over the whole catalogue."""

from __future__ import annotations

import os

import numpy as np
import pyarrow.parquet as pq
import torch
from measuring import AfterStep, Sequences, Side, Task, chunks, run, top_unseen
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer


class RecBole(Side):
    LOSSES = ("softmax",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        torch.set_num_threads(1)

    def prepare(self) -> None:
        task, folder = self.task, self.task.folder / "recbole" / "log"
        folder.mkdir(parents=True)
        os.chdir(folder.parent)
        log = pq.read_table(task.log, columns=["user_id", "item_id", "timestamp"]).to_pandas()
        log.columns = ["user_id:token", "item_id:token", "timestamp:float"]
        log.to_csv(folder / "log.inter", sep="\t", index=False)
        settings = {
            "data_path": str(folder.parent), "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "use_gpu": False,
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
            "MAX_ITEM_LIST_LENGTH": task.length, "train_neg_sample_args": None, "loss_type": "CE", "hidden_size": task.width,
            "inner_size": task.width, "n_layers": task.blocks, "n_heads": task.heads, "hidden_dropout_prob": task.dropout,
            "attn_dropout_prob": task.dropout, "train_batch_size": task.batch, "eval_batch_size": 4096, "metrics": ["NDCG", "Hit"],
            "topk": [10], "valid_metric": "NDCG@10", "learning_rate": task.learning_rate, "seed": task.seed, "show_progress": False,
        }  # fmt: skip
        config = Config(model="SASRec", dataset="log", config_dict=settings)
        dataset = create_dataset(config)
        self.train_data, _, self.test_data = data_preparation(config, dataset)
        torch.manual_seed(task.seed)
        self.model = SASRec(config, self.train_data.dataset)
        self.trainer, self.dataset = Trainer(config, self.model), dataset

    def train(self, after_step: AfterStep) -> None:
        self.model.train()
        while True:
            for batch in self.train_data:
                self.trainer.optimizer.zero_grad()
                loss = self.model.calculate_loss(batch)
                self.trainer._check_nan(loss)
                loss.backward()
                self.trainer.optimizer.step()
                loss.item()
                after_step(len(batch))

    def evaluate(self) -> int:
        self.trainer.evaluate(self.test_data, load_best_model=False)
        return self.dataset.user_num - 1  # the first is padding

    def lists(self) -> np.ndarray:
        data, found = Sequences(self.task.folder), []
        code = self.dataset.token2id("item_id", np.arange(1, data.n_items + 1).astype(str))
        code = np.concatenate([[0], code])
        self.model.eval()
        with torch.no_grad():
            for users in chunks(data.n_users):
                padded = code[data.padded(self.task.length, users)]
                lengths = (padded != 0).sum(1)
                left = np.array([np.roll(row, length) for row, length in zip(padded, lengths, strict=True)])
                query = self.model.forward(torch.from_numpy(left), torch.from_numpy(lengths))
                scores = (query @ self.model.item_embedding.weight.T).numpy()[:, code[1:]]
                found.append(top_unseen(scores, data, users))
        self.model.train()
        return np.concatenate(found)


if __name__ == "__main__":
    run(RecBole)
