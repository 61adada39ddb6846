"""asash/gSASRec-pytorch: its model, its data loader and its loss, as `train_gsasrec.py` there puts them together."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import torch
from measuring import AfterStep, Sequences, Side, Task, chunks, run, top_unseen

NEGATIVES = {"bce": 1, "gbce": 256}
CALIBRATION = {"bce": 0.0, "gbce": 0.75}  # t


class GSASRecSide(Side):
    LOSSES = tuple(NEGATIVES)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        sys.path.insert(0, task.library)
        torch.set_num_threads(1)

    def prepare(self) -> None:
        from gsasrec import GSASRec

        task, data = self.task, Sequences(self.task.folder)
        self.data = data
        os.chdir(self._write_files())
        torch.manual_seed(task.seed)
        self.model = GSASRec(
            data.n_items, sequence_length=task.length, embedding_dim=task.width, num_heads=task.heads,
            num_blocks=task.blocks, dropout_rate=task.dropout, reuse_item_embeddings=True,
        )  # fmt: skip
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=task.learning_rate)

    def _write_files(self) -> str:
        """The files that its loaders read, below the folder that is returned."""
        data, folder = self.data, self.task.folder / f"gsasrec-{self.task.loss}"
        for part, cut in (("train", 2), ("test", 1)):
            (folder / "datasets" / "log" / part).mkdir(parents=True)
            with (folder / "datasets" / "log" / part / "input.txt").open("w") as file:
                file.writelines(" ".join(map(str, data.of(user)[:-cut])) + "\n" for user in range(data.n_users))
        (folder / "datasets" / "log" / "test" / "output.txt").write_text("".join(f"{item}\n" for item in data.truth))
        (folder / "datasets" / "log" / "dataset_stats.json").write_text(json.dumps({"num_items": data.n_items}))
        return str(folder)

    def train(self, after_step: AfterStep) -> None:
        from dataset_utils import get_train_dataloader

        n, t = NEGATIVES[self.task.loss], CALIBRATION[self.task.loss]
        loader = get_train_dataloader("log", self.task.batch, self.task.length, n)
        alpha = n / (self.data.n_items - 1)
        beta, eps, largest = alpha * ((1 - 1 / alpha) * t + 1 / alpha), 1e-10, torch.finfo(torch.float64).max
        self.model.train()
        while True:
            for positives, negatives in loader:
                inputs = positives[:, :-1]
                states, _ = self.model(inputs)
                candidates = torch.cat([positives[:, 1:, None], negatives[:, 1:]], dim=-1)
                logits = torch.einsum("bse,bsne->bsn", states, self.model.get_output_embeddings()(candidates))
                truth = torch.zeros_like(logits)
                truth[:, :, 0] = 1
                mask = (inputs != self.data.n_items + 1).float()
                positive, negative = logits[:, :, :1].to(torch.float64), logits[:, :, 1:].to(torch.float64)
                chance = torch.clamp(torch.sigmoid(positive), eps, 1 - eps).pow(-beta)
                odds = torch.clamp(1.0 / (torch.clamp(chance, 1 + eps, largest) - 1), eps, largest)
                logits = torch.cat([odds.log(), negative], -1)
                each = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(-1)
                loss = (each * mask).sum() / mask.sum()
                loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad()
                loss.item()
                after_step(int(mask.sum()))

    def evaluate(self) -> int:
        from dataset_utils import get_test_dataloader
        from eval_utils import evaluate
        from ir_measures import R, nDCG

        loader = get_test_dataloader("log", batch_size=512, max_length=self.task.length)
        evaluate(self.model, loader, [nDCG @ 10, R @ 10], 10, True, torch.device("cpu"))
        return self.data.n_users

    def lists(self) -> np.ndarray:
        self.model.eval()
        found, n = [], self.data.n_items
        with torch.no_grad():
            for users in chunks(self.data.n_users):
                inputs = torch.from_numpy(self.data.padded(self.task.length, users, padding=n + 1))
                states, _ = self.model(inputs)
                scores = states[:, -1] @ self.model.get_output_embeddings().weight[1 : n + 1].T
                found.append(top_unseen(scores.numpy(), self.data, users))
        self.model.train()
        return np.concatenate(found)


if __name__ == "__main__":
    run(GSASRecSide)
