"""pmixer/SASRec.pytorch: its model, its sampler and its loss, as `python/main.py` there puts them together."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from queue import Queue

import numpy as np
import torch
from measuring import AfterStep, Sequences, Side, Task, chunks, run, top_unseen


class Pmixer(Side):
    LOSSES = ("bce",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        sys.path.insert(0, f"{task.library}/python")
        torch.set_num_threads(1)

    def prepare(self) -> None:
        from model import SASRec

        task, data = self.task, Sequences(self.task.folder)
        self.data = data
        torch.manual_seed(task.seed)
        self.model = SASRec(data.n_users, data.n_items, Namespace(
            device="cpu", norm_first=False, maxlen=task.length, hidden_units=task.width, num_blocks=task.blocks,
            num_heads=task.heads, dropout_rate=task.dropout,
        ))  # fmt: skip
        for weights in self.model.parameters():
            if weights.dim() >= 2:
                torch.nn.init.xavier_normal_(weights.data)
        self.model.pos_emb.weight.data[0] = self.model.item_emb.weight.data[0] = 0
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=task.learning_rate, betas=(0.9, 0.98))

    def train(self, after_step: AfterStep) -> None:
        from utils import sample_function

        task, data = self.task, self.data
        users = {user + 1: data.train(user).tolist() for user in range(data.n_users)}
        batches: Queue = Queue(maxsize=2)
        # Their three sampling processes would share this core; as a thread their work is counted by this process's clock.
        sampling = (users, data.n_users, data.n_items, task.batch, task.length, batches, task.seed)
        threading.Thread(target=sample_function, args=sampling, daemon=True).start()
        criterion = torch.nn.BCEWithLogitsLoss()
        self.model.train()
        while True:
            user, sequence, positive, negative = (np.array(part) for part in batches.get())
            positive_logits, negative_logits = self.model(user, sequence, positive, negative)
            self.optimizer.zero_grad()
            places = np.where(positive != 0)
            loss = criterion(positive_logits[places], torch.ones(positive_logits.shape)[places])
            loss += criterion(negative_logits[places], torch.zeros(negative_logits.shape)[places])
            loss.backward()
            self.optimizer.step()
            loss.item()
            after_step(len(places[0]))

    def lists(self) -> np.ndarray:
        self.model.eval()
        found = []
        with torch.no_grad():
            for users in chunks(self.data.n_users):
                last = self.model.log2feats(self.data.padded(self.task.length, users))[:, -1]
                scores = last @ self.model.item_emb.weight[1:].T
                found.append(top_unseen(scores.numpy(), self.data, users))
        self.model.train()
        return np.concatenate(found)


if __name__ == "__main__":
    run(Pmixer)
