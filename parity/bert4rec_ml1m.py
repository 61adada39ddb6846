"""BERT4Rec on MovieLens-1M: ours and a published PyTorch code after as many steps of 128 rows.

``python parity/bert4rec_ml1m.py --log interactions.parquet --authors CHECKOUT/src --transformers FOLDER --steps 48,96,192,384`` with
a checkout of antklen/sasrec-bert4rec-recsys23 ("Turning Dross Into Gold Loss", RecSys 2023), whose BERT4Rec reached HR@10 .2843 and
NDCG@10 .1537 after 197 epochs of 48 steps, and a folder into which Hugging Face's ``transformers`` is installed. Their network,
rows, masks and settings; the loop around them is written anew, and asks for scores at masks alone: their loss ignores the others.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparing import module_of
from last_click import Point, Scorer, follow, judged, options, ours, read, training_part
from side_by_side import Sequences
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from xdm.training.config import load_config

LENGTH, ROWS, RATE, IGNORED = 200, 128, 1e-3, -100
MASK, FIRST = 1, 2  # their tokens: 0 pads, 1 masks, items begin at 2
NETWORK = {
    "vocab_size": 2, "max_position_embeddings": LENGTH, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 256,
}  # fmt: skip
AS_THEIRS = (
    "model.dropout=0.1", "model.attention_dropout=0.1", f"training.learning_rate={RATE}", f"training.batch_size={ROWS}",
    "model.last_share=0.2", "training.length_groups=4",  # the last click asked as often as any; batches drawn at random
)  # fmt: skip


def loader_of(authors: Path, train: Sequences) -> Any:
    """Their rows of each user's last ``LENGTH`` clicks, a fifth of them masked anew each time, shuffled."""
    datasets = module_of(authors, "datasets")
    rows = datasets.MaskedLMDataset.__new__(datasets.MaskedLMDataset)  # their constructor makes `data` of a pandas frame
    rows.data = {user: [item + FIRST - 1 for item in row] for user, row in enumerate(train)}
    rows.user_ids, rows.max_length, rows.num_negatives = list(rows.data), LENGTH, None
    rows.mlm_probability, rows.masking_value, rows.ignore_value, rows.force_last_item_masking_prob = 0.2, MASK, IGNORED, 0
    return DataLoader(rows, batch_size=ROWS, shuffle=True, collate_fn=datasets.PaddingCollateFn())


def theirs(authors: Path, sequences: Sequences, steps: list[int], seed: int) -> Iterator[Point]:
    """Their figures after each number of ``steps``."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 their masks are drawn from it
    n_items = max(map(max, sequences))
    model = module_of(authors, "models").BERT4Rec(vocab_size=n_items + FIRST, bert_config=NETWORK)
    model.add_head = False  # its table, that of the inputs, is applied below
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    loader = loader_of(authors, training_part(sequences))
    step, labels, seconds = 0, 0, 0.0
    while step < steps[-1]:
        for batch in loader:
            began = time.process_time()
            asked = batch["labels"] != IGNORED
            hidden = model.train()(batch["input_ids"], batch["attention_mask"])[asked]
            cross_entropy(model.head(hidden), batch["labels"][asked]).backward()
            optimiser.step()
            optimiser.zero_grad()
            step, labels, seconds = step + 1, labels + int(asked.sum()), seconds + time.process_time() - began
            if step in steps:
                figures = judged(scorer_of(model.eval(), n_items), sequences)
                yield {"step": step, "labels": labels, "seconds": seconds, **figures}


def scorer_of(model: Any, n_items: int) -> Scorer:
    """From the mask behind each user's last ``LENGTH - 1`` clicks."""

    @torch.inference_mode()
    def scorer(users: np.ndarray, rows: Sequences) -> np.ndarray:
        tokens = [[*(item + FIRST - 1 for item in row[-(LENGTH - 1) :]), MASK] for row in rows]
        lengths = torch.tensor([len(row) for row in tokens])
        ids = torch.tensor([row + [0] * (int(lengths.max()) - len(row)) for row in tokens])
        hidden = model(ids, (ids != 0).float())
        return model.head(hidden[torch.arange(len(ids)), lengths - 1])[:, FIRST : FIRST + n_items].numpy()

    return scorer


if __name__ == "__main__":
    parser = options("BERT4Rec on MovieLens-1M", "github:antklen/sasrec-bert4rec-recsys23")
    parser.add_argument("--transformers", required=True, help="a folder into which it is installed")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.append(asked.transformers)
    sequences = read(asked.log)
    config = load_config("bert4rec", None, [*AS_THEIRS, f"training.seed={asked.seed}", *asked.set])
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            "ours": ours(Path(folder), sequences, config, asked.steps, latest=LENGTH),
            "theirs": theirs(asked.authors, sequences, asked.steps, asked.seed),
        }
        follow("bert4rec_ml1m", asked, sequences, sides)
