"""gSASRec on MovieLens-1M: ours and the authors' PyTorch code after as many steps of 128 rows.

``python parity/gsasrec_ml1m.py --log interactions.parquet --authors CHECKOUT --steps 48,96,192,384``. Published after some 1,800
epochs of 48 steps: Recall@10 .3003, NDCG@10 .1726. Their model, loader, optimiser and settings of ``config_ml1m.py``; their loss
is written anew, for their script gathers a vector for each of a batch's 6.6 million negatives. Here a product with all items gives
the same scores faster: `checked` compares those of two rows with the gathered vectors. ``--table 0.1`` lets their scored table
begin as ours does; the result is then ``gsasrec_ml1m_table.json``.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from comparing import module_of
from last_click import Point, Scorer, follow, judged, options, ours, read, training_part
from side_by_side import Sequences
from torch import Tensor
from torch.nn import functional as F

from xdm.objectives.gathered import own_scores
from xdm.training.config import load_config

LENGTH, ROWS, NEGATIVES, T = 200, 128, 256, 0.75


def gbce(scores: Tensor, n_items: int) -> Tensor:
    """Their loss of ``[P, 1 + NEGATIVES]`` scores, the positive's first: a positive's score is first turned into the one whose
    plain cross-entropy is the generalised one, in double precision with their bounds."""
    alpha = NEGATIVES / (n_items - 1)
    beta = alpha * ((1 - 1 / alpha) * T + 1 / alpha)
    scores = scores.double()
    small, large = 1e-10, torch.finfo(torch.float64).max
    powered = torch.sigmoid(scores[:, :1]).clamp(small, 1 - small).pow(-beta).clamp(1 + small, large)
    turned = (1 / (powered - 1)).clamp(small, large).log()
    truth = torch.zeros_like(scores)
    truth[:, 0] = 1
    return F.binary_cross_entropy_with_logits(torch.cat([turned, scores[:, 1:]], dim=1), truth, reduction="none").mean(1).mean()


def checked(model: Any, inputs: Tensor, items: Tensor, padding: int) -> None:
    """The scores of a few rows' own items are those of the gathered vectors, as their script takes them.

    Raises:
        AssertionError: they are not.
    """
    with torch.no_grad():
        hidden, _ = model(inputs[:2])
        table = model.get_output_embeddings()
        gathered = torch.einsum("bse,bsne->bsn", hidden, table(items[:2]))
        valid = inputs[:2] != padding
        product = own_scores(hidden[valid], table.weight, items[:2][valid])
        torch.testing.assert_close(product, gathered[valid], rtol=1e-4, atol=1e-4)


def batches_without_end(authors: Path, folder: Path, train: Sequences, n_items: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Their loader's ``positives`` ``[B, LENGTH + 1]`` and ``negatives`` ``[B, LENGTH + 1, NEGATIVES]``, epoch after epoch."""
    (folder / "datasets/ml1m/train").mkdir(parents=True)
    (folder / "datasets/ml1m/train/input.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in train))
    (folder / "datasets/ml1m/dataset_stats.json").write_text(json.dumps({"num_items": n_items}))
    os.chdir(folder)
    loader = module_of(authors, "dataset_utils").get_train_dataloader("ml1m", ROWS, LENGTH, NEGATIVES)
    while True:
        yield from loader


def theirs(authors: Path, folder: Path, sequences: Sequences, steps: list[int], seed: int, table: float) -> Iterator[Point]:
    """Their figures after each number of ``steps``. ``table``: above 0, the scored table begins uniform within ± this, as ours does
    within ± 0.1, in place of their normal of deviation 1."""
    module: ModuleType = module_of(authors, "gsasrec")
    n_items = max(map(max, sequences))
    padding = n_items + 1
    torch.manual_seed(seed)
    model = module.GSASRec(n_items, LENGTH, 128, num_heads=1, num_blocks=2, dropout_rate=0.5)
    if table:
        torch.nn.init.uniform_(model.output_embedding.weight, -table, table)
    optimiser = torch.optim.Adam(model.parameters())
    labels, seconds = 0, 0.0
    batches = batches_without_end(authors, folder, training_part(sequences), n_items)
    for step in range(1, steps[-1] + 1):
        began = time.process_time()
        positives, negatives = next(batches)
        inputs, items = positives[:, :-1], torch.cat([positives[:, 1:, None], negatives[:, 1:]], dim=-1)
        if step == 1:
            checked(model.eval(), inputs, items, padding)
        model.train()
        valid = inputs != padding
        hidden, _ = model(inputs)
        loss = gbce(own_scores(hidden[valid], model.get_output_embeddings().weight, items[valid]), n_items)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        labels += int(valid.sum())
        seconds += time.process_time() - began
        if step in steps:
            yield {"step": step, "labels": labels, "seconds": seconds, **judged(scorer_of(model.eval(), n_items), sequences)}


def scorer_of(model: Any, n_items: int) -> Scorer:
    @torch.inference_mode()
    def scorer(users: np.ndarray, rows: Sequences) -> np.ndarray:
        padded = torch.tensor([([n_items + 1] * LENGTH + list(row))[-LENGTH:] for row in rows])
        hidden, _ = model(padded)
        return (hidden[:, -1] @ model.get_output_embeddings().weight[1 : n_items + 1].T).numpy()

    return scorer


if __name__ == "__main__":
    parser = options("gSASRec on MovieLens-1M", "github:asash/gSASRec-pytorch")
    parser.add_argument("--table", type=float, default=0.0, help="above 0: their scored table begins uniform within ± this")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sequences = read(asked.log)
    with tempfile.TemporaryDirectory() as name:
        config = load_config("gsasrec", None, [f"training.seed={asked.seed}", *asked.set])
        sides = {
            "ours": ours(Path(name), sequences, config, asked.steps),
            "theirs": theirs(asked.authors.resolve(), Path(name), sequences, asked.steps, asked.seed, asked.table),
        }
        follow("gsasrec_ml1m_table" if asked.table else "gsasrec_ml1m", asked, sequences, sides)
