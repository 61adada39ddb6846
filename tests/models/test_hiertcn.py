"""HierTCN: the equations once more in NumPy, one user, one session and one place at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import batch_of, model_of
from xdm.models.shared.sessions import Sessions, before, opens_session
from xdm.schema import ConfigError
from xdm.training.config import load_config


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(cell, x, state):
    """One step of a level ``cell``: weights by name."""
    (r, z, n), (u_r, u_z, u_n) = np.split(cell["input"] @ x + cell["bias"], 3), np.split(cell["recurrent"], 3)
    reset, update = sigmoid(r + u_r @ state), sigmoid(z + u_z @ state)
    return (1 - update) * state + update * np.tanh(n + u_n @ (reset * state))


def block(of, places, kernel, apart):
    """What a block gives at each of ``places``, each ``[width_in]``; before the first there are zeros."""
    found = []
    for at in range(len(places)):
        read = [at - apart * (kernel - 1 - k) for k in range(kernel)]  # oldest first
        seen = np.concatenate([places[one] if one >= 0 else np.zeros_like(places[0]) for one in read])
        x = places[at] if "residual.weight" not in of else of["residual.weight"] @ places[at] + of["residual.bias"]
        found.append(np.maximum(np.maximum(of["filters.weight"] @ seen + of["filters.bias"], 0) + x, 0))
    return found


def query_of(encoder, sessions):
    """The query after the last click of ``sessions``, the last of which is going on."""
    weight = {name: value.detach().numpy() for name, value in encoder.named_parameters()}

    def part(prefix):
        return {name.removeprefix(prefix): value for name, value in weight.items() if name.startswith(prefix)}

    levels = [np.zeros(encoder.user_width) for _ in encoder.levels]
    for clicks in sessions[:-1]:  # finished
        x = np.mean([vector(encoder, item) for item in clicks], axis=0) + weight["mean_bias"]
        for number in range(len(levels)):
            x = levels[number] = gru(part(f"levels.{number}."), x, levels[number])
    told = weight["of_user.weight"] @ np.concatenate(levels)
    places = [told] + [weight["of_item.weight"] @ vector(encoder, item) + told for item in sessions[-1]]
    for number, one in enumerate(encoder.blocks):
        places = block(part(f"blocks.{number}."), places, len(one.offsets), 2**number)
    if "leave.weight" not in weight:
        return places[-1]
    left = weight["leave.weight"] @ places[-1] + weight["leave.bias"]
    return left / np.linalg.norm(left)


def vector(encoder, item):
    return encoder.project(encoder.items(torch.tensor(item))).numpy()


def by_session(items, numbers):
    """``items`` as a list of sessions."""
    return [[item for item, one in zip(items, numbers, strict=True) if one == number] for number in dict.fromkeys(numbers)]


@pytest.mark.parametrize("switches", [
    {}, {"channels": [8, 5, 7], "kernel": 2}, {"form": "pinterest", "user_layers": 3},
    {"user_layers": 1, "feature_width": 3, "kernel": 5},
])  # fmt: skip
@torch.no_grad()
def test_the_query_is_the_paper_s(switches):
    encoder = model_of(name="hiertcn", **switches).eval().double().encoder
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    batch = batch_of([1, 20, 6, 17], [0] * 4, [0] * 4)
    assert batch.short_session.max() > 3
    found = encoder.encode(batch)
    for p in range(len(batch.row)):
        row, until = batch.row[p], batch.position[p] + 1
        sessions = by_session(batch.short[row, :until].tolist(), batch.short_session[row, :until].tolist())
        np.testing.assert_allclose(found[p, 0].numpy(), query_of(encoder, sessions), atol=1e-9)


def reached(encoder, batch, position):
    """Which clicks of the first row the query at ``position`` depends on, by its gradient."""
    clicked = {}

    def keep(module, inputs, output):
        clicked["vectors"] = output
        output.retain_grad()

    hook = encoder.items.register_forward_hook(keep)
    encoder.encode(batch)[position].sum().backward()
    hook.remove()
    return clicked["vectors"].grad[0].any(dim=-1).nonzero()[:, 0].tolist()


def one_row(*numbers):
    """A row of clicks in sessions of these ``numbers``."""
    return replace(batch_of([len(numbers)], [0], [0]), short_session=torch.tensor([list(numbers)]))


def test_a_query_hears_of_its_session_by_convolution_and_of_earlier_ones_by_their_means():
    """Nothing of what comes later, of its own session neither; and all of what was clicked in earlier sessions."""
    encoder = model_of(name="hiertcn").eval().encoder
    with torch.no_grad():
        for weight in encoder.parameters():  # so that no relu shuts off all channels
            weight.add_(torch.rand_like(weight) * 0.3)
    batch = one_row(1, 1, 1, 2, 2, 2, 2, 3, 3)
    for position in range(9):
        assert reached(encoder, batch, position) == list(range(position + 1))
    flat = one_row(*[1] * 12)  # one session: 3 places, 1 and then 2 apart, are 7
    assert reached(encoder, flat, 11) == list(range(5, 12))


@torch.no_grad()
def test_convolutions_do_not_cross_sessions():
    """A session whose predecessor is another in order alone, its mean the same, gives the same."""
    encoder = model_of(name="hiertcn").eval().encoder
    batch = one_row(1, 1, 1, 2, 2)
    turned = replace(batch, short=batch.short[:, [2, 0, 1, 3, 4]])
    found, wanted = encoder.encode(turned), encoder.encode(batch)
    torch.testing.assert_close(found[3:], wanted[3:])
    assert not torch.allclose(found[2], wanted[2], atol=1e-4)


@torch.no_grad()
def test_a_user_s_first_session_begins_from_zeros_whatever_its_number():
    encoder = model_of(name="hiertcn").eval().encoder
    found = [encoder.encode(one_row(*[number] * 4)) for number in (0, 1, 7)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_sessions_of_a_row():
    session = torch.tensor([[3, 3, 4, 4, 4, 9], [1, 2, 3, 0, 0, 0]])
    assert opens_session(session).int().tolist() == [[0, 0, 1, 0, 0, 1], [0, 1, 1, 1, 0, 0]]
    sessions = Sessions.of(session)
    assert sessions.number.tolist() == [[0, 0, 1, 1, 1, 2], [0, 1, 2, 3, 3, 3]]
    assert sessions.place.tolist() == [[0, 1, 0, 1, 2, 0], [0, 0, 0, 0, 1, 2]]
    x = torch.tensor([[1.0, 3, 4, 5, 9, 2], [7, 8, 9, 0, 0, 0]])[..., None]
    means = sessions.means(x)
    assert means[..., 0].tolist() == [[2, 6, 2, 0, 0, 0], [7, 8, 9, 0, 0, 0]]  # by each session's true length
    assert sessions.at_clicks(before(means))[..., 0].tolist() == [[0, 0, 2, 2, 2, 6], [0, 7, 8, 9, 9, 9]]


def test_of_many_clicks_in_few_sessions_the_user_s_level_takes_few_steps():
    sessions = Sessions.of(torch.arange(200)[None] // 20)  # 10 sessions
    assert sessions.means(torch.ones(1, 200, 3)).shape == (1, 16, 3)


def test_settings_are_the_authors_and_widths_must_fit():
    config = load_config("hiertcn")
    model = config.model
    assert (model.width, model.channels, model.kernel, model.user_width, model.user_layers) == (128, (128, 128), 5, 128, 2)
    assert (config.objective.name, config.training.batch_size, config.training.learning_rate) == ("softmax", 32, 1e-2)
    assert load_config("hiertcn-pinterest").model.channels == (128,) * 4
    with pytest.raises(ConfigError, match="item inputs as wide as queries"):
        load_config("hiertcn", None, ["model.tie_item_embedding=true", "model.width=64"])
    encoder = model_of(name="hiertcn", width=64, channels=[64]).encoder
    d = encoder.user_width
    for level in encoder.levels:  # TensorFlow's gates start open for the state
        assert level.bias.tolist() == [1.0] * d + [-1.0] * d + [0.0] * d
    assert 0.9 < float(encoder.blocks[0].filters.weight.detach().abs().max()) / (6 / (3 * 128)) ** 0.5 <= 1
