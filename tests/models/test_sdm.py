"""SDM's equations once more, one position at a time in plain loops, and the layers under it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tests.models.batches import SDM_SWITCHES, batch_of, model_of
from xdm.models.layers import masked_softmax


def attended(encoder, hidden):
    """Causal multi-head self-attention over ``hidden`` (a list of ``[d]``), residual and LayerNorm after."""
    layer, found = encoder.self_attention, []
    q, k, v = zip(*(layer.qkv(h).chunk(3) for h in hidden), strict=True)
    width = len(hidden[0]) // layer.heads
    for t in range(len(hidden)):
        heads = []
        for head in range(layer.heads):
            part = slice(head * width, (head + 1) * width)
            scores = torch.stack([q[t][part] @ k[s][part] / math.sqrt(width) for s in range(t + 1)])
            weights = torch.softmax(scores, dim=0)
            heads.append(sum(weights[s] * v[s][part] for s in range(t + 1)))
        found.append(layer.norm(hidden[t] + layer.out(torch.cat(heads))))
    return found


def long_term(encoder, lists, user):
    parts = []
    for f, score in enumerate(encoder.long_scores):
        codes = [code for code in lists[f].tolist() if code]
        width = encoder.items.widths[f]
        rows = [encoder.items.tables[f].weight[code] for code in codes]
        if not rows:
            parts.append(torch.zeros(width, dtype=user.dtype))
            continue
        scores = torch.cat([torch.tanh(score(torch.cat([user, g]))) / math.sqrt(width) for g in rows])
        parts.append(sum(weight * g for weight, g in zip(torch.softmax(scores, 0), rows, strict=True)))
    return torch.tanh(encoder.long_out(torch.cat(parts)))


@pytest.mark.parametrize("switches", SDM_SWITCHES.values(), ids=SDM_SWITCHES)
def test_the_equations_one_position_at_a_time(switches):
    encoder = model_of(**switches).eval().double().encoder
    batch = batch_of([1, 6, 3], [0, 4, 2], [0, 0, 0])
    with torch.no_grad():
        found = encoder.encode(batch)
        users = encoder.users(batch)
        for p in range(len(batch.row)):
            b, t = int(batch.row[p]), int(batch.position[p])
            user = users[b]
            if switches.get("name") == "sdm_actions":
                stream = slice(0, int(batch.stream_position[p]) + 1)
                x = encoder.items(batch.stream[b, stream]) + encoder.actions.weight[batch.stream_action[b, stream]]
                x = x[None]
            else:
                x = encoder.items(batch.short[b, : t + 1])[None]
            for i, layer in enumerate(encoder.recurrent.layers):
                hidden, _ = layer(x)
                x = hidden if i == 0 else x + hidden
            seen = attended(encoder, list(x[0]))
            query = torch.tanh(encoder.user_query(user))
            weights = torch.softmax(torch.stack([h @ query / math.sqrt(8) for h in seen]), dim=0)
            short = sum(weight * h for weight, h in zip(weights, seen, strict=True))
            short = short + seen[-1] if encoder.user_residual else short
            long = long_term(encoder, batch.long[b], user)
            gate = torch.sigmoid(encoder.gate(torch.cat([short, long, user])))
            torch.testing.assert_close(found[p, 0], gate * short + (1 - gate) * long)


def test_masked_softmax_sees_what_is_visible_and_gives_zeros_where_nothing_is():
    scores = torch.tensor([[1.0, 2.0, 50.0], [3.0, 4.0, 5.0]])
    visible = torch.tensor([[True, True, False], [False, False, False]])
    found = masked_softmax(scores, visible)
    torch.testing.assert_close(found[0], F.pad(torch.softmax(scores[0, :2], dim=0), (0, 1)))
    assert not found[1].any()
