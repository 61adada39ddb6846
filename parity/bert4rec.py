"""BERT4Rec against Hugging Face's ``BertForMaskedLM`` in PyTorch, which the authors' replication is built on.

The authors' code is TensorFlow 1. The replication (asash/bert4rec_repro) makes a ``TFBertForMaskedLM``; this is the same model
of the same library in PyTorch. Without a head it is their ``BertModel`` and the table of items: the network of
antklen/sasrec-bert4rec-recsys23 (`bert4rec_ml1m.py`). ``python parity/bert4rec.py --authors FOLDER --commit VERSION`` with a
folder into which ``transformers`` is installed. Weights are random, dropout is off; scores and loss are over items, without
special tokens. Segments are none (their vector, the same everywhere, is zero). The bias of their keys, which changes no softmax,
has no counterpart here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, load, module_of, our_model, run
from torch import Tensor
from torch.nn.functional import cross_entropy

from xdm.models.bert4rec import masked_places

N_ITEMS, WIDTH, INNER, LENGTH, BLOCKS, SHARE = 60, 16, 40, 10, 3, 0.4
LENGTHS = [1, 2, 5, 9, 9]
MASK = N_ITEMS + 1
torch.set_default_dtype(torch.float64)  # so that no difference hides behind rounding


def to_ours(theirs: dict[str, Tensor], head: bool) -> Found:
    """Their tensors (weights, or gradients of weights) under our names."""
    table = theirs["bert.embeddings.word_embeddings.weight"]
    zero = torch.zeros(1, WIDTH)
    ours = {
        "encoder.items.tables.0.weight": torch.cat([zero, table[1:MASK]]), "encoder.mask": table[MASK:],
        "encoder.positions.weight": theirs["bert.embeddings.position_embeddings.weight"],
    }  # fmt: skip
    names = {"bert.embeddings.LayerNorm": "norm"}
    if head:
        ours["output_bias.weight"] = torch.cat([zero[:, 0], theirs["cls.predictions.bias"][1:MASK]])[:, None]
        names |= {"cls.predictions.transform.dense": "head", "cls.predictions.transform.LayerNorm": "norm_head"}
    for b in range(BLOCKS):
        their_block, block = f"bert.encoder.layer.{b}", f"blocks.{b}"
        names |= {
            f"{their_block}.attention.self.query": f"{block}.attention.query",
            f"{their_block}.attention.self.key": f"{block}.attention.key",
            f"{their_block}.attention.self.value": f"{block}.attention.value",
            f"{their_block}.attention.output.dense": f"{block}.attention.output",
            f"{their_block}.attention.output.LayerNorm": f"{block}.norm_attention",
            f"{their_block}.intermediate.dense": f"{block}.inner", f"{their_block}.output.dense": f"{block}.outer",
            f"{their_block}.output.LayerNorm": f"{block}.norm_forward",
        }  # fmt: skip
    for their_name, name in names.items():
        for kind in ("weight",) if name.endswith("key") else ("weight", "bias"):
            ours[f"encoder.{name}.{kind}"] = theirs[f"{their_name}.{kind}"]
    return ours


def their_rows(rows: list[list[int]], hidden: np.ndarray) -> tuple[Tensor, Tensor]:
    """Token ids ``[R, L]`` (0 pads), and which of them are asked for: each click's row of clicks so far and a mask, then each
    row with its ``hidden`` clicks masked."""
    tokens = [[*row[: t + 1][-(LENGTH - 1) :], MASK] for row in rows for t in range(len(row))]
    tokens += [
        [MASK if off else item for item, off in zip(row, places, strict=False)]
        for row, places in zip(rows, hidden, strict=True)
    ]
    ids = torch.tensor([row + [0] * (LENGTH - len(row)) for row in tokens])
    return ids, ids == MASK


def compare(authors: Path, heads: int, *, head: bool = True) -> tuple[Found, Found]:
    """Scores of all items at every mask, and gradients of the softmax's cross-entropy there."""
    torch.manual_seed(heads)
    config = module_of(authors, "transformers.models.bert.configuration_bert").BertConfig(
        vocab_size=N_ITEMS + 2, hidden_size=WIDTH, num_hidden_layers=BLOCKS, num_attention_heads=heads, hidden_act="gelu",
        intermediate_size=INNER, max_position_embeddings=LENGTH, type_vocab_size=2, pad_token_id=0,
    )  # fmt: skip
    theirs = module_of(authors, "transformers.models.bert.modeling_bert").BertForMaskedLM(config).double().eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
        theirs.bert.embeddings.token_type_embeddings.weight.zero_()
    named = dict(theirs.named_parameters())
    shape = {"width": WIDTH, "heads": heads, "blocks": BLOCKS, "inner": INNER, "length": LENGTH}
    ours = our_model({"name": "bert4rec", "mask_share": SHARE, "head": head, **shape}, N_ITEMS)
    load(ours, to_ours(named, head))

    rng = np.random.default_rng(heads)
    rows = [rng.integers(1, N_ITEMS + 1, n).tolist() for n in LENGTHS]
    batch = batch_of(rows)
    hidden = masked_places(batch.short.numpy(), np.array(LENGTHS), SHARE, N_ITEMS, np.random.default_rng(1))
    ids, masked = their_rows(rows, hidden)
    labels = torch.from_numpy(rng.integers(0, N_ITEMS, int(masked.sum())))

    read = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    if head:
        their_scores = theirs(**read).logits[masked][:, 1:MASK]
    else:
        their_scores = theirs.bert(**read).last_hidden_state[masked] @ theirs.bert.embeddings.word_embeddings.weight[1:MASK].T
    more, _ = ours.encoder.extra(batch, np.random.default_rng(1))
    queries = torch.cat([ours(batch).query, ours.scoring.queries(more)])
    our_scores = ours.score(queries, ours.item_vectors())
    their_gradients = torch.autograd.grad(cross_entropy(their_scores, labels), list(named.values()), allow_unused=True)
    renamed = to_ours({name: g for (name, _), g in zip(named.items(), their_gradients, strict=True) if g is not None}, head)
    return (
        {"scores": our_scores.detach(), **gradients(cross_entropy(our_scores, labels), ours.named_parameters())},
        {"scores": their_scores.detach(), **{f"gradient of {name}": gradient for name, gradient in renamed.items()}},
    )


if __name__ == "__main__":
    asked = authors_argument(__doc__)
    cases = {f"heads {heads}": lambda heads=heads: compare(asked.authors, heads) for heads in (2, 4)}
    cases["heads 2, without a head"] = lambda: compare(asked.authors, 2, head=False)
    run(
        "bert4rec", "github.com/huggingface/transformers", asked.commit, cases,
        stands_for="TFBertForMaskedLM in github.com/asash/bert4rec_repro at 76f15e738780fc0b2f9a70d037fe0c23a0324b72",
    )  # fmt: skip
