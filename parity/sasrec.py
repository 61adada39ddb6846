"""SASRec against pmixer's PyTorch port of the authors' TensorFlow code: its post-norm and pre-norm blocks, one and two heads.

``python parity/sasrec.py --authors CHECKOUT`` with a checkout of pmixer/SASRec.pytorch. Weights are random, dropout is off.
Their rows are given without padding: with it, theirs attend to the padding on their left, and ours do not.
The bias of their keys, which changes no softmax, has no counterpart here. ``norm: original``: gsasrec.py.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, load, module_of, our_model, run
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

N_ITEMS, WIDTH, LENGTH, BLOCKS = 60, 20, 12, 2
torch.set_default_dtype(torch.float64)  # so that no difference hides behind rounding


def to_ours(theirs: dict[str, Tensor]) -> Found:
    """Their tensors (weights, or gradients of weights) under our names."""
    ours = {
        "encoder.items.tables.0.weight": theirs["item_emb.weight"],
        "encoder.positions.weight": theirs["pos_emb.weight"][1:],
        "encoder.norm.weight": theirs["last_layernorm.weight"], "encoder.norm.bias": theirs["last_layernorm.bias"],
    }  # fmt: skip
    for b in range(BLOCKS):
        at = f"encoder.blocks.{b}"
        weight, bias = (theirs[f"attention_layers.{b}.in_proj_{kind}"].chunk(3) for kind in ("weight", "bias"))
        ours |= {f"{at}.attention.{name}.weight": weight[i] for i, name in enumerate(("query", "key", "value"))}
        ours |= {f"{at}.attention.query.bias": bias[0], f"{at}.attention.value.bias": bias[2]}
        for kind in ("weight", "bias"):
            ours |= {
                f"{at}.attention.output.{kind}": theirs[f"attention_layers.{b}.out_proj.{kind}"],
                f"{at}.norm_attention.{kind}": theirs[f"attention_layernorms.{b}.{kind}"],
                f"{at}.norm_forward.{kind}": theirs[f"forward_layernorms.{b}.{kind}"],
                f"{at}.inner.{kind}": theirs[f"forward_layers.{b}.conv1.{kind}"].flatten(1 if kind == "weight" else 0),
                f"{at}.outer.{kind}": theirs[f"forward_layers.{b}.conv2.{kind}"].flatten(1 if kind == "weight" else 0),
            }
    return ours


def compare(authors: Path, norm: str, heads: int) -> tuple[Found, Found]:
    """Scores of all items at every place, and gradients of the loss of one positive and one negative at every place."""
    torch.manual_seed(heads)
    settings = Namespace(
        device="cpu", norm_first=norm == "pre", hidden_units=WIDTH, maxlen=LENGTH, num_blocks=BLOCKS, num_heads=heads,
        dropout_rate=0.0,
    )  # fmt: skip
    theirs = module_of(authors / "python", "model").SASRec(1, N_ITEMS, settings).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
        theirs.item_emb.weight[0], theirs.pos_emb.weight[0] = 0, 0
    named = dict(theirs.named_parameters())
    shape = {"width": WIDTH, "heads": heads, "blocks": BLOCKS, "length": LENGTH}
    ours = our_model({"name": "sasrec", "norm": norm, "attention_output": True, **shape}, N_ITEMS)
    load(ours, to_ours(named))

    rows, positives, negatives = np.random.default_rng(heads).integers(1, N_ITEMS + 1, (3, 16, LENGTH))
    ones, zeros = torch.ones(rows.size), torch.zeros(rows.size)
    positive, negative = theirs(None, rows, positives, negatives)
    their_loss = bce(positive.flatten(), ones) + bce(negative.flatten(), zeros)
    their_scores = theirs.log2feats(rows).flatten(0, 1) @ theirs.item_emb.weight[1:].T

    our_scores = ours.score(ours(batch_of(rows.tolist())).query, ours.item_vectors())  # [P, items]
    points = torch.arange(rows.size)
    chosen = [our_scores[points, torch.from_numpy(items.flatten() - 1)] for items in (positives, negatives)]
    our_loss = bce(chosen[0], ones) + bce(chosen[1], zeros)
    their_gradients = dict(zip(named, torch.autograd.grad(their_loss, list(named.values())), strict=True))
    return (
        {"scores": our_scores.detach(), **gradients(our_loss, ours.named_parameters())},
        {"scores": their_scores.detach(), **{f"gradient of {name}": g for name, g in to_ours(their_gradients).items()}},
    )


if __name__ == "__main__":
    asked = authors_argument(__doc__)
    cases = {
        f"{norm}-norm, heads {heads}": lambda norm=norm, heads=heads: compare(asked.authors, norm, heads)
        for norm in ("post", "pre")
        for heads in (1, 2)
    }
    run("sasrec", "github.com/pmixer/SASRec.pytorch", asked.commit, cases)
