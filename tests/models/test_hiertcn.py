"""HierTCN: both levels once more, one session and one click at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from tests.models.batches import batch_of, model_of
from xdm.models.hiertcn import HierTCNConfig


def gru(level, x, state):
    """One step of a GRU whose reset gate acts before the recurrent matrix."""
    d = level.width
    of_x, of_h = level.input @ x + level.bias, level.recurrent[: 2 * d] @ state
    reset, update = torch.sigmoid(of_x[:d] + of_h[:d]), torch.sigmoid(of_x[d : 2 * d] + of_h[d:])
    new = torch.tanh(of_x[2 * d :] + level.recurrent[2 * d :] @ (reset * state))
    return (1 - update) * state + update * new


def user_state(encoder, finished):
    """The states of all layers after the sessions ``finished``, each a list of vectors."""
    states = [torch.zeros(encoder.user_width, dtype=torch.float64) for _ in encoder.levels]
    for session in finished:
        x = sum(session) / len(session) + encoder.mean_bias
        for number, level in enumerate(encoder.levels):
            states[number] = x = gru(level, x, states[number])
    return torch.cat(states)


def block(layer, x):
    """One block over the places ``x`` of a session, the one before its first click first."""
    found = []
    for place in range(len(x)):
        seen = [x[place - offset] if place >= offset else torch.zeros_like(x[0]) for offset in layer.offsets]
        convolved = torch.relu(layer.filters.weight @ torch.cat(seen) + layer.filters.bias)
        found.append(torch.relu(convolved + layer.residual(x[place])))
    return found


def query_of(encoder, items, sessions):
    """Of the clicks ``items`` (a tensor) in the numbered ``sessions`` (a list)."""
    clicks = [encoder.project(encoder.items(item)) for item in items]
    parts = [[c for c, s in zip(clicks, sessions, strict=True) if s == number] for number in dict.fromkeys(sessions)]
    told = encoder.of_user(user_state(encoder, parts[:-1]))
    x = [told, *(encoder.of_item(click) + told for click in parts[-1])]  # before its first click: the state alone
    for layer in encoder.blocks:
        x = block(layer, x)
    return x[-1] if encoder.leave is None else F.normalize(encoder.leave(x[-1]), dim=-1)


@pytest.mark.parametrize(
    "switches", [{}, {"user_layers": 1}, {"kernel": 5, "channels": [8, 6, 6]}, {"form": "pinterest"}, {"feature_width": 3}]
)
@torch.no_grad()
def test_the_query_is_the_papers(switches):
    encoder = model_of(name="hiertcn", **switches).eval().double().encoder
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    batch = batch_of([1, 9, 4], [0] * 3, [0] * 3)
    cut = torch.tensor([[1] * 9, [1, 1, 2, 2, 2, 2, 2, 3, 3], [1, 2, 3, 3, 0, 0, 0, 0, 0]])
    batch = replace(batch, short_session=torch.where(batch.short > 0, cut, 0))
    found = encoder.encode(batch)
    for p in range(len(batch.row)):
        row, end = batch.row[p], batch.position[p] + 1
        wanted = query_of(encoder, batch.short[row, :end], batch.short_session[row, :end].tolist())
        torch.testing.assert_close(found[p, 0], wanted)


@torch.no_grad()
def test_a_running_session_is_no_part_of_the_users_state_and_convolutions_do_not_reach_back_over_its_start():
    encoder = model_of(name="hiertcn").eval().encoder
    batch = replace(batch_of([6], [0], [0]), short_session=torch.tensor([[1, 1, 2, 2, 2, 2]]))
    alone = replace(batch_of([4], [0], [0]), short=batch.short[:, 2:], short_session=torch.tensor([[1, 1, 1, 1]]))
    encoder.of_user.weight.zero_()  # then nothing of the first session is left
    torch.testing.assert_close(encoder.encode(batch)[2:], encoder.encode(alone))


def test_a_dropped_channel_is_dropped_at_every_place():
    """In place of single numbers, as in the authors' code."""
    layer = model_of(name="hiertcn", dropout=0.5).train().encoder.blocks[0]
    torch.manual_seed(0)
    found = layer.dropout(torch.ones(4, 8, 5))
    assert set(found.unique().tolist()) == {0.0, 2.0}
    assert (found == found[:, :, :1]).all()


def test_ties_need_equal_widths():
    with pytest.raises(ValidationError, match="tie_item_embedding needs item inputs as wide as queries"):
        HierTCNConfig(width=8, channels=(8, 6), tie_item_embedding=True)
