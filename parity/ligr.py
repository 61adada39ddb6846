"""LiGR blocks against RecTools, which eSASRec's authors wrote and ran.

``python parity/ligr.py --authors CHECKOUT`` with a checkout of MobileTeleSystems/RecTools. Weights are random, dropout is off.
What is run of theirs: the layers (``ligr.py``) and the positions (``net_blocks.py``), without the packages around them, which
import half a dozen libraries. Rows are of any length, theirs padded on the left and hidden there, as in eSASRec's runs. The
bias of their keys, which changes no softmax, has no counterpart here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, load, module_of, our_model, run
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

N_ITEMS, WIDTH, LENGTH, BLOCKS, INNER = 60, 16, 12, 3, 4
LENGTHS = [1, 2, 5, 9, 12]
torch.set_default_dtype(torch.float64)  # so that no difference hides behind rounding


def bare_packages(authors: Path) -> None:
    """Stand-ins for the packages on the way to their transformers, so that none of them is imported."""
    for depth in range(1, 5):
        parts = ["rectools", "models", "nn", "transformers"][:depth]
        package = ModuleType(".".join(parts))
        package.__path__ = [str(authors.joinpath(*parts))]
        sys.modules[package.__name__] = package


class Theirs(nn.Module):
    """Their item table, positions and layers, joined as their ``TransformerTorchBackbone`` joins them."""

    def __init__(self, authors: Path, heads: int) -> None:
        super().__init__()
        at = "rectools.models.nn.transformers"
        self.heads = heads
        self.items = nn.Embedding(N_ITEMS + 1, WIDTH, padding_idx=0)
        self.positions = module_of(authors, f"{at}.net_blocks").LearnableInversePositionalEncoding(True, LENGTH, WIDTH)
        self.layers = module_of(authors, f"{at}.ligr").LiGRLayers(BLOCKS, WIDTH, heads, 0.0, INNER)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.positions(self.items(ids))
        hidden = torch.ones(LENGTH, LENGTH).triu(1).bool() | (ids == 0)[:, None]  # [B, L, L]
        hidden = hidden & ~torch.eye(LENGTH).bool()  # their own way round rows of padding alone
        mask = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf).repeat_interleave(self.heads, dim=0)
        return self.layers(x, (ids > 0)[..., None], mask, None)


def to_ours(theirs: dict[str, Tensor]) -> Found:
    """Their tensors (weights, or gradients of weights) under our names."""
    ours = {
        "encoder.items.tables.0.weight": theirs["items.weight"],
        "encoder.positions.weight": theirs["positions.pos_emb.weight"].flip(0),  # theirs count from the newest click
    }
    for b in range(BLOCKS):
        their_block, block = f"layers.transformer_blocks.{b}", f"encoder.blocks.{b}"
        weight, bias = (theirs[f"{their_block}.multi_head_attn.in_proj_{kind}"].chunk(3) for kind in ("weight", "bias"))
        ours |= {f"{block}.attention.{name}.weight": weight[i] for i, name in enumerate(("query", "key", "value"))}
        ours |= {f"{block}.attention.query.bias": bias[0], f"{block}.attention.value.bias": bias[2]}
        names = {
            "multi_head_attn.out_proj": "attention.output", "layer_norm_1": "norm_attention", "layer_norm_2": "norm_forward",
            "gating_linear_1": "gate_attention", "gating_linear_2": "gate_forward", "feed_forward.ff_linear_1": "switch",
            "feed_forward.ff_linear_2": "outer", "feed_forward.ff_linear_3": "inner",
        }  # fmt: skip
        for their_name, name in names.items():
            for kind in ("weight",) if "ff_linear" in their_name else ("weight", "bias"):
                ours[f"{block}.{name}.{kind}"] = theirs[f"{their_block}.{their_name}.{kind}"]
    return ours


def compare(authors: Path, heads: int) -> tuple[Found, Found]:
    """Scores of all items at every place, and gradients of the softmax's cross-entropy there."""
    torch.manual_seed(heads)
    theirs = Theirs(authors, heads).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
        theirs.items.weight[0] = 0
    named = dict(theirs.named_parameters())
    shape = {"width": WIDTH, "heads": heads, "blocks": BLOCKS, "inner": INNER, "length": LENGTH}
    ours = our_model({"name": "ligr", "positions": "from_end", **shape}, N_ITEMS)
    load(ours, to_ours(named))

    rng = np.random.default_rng(heads)
    rows = [rng.integers(1, N_ITEMS + 1, n).tolist() for n in LENGTHS]
    ids = torch.tensor([[0] * (LENGTH - len(row)) + row for row in rows])
    labels = torch.from_numpy(rng.integers(0, N_ITEMS, sum(LENGTHS)))
    their_scores = theirs(ids)[ids > 0] @ theirs.items.weight[1:].T
    our_scores = ours.score(ours(batch_of(rows)).query, ours.item_vectors())
    their_gradients = torch.autograd.grad(cross_entropy(their_scores, labels), list(named.values()))
    renamed = to_ours(dict(zip(named, their_gradients, strict=True)))
    return (
        {"scores": our_scores.detach(), **gradients(cross_entropy(our_scores, labels), ours.named_parameters())},
        {"scores": their_scores.detach(), **{f"gradient of {name}": gradient for name, gradient in renamed.items()}},
    )


if __name__ == "__main__":
    asked = authors_argument(__doc__)
    bare_packages(asked.authors)
    cases = {f"heads {heads}": lambda heads=heads: compare(asked.authors, heads) for heads in (1, 4)}
    run("ligr", "github.com/MobileTeleSystems/RecTools", asked.commit, cases)
