"""HRNN: the equations once more in NumPy, one user and one session at a time, and its user-parallel steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.learning import memory_store
from tests.models.batches import batch_of, model_of
from xdm.data.catalogue import build_catalogue
from xdm.training.config import load_config
from xdm.training.loop import Loop, new_model, training_rows


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(inputs, state, recurrent):
    """One step: ``inputs`` ``[3 width]`` to the gates r, z and the candidate."""
    (r, z, n), (u_r, u_z, u_n) = np.split(inputs, 3), np.split(recurrent, 3)
    reset, update = sigmoid(r + u_r @ state), sigmoid(z + u_z @ state)
    return (1 - update) * state + update * np.tanh(n + u_n @ (reset * state))


def by_session(items, numbers):
    """``items`` as a list of sessions."""
    sessions, last = [], None
    for item, number in zip(items, numbers, strict=True):
        sessions += [[]] if number != last else []
        sessions[-1].append(item)
        last = number
    return sessions


def query_of(encoder, sessions):
    """The session's state after the last click of ``sessions``, the last of which is going on."""
    weight = {name: value.detach().numpy() for name, value in encoder.named_parameters()}
    state, user = np.zeros(encoder.width), np.zeros(encoder.user.width)
    for m, clicks in enumerate(sessions):
        if m:  # the session before is finished: it changes the user's state, from which this one begins
            user = gru(weight["user.input"] @ state + weight["user.bias"], user, weight["user.recurrent"])
            state = np.tanh(weight["begin.weight"] @ user + weight["begin.bias"])
        for item in clicks:
            x = encoder.project(encoder.items(torch.tensor(item))).detach().numpy()
            inputs = (x if "session.input" not in weight else weight["session.input"] @ x) + weight["session.bias"]
            if "of_user" in weight:
                inputs = inputs + np.concatenate([weight["of_user"] @ user, np.zeros(encoder.width)])
            state = gru(inputs, state, weight["session.recurrent"])
    return state


@pytest.mark.parametrize("switches", [{}, {"variant": "init"}, {"item_width": 5}, {"tie_item_embedding": True, "feature_width": 3}])
@torch.no_grad()
def test_the_query_is_the_paper_s(switches):
    encoder = model_of(name="hrnn", **switches).eval().double().encoder
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    batch = batch_of([1, 20, 6, 17], [0] * 4, [0] * 4)
    assert batch.short_session.max() > 3
    found = encoder.encode(batch)
    for p in range(len(batch.row)):
        row, until = batch.row[p], batch.position[p] + 1
        sessions = by_session(batch.short[row, :until].tolist(), batch.short_session[row, :until].tolist())
        np.testing.assert_allclose(found[p, 0].numpy(), query_of(encoder, sessions), atol=1e-9)


def shifted(batch, *numbers):
    """The first row of ``batch`` alone, its clicks in sessions of these ``numbers``."""
    return replace(batch, short_session=torch.tensor([list(numbers)]))


@pytest.mark.parametrize("variant", ["init", "all"])
@torch.no_grad()
def test_within_a_user_s_first_session_it_is_a_gru_from_zeros(variant):
    """So is a row without `history_max`, which holds one session; what it is numbered is all the same."""
    encoder, batch = model_of(name="hrnn", variant=variant).eval().encoder, batch_of([6], [0], [0])
    x = encoder.project(encoder.items(batch.short))
    plain = encoder.session(x, torch.zeros((1, encoder.width)), 0.0)
    for numbers in ((1,) * 6, (4,) * 6, (0,) * 6):
        torch.testing.assert_close(encoder.encode(shifted(batch, *numbers))[:, 0], plain[0])
    assert not torch.allclose(encoder.encode(shifted(batch, 1, 1, 2, 2, 2, 2))[2:, 0], plain[0, 2:], atol=1e-3)


@torch.no_grad()
def test_the_user_s_state_changes_when_a_session_is_over_and_not_before():
    """Ports that update it with the zeroed state of the new session would forget what the old one was."""
    encoder, batch = model_of(name="hrnn").eval().encoder, batch_of([6], [0], [0])
    opens = torch.tensor([[False, False, False, True, False, False]])
    session, user, _ = encoder.start(1)
    states = encoder._states(batch.short, opens, session, user)[0, :, encoder.width :]  # [T, user width]
    assert not states[:3].any()
    assert states[3].any()
    assert torch.equal(states[3], states[5])
    other = encoder._states(torch.cat([batch.short[:, :2], batch.short[:, 2:3] % 30 + 1, batch.short[:, 3:]], 1), opens, session, user)
    assert not torch.allclose(other[0, 3, encoder.width :], states[3], atol=1e-4)  # the last click of a session counts


@torch.no_grad()
def test_init_reads_the_user_s_state_at_the_first_click_alone_and_all_at_every_one():
    batch = shifted(batch_of([4], [0], [0]), 1, 2, 2, 2)
    for variant, read in (("init", False), ("all", True)):
        encoder = model_of(name="hrnn", variant=variant).eval().encoder
        inputs = encoder.project(encoder.items(batch.short))
        states = encoder._states(batch.short, torch.tensor([[False, True, False, False]]), *encoder.start(1)[:2])[0]
        for t in (2, 3):
            plain = encoder.session(inputs[:, t : t + 1], states[None, t - 1, : encoder.width], 0.0)[0, 0]
            assert torch.allclose(plain, states[t, : encoder.width], atol=1e-6) != read


def test_the_candidate_does_not_hear_the_user():
    encoder = model_of(name="hrnn").encoder
    assert encoder.of_user.shape == (2 * encoder.width, encoder.user.width)


def test_what_begins_a_session_is_trained_through_the_row():
    """With states cut off between clicks the first step of a session alone would teach it."""
    model = model_of(name="hrnn", variant="init").eval()
    batch = shifted(batch_of([6], [0], [0]), 1, 1, 2, 2, 2, 2)
    model.encoder.encode(batch)[5].sum().backward()  # asked three clicks after the session began
    assert model.encoder.begin.weight.grad.any()
    assert model.encoder.user.input.grad.any()
    assert model.encoder.items.tables[0].weight.grad[batch.short[0, 0]].any()  # of the session before


@pytest.mark.parametrize("variant", ["init", "all"])
@torch.no_grad()
def test_user_parallel_steps_have_the_states_of_whole_rows(variant):
    """Click by click, with the weights held still: the sessions of a row are told apart, and users replace one another."""
    hour = 3600
    users = [
        [(1 + (5 * user + 3 * k * k) % 11, user + k * 60 + (k // 3) * 5 * hour, True, None) for k in range(clicks)]
        for user, clicks in enumerate([9, 2, 7, 12, 1, 5, 8])
    ]
    store = memory_store(users)
    config = load_config("hrnn", None, [f"model.variant={variant}", "model.width=8", "model.user_width=6", "training.batch_size=3"])
    catalogue = build_catalogue(store, 10**9, 1)
    loop = Loop(new_model(config, catalogue), training_rows(store, catalogue, config, until=10**9), config)
    rows, encoder = loop.rows, loop.model.encoder.eval()
    batch = rows.batch(np.arange(rows.n_rows))[0].map(torch.from_numpy)
    assert batch.short_session.max() > 3
    wanted = {
        (int(batch.user[row]), int(time)): query
        for row, time, query in zip(batch.row, batch.time, encoder.encode(batch)[:, 0], strict=True)
    }
    for _ in range(2):  # the second epoch begins where the first one's states lie about
        found = 0
        for number in range(loop.live.steps):
            step, _, queries = loop.live.step(number)
            for row, time, query in zip(step.row, step.time, queries[:, 0], strict=True):
                torch.testing.assert_close(query, wanted[int(step.user[row]), int(time)])
                found += 1
        assert found == len(batch.row)


def test_presets_are_the_authors_scripts():
    small = load_config("hrnn-init")
    assert (small.model.variant, small.model.width, small.model.user_width) == ("init", 100, 100)
    assert (small.model.session_dropout, small.model.user_dropout, small.model.begin_dropout) == (0.1, 0.0, 0.0)
    assert (small.training.batch_size, small.training.learning_rate, small.training.momentum) == (50, 0.1, 0.0)
    both = load_config("hrnn")
    assert both.model.variant == "all"
    assert (both.model.session_dropout, both.model.user_dropout, both.model.begin_dropout) == (0.1, 0.1, 0.2)
    assert (both.training.batch_size, both.training.learning_rate, both.training.momentum) == (100, 0.1, 0.2)
    for one in (small, both):
        assert (one.objective.name, one.objective.sampler, one.training.optimizer) == ("top1", "in_batch", "adagrad_momentum")
        assert (one.training.order, one.behaviours.history_max) == ("session_parallel", 200)
        assert (one.model.one_hot, one.model.bias) == (True, True)
