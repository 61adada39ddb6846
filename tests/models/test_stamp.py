"""STAMP: its equations once more, one click at a time in plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from tests.models.batches import SIZES, batch_of, model_of


def cut(vector, most):
    norm = math.sqrt(sum(x * x for x in vector))
    return [x * most / norm for x in vector] if most and norm > most else vector


def affine(layer, vector):
    bias = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
    return [sum(w * x for w, x in zip(row, vector, strict=True)) + b for row, b in zip(layer.weight.tolist(), bias, strict=True)]


def query_of(encoder, items):
    """``h_s ⊙ h_t`` of the clicks ``items`` (a tensor), as the paper's section 3.3 has it, with the code's m_s where it is added."""
    config = encoder.config
    x = [cut(encoder.project(encoder.items(item)).tolist(), config.max_norm) for item in items]
    m_s = [sum(column) / len(x) for column in zip(*x, strict=True)]
    m_a = m_s
    if config.memory == "attention":
        m_a = list(m_s) if config.add_mean else [0.0] * len(m_s)
        of_last, of_mean = affine(encoder.from_last, x[-1]), affine(encoder.from_mean, m_s)
        for click in x:  # the last one too
            sums = zip(affine(encoder.from_click, click), of_last, of_mean, strict=True)
            inner = [1 / (1 + math.exp(-(a + b + c))) for a, b, c in sums]
            weight = sum(w * s for w, s in zip(encoder.weigh.tolist(), inner, strict=True))  # no softmax
            m_a = [m + weight * v for m, v in zip(m_a, click, strict=True)]
    h_s, h_t = affine(encoder.of_session, m_a), affine(encoder.of_last, x[-1])
    return [math.tanh(a) * math.tanh(b) for a, b in zip(h_s, h_t, strict=True)]


@pytest.mark.parametrize(
    "switches",
    [{}, {"memory": "mean"}, {"add_mean": False}, {"bias": True}, {"max_norm": 0}, {"max_norm": 1.5}, {"feature_width": 3}],
)
@torch.no_grad()
def test_the_query_is_the_papers(switches):
    encoder = model_of(name="stamp", **switches).eval().double().encoder
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    batch = batch_of([1, 7, 3], [0] * 3, [0] * 3)
    found = encoder.encode(batch)
    for p in range(len(batch.row)):
        wanted = query_of(encoder, batch.short[batch.row[p], : batch.position[p] + 1])
        torch.testing.assert_close(found[p, 0], torch.tensor(wanted, dtype=torch.float64))


@torch.no_grad()
def test_the_score_is_the_trilinear_product_with_the_uncut_vector():
    model = model_of(name="stamp", max_norm=0.5).eval()
    table = model.encoder.items.tables[0].weight
    table.normal_()
    table[0] = 0
    batch = batch_of([3], [0], [0])
    query, scores = model.encoder.encode(batch)[:, 0], model.score(model(batch).query, model.item_vectors())
    assert (table[1:].norm(dim=1) > 0.5).all()
    for item in range(1, SIZES.n_candidates + 1):
        wanted = sum(float(q) * float(v) for q, v in zip(query[-1], table[item], strict=True))
        assert float(scores[-1, item - 1]) == pytest.approx(wanted, abs=1e-5)


def test_first_weights_are_the_authors():
    encoder = model_of(name="stamp", width=100, deviation=0.002).encoder
    assert float(encoder.items.tables[0].weight[1:].detach().std()) == pytest.approx(0.002, rel=0.1)
    for weight in (encoder.of_session.weight, encoder.of_last.weight, encoder.from_click.weight, encoder.from_mean.weight):
        assert float(weight.detach().std()) == pytest.approx(0.05, rel=0.1)
