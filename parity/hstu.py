"""HSTU against its authors' research code (``research/modeling/sequential/hstu.py``), with their sampled softmax.

``python parity/hstu.py --authors CHECKOUT`` with a checkout of facebookresearch/generative-recommenders. Weights are random,
dropout is off, rows are of any length. Three operators of FBGEMM that only move rows between padded and jagged layout are
written anew below, so that no build of FBGEMM is needed. Proven: ``time_bias`` ``request``, which is theirs, and ``none``,
with their module of positions alone. Half of their position bias, for keys after the query, is never read and has no
counterpart here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, load, module_of, our_model, run
from torch import Tensor
from torch.nn.functional import cross_entropy

N_ITEMS, WIDTH, LENGTH, BLOCKS, HEADS, KEYS, VALUES, NEGATIVES = 60, 16, 12, 2, 2, 5, 7, 20
LENGTHS = [1, 2, 5, 9, 11]
TEMPERATURE = 0.05
torch.set_default_dtype(torch.float64)  # so that no difference hides behind rounding


def padded(values: Tensor, offsets: list[Tensor], max_lengths: list[int], padding_value: float = 0.0) -> Tensor:
    """Rows one after the other, row b from ``offsets[0][b]``, as ``[B, max_lengths[0], ...]``."""
    rows = [values[begin:end] for begin, end in zip(offsets[0][:-1], offsets[0][1:], strict=True)]
    rest = [values.new_full((max_lengths[0] - len(row), *values.shape[1:]), padding_value) for row in rows]
    return torch.stack([torch.cat(pair) for pair in zip(rows, rest, strict=True)])


def jagged(dense: Tensor, offsets: list[Tensor], total: int | None = None) -> tuple[Tensor, list[Tensor]]:
    """The other way."""
    lengths = offsets[0].diff().tolist()
    return torch.cat([row[:n] for row, n in zip(dense, lengths, strict=True)]), offsets


def complete_cumsum(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def without_fbgemm() -> torch.library.Library:
    """Define the three operators; they last as long as what is returned."""
    library = torch.library.Library("fbgemm", "DEF")
    for schema, function in {
        "jagged_to_padded_dense(Tensor values, Tensor[] offsets, int[] max_lengths, float padding_value=0.0) -> Tensor": padded,
        "dense_to_jagged(Tensor dense, Tensor[] offsets, int? total=None) -> (Tensor, Tensor[])": jagged,
        "asynchronous_complete_cumsum(Tensor lengths) -> Tensor": complete_cumsum,
    }.items():
        library.impl(library.define(schema), function, "CompositeImplicitAutograd")
    return library


def to_ours(theirs: dict[str, Tensor], time_bias: str) -> Found:
    """Their tensors (weights, or gradients of weights) under our names."""
    ours = {
        "encoder.items.tables.0.weight": theirs["_embedding_module._item_emb.weight"],
        "encoder.positions.weight": theirs["_input_features_preproc._pos_emb.weight"],
    }
    for b in range(BLOCKS):
        their_block, block = f"_hstu._attention_layers.{b}", f"encoder.blocks.{b}"
        ours |= {
            f"{block}.inner.weight": theirs[f"{their_block}._uvqk"].T,
            f"{block}.output.weight": theirs[f"{their_block}._o.weight"],
            f"{block}.output.bias": theirs[f"{their_block}._o.bias"],
        }
        positions = "_pos_w" if time_bias == "request" else "_w"
        ours[f"{block}.position_bias"] = theirs[f"{their_block}._rel_attn_bias.{positions}"][:LENGTH].flip(0)
        if time_bias == "request":
            ours[f"{block}.time_bias"] = theirs[f"{their_block}._rel_attn_bias._ts_w"]
    return ours


def their_model(authors: Path, time_bias: str) -> torch.nn.Module:
    """Their HSTU with random weights, LENGTH places in all, two of them for what they call output."""
    at = "generative_recommenders.research"
    hstu = module_of(authors, f"{at}.modeling.sequential.hstu")
    inputs = module_of(authors, f"{at}.modeling.sequential.input_features_preprocessors")
    outputs = module_of(authors, f"{at}.modeling.sequential.output_postprocessors")
    model = hstu.HSTU(
        max_sequence_len=LENGTH - 2, max_output_len=2, embedding_dim=WIDTH, num_blocks=BLOCKS, num_heads=HEADS,
        linear_dim=VALUES, attention_dim=KEYS, normalization="rel_bias", linear_config="uvqk", linear_activation="silu",
        linear_dropout_rate=0.0, attn_dropout_rate=0.0, verbose=False,
        embedding_module=module_of(authors, f"{at}.modeling.sequential.embedding_modules").LocalEmbeddingModule(N_ITEMS, WIDTH),
        similarity_module=module_of(authors, f"{at}.rails.similarities.dot_product_similarity_fn").DotProductSimilarity(),
        input_features_preproc_module=inputs.LearnablePositionalEmbeddingInputFeaturesPreprocessor(LENGTH, WIDTH, 0.0),
        output_postproc_module=outputs.L2NormEmbeddingPostprocessor(WIDTH),
    )  # fmt: skip
    if time_bias == "none":
        for layer in model._hstu._attention_layers:
            layer._rel_attn_bias = hstu.RelativePositionalBias(LENGTH)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
        model._embedding_module._item_emb.weight[0] = 0
    return model.eval()


def their_loss(authors: Path, model: torch.nn.Module, hidden: Tensor, labels: Tensor, negatives: Tensor) -> Tensor:
    """Their sampled softmax over ``hidden`` ``[P, d]`` with these ``negatives`` ``[P, k]`` in the place of random ones."""
    at = "generative_recommenders.research.modeling.sequential"
    base = module_of(authors, f"{at}.autoregressive_losses").NegativesSampler

    class Given(base):  # type: ignore[misc, valid-type]
        def forward(self, positive_ids: Tensor, num_to_sample: int) -> tuple[Tensor, Tensor]:
            return negatives, self.normalize_embeddings(model.get_item_embeddings(negatives))

    loss = module_of(authors, f"{at}.losses.sampled_softmax").SampledSoftmaxLoss(NEGATIVES, TEMPERATURE, model)
    sampler = Given(l2_norm=True, l2_norm_eps=1e-6)
    value, _ = loss.jagged_forward(hidden, labels, model.get_item_embeddings(labels), torch.ones(len(labels)), sampler)
    return value


def compare(authors: Path, time_bias: str) -> tuple[Found, Found]:
    """Scores of all items at every place, and gradients of a sampled softmax there."""
    torch.manual_seed(1)
    theirs = their_model(authors, time_bias)
    named = dict(theirs.named_parameters())
    ours = our_model(
        {
            "name": "hstu", "width": WIDTH, "blocks": BLOCKS, "heads": HEADS, "key_width": KEYS, "value_width": VALUES,
            "length": LENGTH, "time_bias": time_bias, "temperature": TEMPERATURE,
        }, N_ITEMS,
    )  # fmt: skip
    load(ours, to_ours(named, time_bias))

    rng = np.random.default_rng(1)
    rows = [rng.integers(1, N_ITEMS + 1, n).tolist() for n in LENGTHS]
    times = torch.from_numpy(1_000_000_000 + rng.lognormal(8, 3, (len(rows), LENGTH)).astype(int).cumsum(1))
    inside, lengths = torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None], torch.tensor(LENGTHS)
    batch = batch_of(rows)
    clicked = torch.where(inside, times, 0)[:, : max(LENGTHS)]
    batch = replace(batch, short_time=clicked, time=times[batch.row, batch.position + 1])
    their_ids = torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])
    their_times = torch.where(
        torch.arange(LENGTH) <= lengths[:, None], times, 0
    )  # the question's time stands behind a row
    labels = torch.from_numpy(rng.integers(1, N_ITEMS + 1, sum(LENGTHS)))
    negatives = torch.from_numpy(rng.integers(1, N_ITEMS + 1, (sum(LENGTHS), NEGATIVES)))

    hidden = theirs(lengths, their_ids, theirs.get_item_embeddings(their_ids), {"timestamps": their_times})[inside]
    unit = theirs._output_postproc(theirs._embedding_module._item_emb.weight[1:])
    loss = their_loss(authors, theirs, hidden, labels, negatives)
    renamed = to_ours(dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True)), time_bias)

    scores = ours.score(ours(batch).query, ours.item_vectors())  # [P, items]
    negative = scores.gather(1, negatives - 1).masked_fill(negatives == labels[:, None], -5e4)
    our_loss = cross_entropy(
        torch.cat([scores.gather(1, labels[:, None] - 1), negative], dim=1), torch.zeros_like(labels)
    )
    return (
        {"scores": scores.detach(), **gradients(our_loss, ours.named_parameters())},
        {
            "scores": (hidden @ unit.T / TEMPERATURE).detach(),
            **{f"gradient of {name}": g for name, g in renamed.items()},
        },
    )


if __name__ == "__main__":
    asked = authors_argument(__doc__)
    operators = without_fbgemm()
    cases = {f"time bias {kind}": lambda kind=kind: compare(asked.authors, kind) for kind in ("request", "none")}
    run(
        "hstu", "github.com/facebookresearch/generative-recommenders", asked.commit, cases,
        replaced="FBGEMM's jagged_to_padded_dense, dense_to_jagged, asynchronous_complete_cumsum",
    )  # fmt: skip
