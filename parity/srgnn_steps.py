"""SR-GNN learning on Diginetica: the same weights and the same batches, step by step, in ours and in the authors' code.

``python parity/srgnn_steps.py --log interactions.parquet --authors CHECKOUT``. Adam 1e-3 with L2 1e-5 on 100 prefixes a step; ours by
the loss and the optimiser of the training loop. What is compared is the loss of every step, which later steps could not
agree on had an earlier one moved any weight differently.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from batches import batch_of
from comparing import module_of, our_model
from side_by_side import keep
from srgnn import copy_weights
from srgnn_diginetica import pairs_of, read

from xdm.training.config import load_config
from xdm.training.loop import new_optimizer
from xdm.training.steps import losses

BATCH = 100


def main(log: Path, authors: Path, n_sessions: int, n_steps: int) -> None:
    train, _ = read(log, n_sessions)
    prefixes, labels = pairs_of(train)
    n_items = max(map(max, train))
    model, utils = (module_of(authors / "pytorch_code", name) for name in ("model", "utils"))
    torch.manual_seed(1)
    theirs = model.SessionGraph(
        Namespace(hiddenSize=100, batchSize=BATCH, nonhybrid=False, step=1, lr=1e-3, l2=1e-5, lr_dc=0.1, lr_dc_step=3), n_items + 1
    )
    ours = our_model({"name": "srgnn", "window": 100}, n_items).train()
    copy_weights(theirs, ours)
    config, rng = load_config("srgnn"), np.random.default_rng(0)
    optimizer, order = new_optimizer(ours, config.training), rng.permutation(len(prefixes))
    found = []
    for begin in range(0, BATCH * min(n_steps, len(prefixes) // BATCH), BATCH):
        which = order[begin : begin + BATCH]
        rows, targets = [prefixes[place] for place in which], torch.tensor([labels[place] for place in which])
        _, scores = model.forward(theirs, list(range(BATCH)), utils.Data((rows, targets.tolist())))
        theirs.optimizer.zero_grad()
        of_theirs = theirs.loss_function(scores, targets - 1)
        of_theirs.backward()
        theirs.optimizer.step()
        batch = batch_of(rows)
        last = batch.at((batch.position == batch.short_length[batch.row] - 1).nonzero()[:, 0])
        optimizer.zero_grad()
        of_ours = losses(ours, last, targets[:, None], config.objective, rng).total
        of_ours.backward()
        optimizer.step()
        found.append((of_ours.item(), of_theirs.item()))
    curve = np.array(found)
    figures = {
        "sessions": len(train), "steps": len(curve), "largest difference of a step's loss": float(np.ptp(curve, axis=1).max()),
        "loss of the first step": float(curve[0, 1]), "mean loss of the last 20 steps": float(curve[-20:, 1].mean()),
    }  # fmt: skip
    print(figures)
    keep("srgnn_steps", figures, {})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="SR-GNN, the same steps")
    parser.add_argument("--log", type=Path, required=True, help="interactions.parquet")
    parser.add_argument("--authors", type=Path, required=True, help="a checkout of github:CRIPAC-DIG/SR-GNN")
    parser.add_argument("--sessions", type=int, default=10_000, help="the latest so many training sessions")
    parser.add_argument("--steps", type=int, default=378, help="an epoch of 10,000 sessions")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    main(asked.log, asked.authors, asked.sessions, asked.steps)
