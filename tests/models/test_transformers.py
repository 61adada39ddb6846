"""SASRec, LiGR, HSTU and BERT4Rec against the same equations in plain NumPy, one place and one head at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import BARE, N_ITEMS, batch_of
from xdm.models.bert4rec import BERT4Rec, BERT4RecConfig, masked_places
from xdm.models.hstu import HSTU, HSTUConfig
from xdm.models.ligr import LiGR, LiGRConfig
from xdm.models.sasrec import SASRec, SASRecConfig
from xdm.models.shared.layers import Dropout

LENGTHS = [1, 6, 3, 5]
ONE_A_ROW = [0, 4, 9, 11]  # of their points
IDS = np.arange(N_ITEMS + 1)[None]


def made(encoder, config):
    """An encoder whose every weight is random, and its weights by name as float64."""
    torch.manual_seed(3)
    model = encoder(config, BARE, IDS).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
        model.items.tables[0].weight[0] = 0
    return model, {name: weight.detach().double().numpy() for name, weight in model.named_parameters()}


def batch():
    return batch_of(LENGTHS, [0] * len(LENGTHS), [0] * len(LENGTHS), BARE)


def queries(model, points):
    with torch.no_grad():
        return model.encode(points)[:, 0].double().numpy()


def dense(w, name, x):
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def layer_norm(x, eps, w=None, name=""):
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return normed if w is None else normed * w[f"{name}.weight"] + w[f"{name}.bias"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu(x):
    return np.vectorize(lambda value: value * 0.5 * (1 + math.erf(value / math.sqrt(2))))(x)


def attention(w, name, asking, seen, heads, causal=True):
    """Softmax attention of the rows ``asking`` ``[T, d]`` over the rows ``seen`` ``[T, d]``."""
    q, k, v = dense(w, f"{name}.query", asking), dense(w, f"{name}.key", seen), dense(w, f"{name}.value", seen)
    size = q.shape[1] // heads
    mixed = np.zeros_like(q)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for t in range(len(q)):
            scores = [q[t, part] @ k[j, part] / math.sqrt(size) for j in range(t + 1 if causal else len(k))]
            weights = np.exp(scores) / np.exp(scores).sum()
            mixed[t, part] = sum(weight * v[j, part] for j, weight in enumerate(weights))
    return dense(w, f"{name}.output", mixed) if f"{name}.output.weight" in w else mixed


def places(w, length, from_end):
    table = w["positions.weight"]
    return table[len(table) - length :] if from_end else table[:length]


def sasrec(w, items, config):
    x = w["items.tables.0.weight"][items] * (math.sqrt(config.width) if config.scale_inputs else 1)
    x = x + places(w, len(items), config.positions == "from_end")
    for b in range(config.blocks):
        at = f"blocks.{b}"

        def forward(y, at=at):
            return dense(w, f"{at}.outer", np.maximum(dense(w, f"{at}.inner", y), 0))

        def norm(y, name, at=at):
            return layer_norm(y, config.norm_eps, w, f"{at}.norm_{name}")

        if config.norm == "post":
            y = norm(x + attention(w, f"{at}.attention", x, x, config.heads), "attention")
            x = norm(y + forward(y), "forward")
        elif config.norm == "pre":
            seen = norm(x, "attention")
            y = x + attention(w, f"{at}.attention", seen, seen, config.heads)
            x = y + forward(norm(y, "forward"))
        else:
            asking = norm(x, "attention")
            y = norm(asking + attention(w, f"{at}.attention", asking, x, config.heads), "forward")
            x = y + forward(y)
    return layer_norm(x, config.norm_eps, w, "norm")


@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "pre"}, {"norm": "post"}, {"norm": "original"}, {"norm": "post", "attention_output": True},
        {"norm": "original", "positions": "from_end", "scale_inputs": False, "norm_eps": 1e-2},
    ],
)  # fmt: skip
def test_sasrec(settings):
    config = SASRecConfig(width=8, heads=2, length=7, **settings)
    model, w = made(SASRec, config)
    asked = batch()
    wanted = np.concatenate([sasrec(w, row[:n], config) for row, n in zip(asked.short.numpy(), LENGTHS, strict=True)])
    np.testing.assert_allclose(queries(model, asked), wanted, atol=1e-5)
    np.testing.assert_allclose(queries(model, asked.at(ONE_A_ROW)), wanted[ONE_A_ROW], atol=1e-5)
    np.testing.assert_allclose(queries(model, asked.at(ONE_A_ROW[::-1])), wanted[ONE_A_ROW[::-1]], atol=1e-5)


def ligr(w, items, config):
    x = w["items.tables.0.weight"][items] + places(w, len(items), config.positions == "from_end")
    for b in range(config.blocks):
        at = f"blocks.{b}"
        seen = layer_norm(x, 1e-5, w, f"{at}.norm_attention")
        x = x + sigmoid(dense(w, f"{at}.gate_attention", x)) * attention(w, f"{at}.attention", seen, seen, config.heads)
        seen = layer_norm(x, 1e-5, w, f"{at}.norm_forward")
        switch = dense(w, f"{at}.switch", seen)
        hidden = switch * sigmoid(switch) * dense(w, f"{at}.inner", seen)
        x = x + sigmoid(dense(w, f"{at}.gate_forward", x)) * dense(w, f"{at}.outer", hidden)
    return x


@pytest.mark.parametrize("positions", ["from_start", "from_end"])
def test_ligr(positions):
    config = LiGRConfig(width=8, heads=2, length=7, inner=3, positions=positions)
    model, w = made(LiGR, config)
    asked = batch()
    wanted = np.concatenate([ligr(w, row[:n], config) for row, n in zip(asked.short.numpy(), LENGTHS, strict=True)])
    np.testing.assert_allclose(queries(model, asked), wanted, atol=1e-5)
    np.testing.assert_allclose(queries(model, asked.at(ONE_A_ROW)), wanted[ONE_A_ROW], atol=1e-5)
    np.testing.assert_allclose(queries(model, asked.at(ONE_A_ROW[::-1])), wanted[ONE_A_ROW[::-1]], atol=1e-5)


def hstu(w, items, times, asked_at, config):
    """``asked_at``: the time of the question behind each place."""
    x = w["items.tables.0.weight"][items] * math.sqrt(config.width) + w["positions.weight"][: len(items)]
    keys, values = config.key_width, config.value_width
    for b in range(config.blocks):
        at = f"blocks.{b}"
        inner = dense(w, f"{at}.inner", layer_norm(x, 1e-6))
        inner = inner * sigmoid(inner)
        sizes = np.cumsum([config.heads * values] * 2 + [config.heads * keys])
        u, v, q, k = np.split(inner, sizes, axis=1)
        mixed = np.zeros_like(v)
        for head in range(config.heads):
            of_keys, of_values = slice(head * keys, (head + 1) * keys), slice(head * values, (head + 1) * values)
            for t in range(len(x)):
                for j in range(t + 1):
                    score = q[t, of_keys] @ k[j, of_keys] + w[f"{at}.position_bias"][t - j]
                    if config.time_bias != "none":
                        then = times[t] if config.time_bias == "causal" else asked_at[t]
                        bucket = min(128, math.floor(math.log(max(1, abs(int(then) - int(times[j])))) / 0.301))
                        score = score + w[f"{at}.time_bias"][bucket]
                    mixed[t, of_values] += score * sigmoid(score) / config.length * v[j, of_values]
        x = x + dense(w, f"{at}.output", u * layer_norm(mixed, 1e-6))
    return x


@pytest.mark.parametrize("time_bias", ["causal", "request", "none"])
def test_hstu(time_bias):
    config = HSTUConfig(width=8, heads=2, key_width=3, value_width=5, length=7, time_bias=time_bias)
    model, w = made(HSTU, config)
    asked = batch()
    wanted = [
        hstu(w, items[:n], times[:n], asked.time[asked.row == b].numpy(), config)
        for b, (items, times, n) in enumerate(zip(asked.short.numpy(), asked.short_time.numpy(), LENGTHS, strict=True))
    ]
    np.testing.assert_allclose(queries(model, asked), np.concatenate(wanted), atol=1e-4)


def test_hstu_reads_no_later_time_than_it_is_told_to():
    asked = batch()
    later = replace(asked, short_time=torch.where(torch.arange(6) >= 2, asked.short_time + 5000, asked.short_time))
    early = (asked.position < 2).numpy()
    for time_bias in ("causal", "request"):
        model, _ = made(HSTU, HSTUConfig(width=8, length=7, time_bias=time_bias))
        before, after = queries(model, asked), queries(model, later)
        np.testing.assert_array_equal(before[early], after[early])
        assert np.abs(before - after)[~early].max() > 1e-4
        asked_later = queries(model, replace(asked, time=asked.time + 5000))
        assert np.array_equal(before, asked_later) == (time_bias == "causal")


def bert4rec(w, inputs, config):
    """What stands at every place of the input vectors ``inputs`` ``[L, d]``, and the head's answer there."""
    x = layer_norm(inputs + w["positions.weight"][: len(inputs)], 1e-12, w, "norm")
    for b in range(config.blocks):
        at = f"blocks.{b}"
        y = x + attention(w, f"{at}.attention", x, x, config.heads, causal=False)
        x = layer_norm(y, 1e-12, w, f"{at}.norm_attention")
        y = x + dense(w, f"{at}.outer", gelu(dense(w, f"{at}.inner", x)))
        x = layer_norm(y, 1e-12, w, f"{at}.norm_forward")
    return layer_norm(gelu(dense(w, "head", x)), 1e-12, w, "norm_head") if config.head else x


@pytest.mark.parametrize("head", [True, False])
def test_bert4rec_asks_with_a_mask_behind_the_clicks(head):
    config = BERT4RecConfig(width=8, inner=12, length=5, head=head)  # the longest rows keep their latest four clicks
    model, w = made(BERT4Rec, config)
    assert model.scoring.bias == head
    assert ("head.weight" in w) == head
    asked = batch()
    wanted = []
    for items, n in zip(asked.short.numpy(), LENGTHS, strict=True):
        for t in range(n):
            seen = items[: t + 1][-4:]
            inputs = np.concatenate([w["items.tables.0.weight"][seen], w["mask"]])
            wanted.append(bert4rec(w, inputs, config)[-1])
    np.testing.assert_allclose(queries(model, asked), np.stack(wanted), atol=1e-5)


def test_bert4rec_asks_for_masked_clicks_in_training():
    config = BERT4RecConfig(width=8, inner=12, length=7, mask_share=0.5)
    model, w = made(BERT4Rec, config)
    asked = batch()
    with torch.no_grad():
        found, labels = model.extra(asked, np.random.default_rng(5))
    hidden = masked_places(asked.short.numpy(), np.array(LENGTHS), 0.5, BARE.n_candidates, np.random.default_rng(5))
    wanted, clicks = [], []
    for items, n, masked in zip(asked.short.numpy(), LENGTHS, hidden, strict=True):
        inputs = np.where(masked[:n, None], w["mask"], w["items.tables.0.weight"][items[:n]])
        wanted.append(bert4rec(w, inputs, config)[masked[:n]])
        clicks += list(items[:n][masked[:n]])
    np.testing.assert_allclose(found[:, 0].double().numpy(), np.concatenate(wanted), atol=1e-5)
    assert labels.tolist() == clicks


@pytest.mark.parametrize(("share", "rows"), [(0.1, 1), (0.5, 2), (0.6, 2), (1.0, 4)])
def test_bert4rec_asks_a_share_of_the_rows_for_what_follows(share, rows):
    model, _ = made(BERT4Rec, BERT4RecConfig(width=8, last_share=share))
    points = batch()
    last = np.cumsum(LENGTHS) - 1  # the points of a row lie together
    asked = np.zeros(len(points.row), int)
    for seed in range(200):
        chosen = model.trained(points, np.random.default_rng(seed)).numpy()
        assert chosen.sum() == rows
        asked += chosen
    assert np.flatnonzero(asked).tolist() == last.tolist()  # every row in its turn, at its last point alone
    assert asked[last].min() > 200 * rows / len(LENGTHS) * 0.6


def test_bert4rec_asks_no_row_of_which_no_point_is_trained():
    model, _ = made(BERT4Rec, BERT4RecConfig(width=8, last_share=1))
    points = batch().at(batch().row != 1)
    assert points.row[model.trained(points, np.random.default_rng(0))].tolist() == [0, 2, 3]


def test_bert4rec_without_masked_copies_asks_for_nothing_more():
    model, _ = made(BERT4Rec, BERT4RecConfig(width=8, mask_share=0))
    assert model.extra(batch(), np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("encoder", "config"),
    [(SASRec, SASRecConfig), (LiGR, LiGRConfig), (HSTU, HSTUConfig), (BERT4Rec, BERT4RecConfig)],
    ids=["sasrec", "ligr", "hstu", "bert4rec"],
)
def test_in_training_nothing_differs_but_what_is_dropped(encoder, config):
    rare = {"dropout": 1e-5, **({"attention_dropout": 1e-5} if encoder is BERT4Rec else {})}
    model, _ = made(encoder, config(width=8, **rare))
    asked = queries(model, batch())
    torch.manual_seed(0)  # of some thousand elements none is dropped
    np.testing.assert_allclose(queries(model.train(), batch()), asked, atol=2e-3)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8])
def test_dropout_drops_its_share_anywhere_and_keeps_the_mean(share):
    dropout, x = Dropout(share), torch.ones(999, 1001, requires_grad=True)
    assert torch.equal(dropout.eval()(x), x)
    torch.manual_seed(0)
    dropped = dropout.train()(x)
    assert float((dropped == 0).float().mean()) == pytest.approx(share, abs=0.002)
    torch.testing.assert_close(
        dropped.unique(), torch.tensor([0, 1 / (1 - share)])[0 if share else 1 :], rtol=1e-4, atol=0
    )
    # of the four elements of a draw none follows another, and neither do rows or columns
    kept = (dropped > 0).float()
    for lag in (1, 2, 3, 4):
        both = (kept.flatten()[lag:] * kept.flatten()[:-lag]).mean()
        assert float(both) == pytest.approx((1 - share) ** 2, abs=0.003)
    for lane in range(4):
        assert float(kept.flatten()[lane::4].mean()) == pytest.approx(1 - share, abs=0.003)
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())
    torch.manual_seed(0)
    assert torch.equal(dropout(x), dropped)


def test_masks_are_a_share_of_each_row_anywhere_in_it():
    lengths = np.array([1, 2, 10, 40])
    items = np.where(np.arange(40) < lengths[:, None], 3, 0)
    counts = np.zeros(items.shape, int)
    for seed in range(300):
        chosen = masked_places(items, lengths, 0.2, 25, np.random.default_rng(seed))
        assert chosen.sum(axis=1).tolist() == [1, 1, 2, 8]
        counts += chosen
    assert not counts[items == 0].any()
    assert counts[3].min() > 30  # 60 expected of each place
    assert counts[3].max() < 90


def test_what_cannot_be_recommended_is_never_a_masked_label():
    items, lengths = np.array([[26, 4, 30], [30, 0, 0]]), np.array([3, 1])
    chosen = masked_places(items, lengths, 1.0, 25, np.random.default_rng(0))
    assert chosen.tolist() == [[False, True, False], [False, False, False]]
