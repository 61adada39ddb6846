"""SR-GNN on Diginetica: ours and the authors' code, the same sessions, as many epochs.

``python parity/srgnn_diginetica.py --log interactions.parquet --epochs 6`` trains ours on all training sessions (published:
Recall@20 .5073, MRR@20 .1759); with ``--authors CHECKOUT --sessions 20000 --epochs 3`` both sides learn from the latest so many.
The log has user_id (a session), item_id, timestamp and split (train or test). Every click of a test session but its first is
asked for, among all items of the training sessions. An item that none of them holds is left out on both sides.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from batches import batch_of
from comparing import module_of
from side_by_side import Curve, Sequences, Trained, epochs_of, keep, say, sequences_of, store_of

from xdm.training.config import load_config

SETTINGS = ["behaviours.session_max=100", "model.window=100"]  # no session of the log is longer


def read(path: Path, n_sessions: int) -> tuple[list[list[int]], list[list[int]]]:
    """The latest ``n_sessions`` training sessions (0: all), and the test sessions of the items in them."""
    log = pl.read_parquet(path, columns=["user_id", "item_id", "timestamp", "split"]).sort("timestamp", maintain_order=True)
    train, test = (log.filter(pl.col("split") == part) for part in ("train", "test"))
    latest = train["user_id"].unique(maintain_order=True)
    train = train.filter(pl.col("user_id").is_in(latest.tail(n_sessions or len(latest)).implode()))
    test = test.filter(pl.col("item_id").is_in(train["item_id"].unique().implode()))
    test = test.filter(pl.len().over("user_id") > 1)
    sessions = sequences_of(pl.concat([train, test]))
    cut = train["user_id"].n_unique()
    return sessions[:cut], sessions[cut:]


def ours(train: Sequences, test: Sequences, epochs: int) -> Curve:
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), train, [1000 * place for place in range(len(train))])
        curve: Curve = []
        for one in epochs_of(store, load_config("srgnn", None, SETTINGS), until=1000 * len(train)):
            ranks = torch.cat([ranks_of(one, test[at : at + 200]) for at in range(0, len(test), 200)])
            found = ranks <= 20
            figures = {"recall@20": float(found.float().mean()), "mrr@20": float((found / ranks).mean())}
            curve.append({**figures, "seconds": one.seconds})
            say("ours", len(curve), curve[-1])
            if len(curve) == epochs:
                break
    return curve


@torch.inference_mode()
def ranks_of(one: Trained, sessions: Sequences) -> torch.Tensor:
    """The place of each click but the first among all items, from 1; equal scores come before it."""
    rows = [one.items[session] for session in sessions]
    batch = batch_of([row[:-1].tolist() for row in rows])
    labels = torch.from_numpy(np.concatenate([row[1:] for row in rows]))[:, None] - 1
    scores = one.model.score(one.model(batch).query, one.model.item_vectors())
    return (scores >= scores.gather(1, labels)).sum(1)


def theirs(authors: Path, train: Sequences, test: Sequences, epochs: int) -> Curve:
    """Their ``main.py`` without its files."""
    model, utils = (module_of(authors / "pytorch_code", name) for name in ("model", "utils"))
    np.random.seed(1)  # noqa: NPY002  (they shuffle by it)
    torch.manual_seed(1)
    opt = Namespace(hiddenSize=100, batchSize=100, nonhybrid=False, step=1, lr=1e-3, l2=1e-5, lr_dc=0.1, lr_dc_step=3)
    net = model.SessionGraph(opt, max(map(max, train)) + 1)
    net.scheduler.last_epoch = -1  # PyTorch of their time counted an epoch when it ended, so the first step left the rate alone
    data = [utils.Data(pairs_of(part), shuffle=part is train) for part in (train, test)]
    curve: Curve = []
    while len(curve) < epochs:
        began = time.process_time()
        hit, mrr = model.train_test(net, *data)
        curve.append({"recall@20": hit / 100, "mrr@20": mrr / 100, "seconds with judging": time.process_time() - began})
        say("theirs", len(curve), curve[-1])
    return curve


def pairs_of(sessions: Sequences) -> tuple[list[list[int]], list[int]]:
    """Every prefix of every session, and the click after it."""
    pairs = [(list(session[:n]), session[n]) for session in sessions for n in range(1, len(session))]
    return [prefix for prefix, _ in pairs], [label for _, label in pairs]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="SR-GNN on Diginetica")
    parser.add_argument("--log", type=Path, required=True, help="interactions.parquet")
    parser.add_argument("--authors", type=Path, help="a checkout of github:CRIPAC-DIG/SR-GNN, trained beside ours")
    parser.add_argument("--sessions", type=int, default=0, help="the latest so many training sessions; 0: all")
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    parts = read(asked.log, asked.sessions)
    counts = {"training sessions": len(parts[0]), "test labels": sum(len(row) - 1 for row in parts[1])}
    print(counts)
    torch.set_num_threads(1)
    curves = {"ours": ours(*parts, asked.epochs)}
    if asked.authors:
        curves["theirs"] = theirs(asked.authors, *parts, asked.epochs)
    name = f"srgnn_diginetica_{asked.sessions}" if asked.sessions else "srgnn_diginetica"
    keep(name, {"published": {"recall@20": 0.5073, "mrr@20": 0.1759}, **counts}, curves)
