"""SASRec with the authors' own block (``norm: original``) against the PyTorch code of gSASRec, which keeps that block.

``python parity/gsasrec.py --authors CHECKOUT`` with a checkout of asash/gSASRec-pytorch. Weights are random, dropout is off.
Rows are of any length: theirs are padded on the left with a token of their own that nothing attends to, and positions then
count from the end. The bias of their keys, which changes no softmax, has no counterpart here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, load, module_of, our_model, run
from torch import Tensor
from torch.nn.functional import logsigmoid

N_ITEMS, WIDTH, LENGTH, BLOCKS, NEGATIVES, T = 60, 20, 12, 2, 8, 0.75
LENGTHS = [1, 2, 5, 9, 12, 12]
torch.set_default_dtype(torch.float64)  # so that no difference hides behind rounding


def to_ours(theirs: dict[str, Tensor], tied: bool) -> Found:
    """Their tensors (weights, or gradients of weights) under our names; their rows beside those of items pad."""

    def items(table: Tensor) -> Tensor:
        return torch.cat([torch.zeros(1, WIDTH), table[1 : N_ITEMS + 1]])

    ours = {
        "encoder.items.tables.0.weight": items(theirs["item_embedding.weight"]),
        "encoder.positions.weight": theirs["position_embedding.weight"],
        "encoder.norm.weight": theirs["seq_norm.weight"], "encoder.norm.bias": theirs["seq_norm.bias"],
    }  # fmt: skip
    if not tied:
        ours["output.weight"] = items(theirs["output_embedding.weight"])
    names = {
        "first_norm": "norm_attention", "second_norm": "norm_forward", "dense1": "inner", "dense2": "outer",
        "multihead_attention.query_proj": "attention.query", "multihead_attention.key_proj": "attention.key",
        "multihead_attention.val_proj": "attention.value",
    }  # fmt: skip
    for b in range(BLOCKS):
        for their_name, name in names.items():
            for kind in ("weight",) if name == "attention.key" else ("weight", "bias"):
                ours[f"encoder.blocks.{b}.{name}.{kind}"] = theirs[f"transformer_blocks.{b}.{their_name}.{kind}"]
    return ours


def gbce(scores: Tensor, labels: Tensor, negatives: Tensor) -> Tensor:
    """gBCE of the scores ``[P, items]`` for labels ``[P]`` and negatives ``[P, k]``, item numbers from 1."""
    alpha = NEGATIVES / (N_ITEMS - 1)
    beta = alpha * (T * (1 - 1 / alpha) + 1 / alpha)
    positive = beta * logsigmoid(scores.gather(1, labels[:, None] - 1))  # [P, 1]
    return -torch.cat([positive, logsigmoid(-scores.gather(1, negatives - 1))], dim=1).mean()


def compare(authors: Path, heads: int, tied: bool) -> tuple[Found, Found]:
    """Scores of all items at every place, and gradients of gBCE there."""
    torch.manual_seed(heads)
    theirs = module_of(authors, "gsasrec").GSASRec(N_ITEMS, LENGTH, WIDTH, heads, BLOCKS, 0.0, tied).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    named = dict(theirs.named_parameters())
    ours = our_model(
        {
            "name": "sasrec", "norm": "original", "positions": "from_end", "scale_inputs": False, "norm_eps": 1e-5,
            "tie_item_embedding": tied, "width": WIDTH, "heads": heads, "blocks": BLOCKS, "length": LENGTH,
        }, N_ITEMS,
    )  # fmt: skip
    load(ours, to_ours(named, tied))

    rng = np.random.default_rng(heads)
    rows = [rng.integers(1, N_ITEMS + 1, n).tolist() for n in LENGTHS]
    padded = torch.tensor([[N_ITEMS + 1] * (LENGTH - len(row)) + row for row in rows])
    labels = torch.from_numpy(rng.integers(1, N_ITEMS + 1, sum(LENGTHS)))
    negatives = torch.from_numpy(rng.integers(1, N_ITEMS + 1, (sum(LENGTHS), NEGATIVES)))

    hidden, _ = theirs(padded)
    their_scores = hidden[padded <= N_ITEMS] @ theirs.get_output_embeddings().weight[1 : N_ITEMS + 1].T
    our_scores = ours.score(ours(batch_of(rows)).query, ours.item_vectors())
    their_gradients = torch.autograd.grad(gbce(their_scores, labels, negatives), list(named.values()))
    renamed = to_ours(dict(zip(named, their_gradients, strict=True)), tied)
    return (
        {"scores": our_scores.detach(), **gradients(gbce(our_scores, labels, negatives), ours.named_parameters())},
        {"scores": their_scores.detach(), **{f"gradient of {name}": gradient for name, gradient in renamed.items()}},
    )


if __name__ == "__main__":
    asked = authors_argument(__doc__)
    cases = {
        f"heads {heads}, {'one item table' if tied else 'two item tables'}": lambda heads=heads, tied=tied: compare(
            asked.authors, heads, tied
        )
        for heads in (1, 4)
        for tied in (True, False)
    }
    run("gsasrec", "github.com/asash/gSASRec-pytorch", asked.commit, cases)
