"""GRU4Rec on Diginetica: ours and the authors' code, the same sessions, the same settings, as many epochs.

``python parity/gru4rec_diginetica.py --log interactions.parquet --authors CHECKOUT --sessions 20000 --epochs 5``, with pandas for
their data iterator. The log and the questions are those of srgnn_diginetica.py; the settings are the authors' for Diginetica,
whose own preparation of the log is another. Theirs is judged by its own evaluation, in which equal scores come first as in ours.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from comparing import module_of
from side_by_side import Curve, Sequences, epochs_of, keep, say, store_of
from srgnn_diginetica import ranks_of, read

from xdm.training.config import load_config

# Of each loss the preset with what it changes, and the same in their words.
CROSS_ENTROPY = [
    "model.width=192", "model.input_dropout=0.45", "model.hidden_dropout=0.15", "training.batch_size=128",
    "training.learning_rate=0.1", "training.momentum=0", "objective.alpha=0",
]  # fmt: skip
SETTINGS: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "cross-entropy": ("gru4rec", CROSS_ENTROPY, {
        "loss": "cross-entropy", "layers": [192], "batch_size": 128, "dropout_p_embed": 0.45, "dropout_p_hidden": 0.15,
        "learning_rate": 0.1, "momentum": 0.0, "sample_alpha": 0.0, "n_sample": 2048, "logq": 1.0,
    }),
    "BPR-max": ("gru4rec-bpr-max", [], {
        "loss": "bpr-max", "layers": [512], "batch_size": 128, "dropout_p_embed": 0.5, "dropout_p_hidden": 0.3, "elu_param": 1.0,
        "learning_rate": 0.05, "momentum": 0.15, "sample_alpha": 0.3, "n_sample": 2048, "bpreg": 0.9, "logq": 0.0,
    }),
}  # fmt: skip


def ours(loss: str, train: Sequences, test: Sequences, epochs: int) -> Curve:
    preset, settings, _ = SETTINGS[loss]
    curve: Curve = []
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), train, [1000 * place for place in range(len(train))])
        for one in epochs_of(store, load_config(preset, None, settings), until=1000 * len(train)):
            ranks = torch.cat([ranks_of(one, test[at : at + 200]) for at in range(0, len(test), 200)])
            found = ranks <= 20
            curve.append({
                "epoch": len(curve) + 1, "recall@20": float(found.float().mean()), "mrr@20": float((found / ranks).mean()),
                "seconds": one.seconds,
            })  # fmt: skip
            say(f"ours, {loss}", len(curve), curve[-1])
            if len(curve) == epochs:
                break
    return curve


def theirs(authors: Path, loss: str, train: Sequences, test: Sequences, epochs: int) -> Curve:
    """Their ``run.py`` without its files. Their loop ends with the last epoch, so that alone is judged."""
    import pandas

    def tensor(data: Any, **options: Any) -> torch.Tensor:
        if isinstance(data, pandas.Series):  # which torch took in their time
            data = data.to_numpy()
        if isinstance(data, np.ndarray) and data.dtype == np.float64:  # NumPy of their time left their weights in single precision
            data = data.astype(np.float32)
        return tensor_of(data, **options)

    tensor_of = torch.tensor
    code, evaluation = (module_of(authors, name) for name in ("gru4rec_pytorch", "evaluation"))
    torch.manual_seed(1)
    gru = code.GRU4Rec(**SETTINGS[loss][2], n_epochs=epochs, constrained_embedding=True, device=torch.device("cpu"))
    began = time.process_time()
    with mock.patch.object(torch, "tensor", tensor):
        gru.fit(table_of(train), sample_cache_max_size=2_000_000)
    seconds = (time.process_time() - began) / epochs
    with torch.inference_mode():
        recall, mrr = evaluation.batch_eval(gru, table_of(test), [20], batch_size=100, mode="conservative")
    curve = [{"epoch": epochs, "recall@20": float(recall[20]), "mrr@20": float(mrr[20]), "seconds": seconds}]
    say(f"theirs, {loss}", epochs, curve[-1])
    return curve


def table_of(sessions: Sequences) -> Any:
    import pandas

    number = np.repeat(np.arange(len(sessions)), [len(row) for row in sessions])
    items = np.concatenate([np.asarray(row) for row in sessions])
    return pandas.DataFrame({"SessionId": number, "ItemId": items, "Time": np.arange(len(number))})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="GRU4Rec on Diginetica")
    parser.add_argument("--log", type=Path, required=True, help="interactions.parquet")
    parser.add_argument("--authors", type=Path, help="a checkout of github:hidasib/GRU4Rec_PyTorch_Official, trained beside ours")
    parser.add_argument("--sessions", type=int, default=0, help="the latest so many training sessions; 0: all")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--loss", choices=list(SETTINGS), action="append", help="one or both; default both")
    asked = parser.parse_args()
    parts = read(asked.log, asked.sessions)
    counts = {"training sessions": len(parts[0]), "test labels": sum(len(row) - 1 for row in parts[1])}
    print(counts)
    torch.set_num_threads(1)
    curves = {}
    for one in asked.loss or SETTINGS:
        curves[f"ours, {one}"] = ours(one, *parts, asked.epochs)
        if asked.authors:
            curves[f"theirs, {one}"] = theirs(asked.authors, one, *parts, asked.epochs)
    keep(f"gru4rec_diginetica_{asked.sessions}" if asked.sessions else "gru4rec_diginetica", counts, curves)
