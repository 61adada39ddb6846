"""BERT4Rec against its authors' own code, FeiSun/BERT4Rec.

``python parity/bert4rec_original.py --authors CHECKOUT --tensorflow PYTHON``. Their code is TensorFlow 1 and runs, unchanged, under
the compatibility interface of TensorFlow 2 (2.15 was used) in a Python of its own: see `transformers_tensorflow.py`. Theirs
computes in single precision, ours in double. Weights are random, dropout is off; scores are logarithms of the softmax over
items. Segments are none (their vector, the same everywhere, is zero). The bias of their keys, which changes no softmax, has no
counterpart here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from batches import batch_of
from bert4rec import BLOCKS, INNER, LENGTH, LENGTHS, MASK, N_ITEMS, SHARE, WIDTH, their_rows
from comparing import Found, authors_argument, gradients, load, our_model, run
from sasrec_original import ask_authors
from torch.nn.functional import nll_loss

from xdm.models.bert4rec import masked_places

NORMS = {"gamma": "weight", "beta": "bias"}
DENSE = {"kernel": "weight", "bias": "bias"}


def layers() -> dict[str, tuple[str, dict[str, str], tuple[int, ...]]]:
    """Our name of each of their layers, what its tensors are called, and the shape of its kernel or gamma."""
    square = (WIDTH, WIDTH)
    found = {
        "bert/embeddings/LayerNorm": ("norm", NORMS, (WIDTH,)), "cls/predictions/transform/dense": ("head", DENSE, square),
        "cls/predictions/transform/LayerNorm": ("norm_head", NORMS, (WIDTH,)),
    }  # fmt: skip
    for b in range(BLOCKS):
        theirs, ours = f"bert/encoder/layer_{b}", f"blocks.{b}"
        for part in ("query", "key", "value"):
            found[f"{theirs}/attention/self/{part}"] = (f"{ours}.attention.{part}", DENSE, square)
        found |= {
            f"{theirs}/attention/output/dense": (f"{ours}.attention.output", DENSE, square),
            f"{theirs}/attention/output/LayerNorm": (f"{ours}.norm_attention", NORMS, (WIDTH,)),
            f"{theirs}/intermediate/dense": (f"{ours}.inner", DENSE, (WIDTH, INNER)),
            f"{theirs}/output/dense": (f"{ours}.outer", DENSE, (INNER, WIDTH)),
            f"{theirs}/output/LayerNorm": (f"{ours}.norm_forward", NORMS, (WIDTH,)),
        }
    return found


def random_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Their weights by their names."""
    shapes: dict[str, tuple[int, ...]] = {
        "bert/embeddings/word_embeddings": (N_ITEMS + 2, WIDTH), "bert/embeddings/position_embeddings": (LENGTH, WIDTH),
        "bert/embeddings/token_type_embeddings": (2, WIDTH), "cls/predictions/output_bias": (N_ITEMS + 2,),
    }  # fmt: skip
    for name, (_, parts, shape) in layers().items():
        shapes |= {f"{name}/{part}": shape if part in ("kernel", "gamma") else shape[-1:] for part in parts}
    weights = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["bert/embeddings/token_type_embeddings"][:] = 0
    return weights


def to_ours(theirs: dict[str, np.ndarray]) -> Found:
    """Their tensors (weights, or gradients of weights) under our names."""
    tensors = {name: torch.from_numpy(array.astype(np.float64)) for name, array in theirs.items()}
    table, bias = tensors["bert/embeddings/word_embeddings"], tensors["cls/predictions/output_bias"]
    zero = torch.zeros(1, WIDTH)
    ours = {
        "encoder.items.tables.0.weight": torch.cat([zero, table[1:MASK]]), "encoder.mask": table[MASK:],
        "encoder.positions.weight": tensors["bert/embeddings/position_embeddings"],
        "output_bias.weight": torch.cat([zero[:, 0], bias[1:MASK]])[:, None],
    }  # fmt: skip
    for their_name, (name, parts, _) in layers().items():
        for their_part, part in parts.items():
            tensor = tensors[f"{their_name}/{their_part}"]
            ours[f"encoder.{name}.{part}"] = tensor.T if their_part == "kernel" else tensor
    return {name: tensor for name, tensor in ours.items() if not name.endswith("key.bias")}


def compare(authors: Path, tensorflow: str, heads: int) -> tuple[Found, Found]:
    """Log-probabilities of all items at every mask, and gradients of their mean over labels."""
    rng = np.random.default_rng(heads)
    weights = random_weights(rng)
    shape = {"width": WIDTH, "heads": heads, "blocks": BLOCKS, "inner": INNER, "length": LENGTH}
    ours = our_model({"name": "bert4rec", "mask_share": SHARE, **shape}, N_ITEMS)
    load(ours, to_ours(weights))

    rows = [rng.integers(1, N_ITEMS + 1, n).tolist() for n in LENGTHS]
    batch = batch_of(rows)
    hidden = masked_places(batch.short.numpy(), np.array(LENGTHS), SHARE, N_ITEMS, np.random.default_rng(1))
    ids, masked = (tensor.numpy() for tensor in their_rows(rows, hidden))
    labels = rng.integers(0, N_ITEMS, int(masked.sum()))
    inside = np.arange(masked.sum(1).max()) < masked.sum(1)[:, None]  # [R, M]
    places = np.zeros(inside.shape, int)
    places[inside] = masked.nonzero()[1]
    found = ask_authors(tensorflow, authors, {
        "kind": "bert4rec", "items": N_ITEMS, **shape, "rows": ids, "places": places, "inside": inside, "labels": labels,
        **{f"weight:{name}": weight for name, weight in weights.items()},
    })  # fmt: skip

    more, _ = ours.encoder.extra(batch, np.random.default_rng(1))
    queries = torch.cat([ours(batch).query, ours.scoring.queries(more)])
    scores = ours.score(queries, ours.item_vectors()).log_softmax(dim=1)
    slopes = to_ours({name[9:]: array for name, array in found.items() if name.startswith("gradient:")})
    return (
        {"scores": scores.detach(), **gradients(nll_loss(scores, torch.from_numpy(labels)), ours.named_parameters())},
        {
            "scores": torch.from_numpy(found["scores"]),
            **{f"gradient of {name}": slope for name, slope in slopes.items()},
        },
    )


if __name__ == "__main__":
    asked = authors_argument(__doc__, tensorflow="a Python that has TensorFlow 2 with Keras 2")
    cases = {f"heads {heads}": lambda heads=heads: compare(asked.authors, asked.tensorflow, heads) for heads in (2, 4)}
    run(
        "bert4rec_original", "github.com/FeiSun/BERT4Rec", asked.commit, cases,
        replaced="tf.contrib.layers.layer_norm", theirs="single precision",
    )  # fmt: skip
