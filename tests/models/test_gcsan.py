"""GC-SAN: attention over the graph's nodes once more, one click at a time in plain loops. The graph itself: test_srgnn.py."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.models.batches import batch_of, model_of
from tests.models.test_srgnn import nodes_of


def affine(layer, vector):
    bias = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
    return [sum(w * x for w, x in zip(row, vector, strict=True)) + b for row, b in zip(layer.weight.tolist(), bias, strict=True)]


def block_of(block, x):
    """One block over the vectors ``x``, a list of lists."""
    queries, keys, values = ([affine(layer, one) for one in x] for layer in (block.query, block.key, block.value))
    found = []
    for query in queries:  # every click sees every click, those after it too
        scores = [sum(a * b for a, b in zip(query, key, strict=True)) / math.sqrt(len(query)) for key in keys]
        total = sum(math.exp(s) for s in scores)
        f = [sum(math.exp(s) / total * value[i] for s, value in zip(scores, values, strict=True)) for i in range(len(query))]
        inner = [max(v, 0.0) for v in affine(block.inner, f)]
        found.append([a + b for a, b in zip(affine(block.outer, inner), f, strict=True)])
    return found


@pytest.mark.parametrize("switches", [{}, {"blocks": 3}, {"weight": 0.0}, {"weight": 1.0}, {"steps": 2, "window": 4}])
@torch.no_grad()
def test_the_query_is_the_papers(switches):
    encoder = model_of(name="gcsan", **switches).eval().double().encoder
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    batch = batch_of([1, 7, 3], [0] * 3, [0] * 3)
    batch = replace(batch, short=torch.where(batch.short > 0, batch.short % 4 + 1, 0))  # items come again
    found = encoder.encode(batch)
    omega = encoder.config.weight
    for p in range(len(batch.row)):
        clicks = batch.short[batch.row[p], : batch.position[p] + 1][-encoder.config.window :]
        h = nodes_of(encoder, clicks, encoder.config.steps)
        e = h
        for block in encoder.blocks:
            e = block_of(block, e)
        wanted = [omega * a + (1 - omega) * b for a, b in zip(e[-1], h[-1], strict=True)]
        torch.testing.assert_close(found[p, 0], torch.tensor(wanted, dtype=torch.float64))


def test_each_block_has_weights_of_its_own():
    encoder = model_of(name="gcsan", blocks=2).encoder  # a public port shares one attention among all blocks
    first, second = (dict(block.named_parameters()) for block in encoder.blocks)
    assert not any(torch.equal(first[name], second[name]) for name in first)
