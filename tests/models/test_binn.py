"""BINN: the LSTM with peepholes and terms of behaviour, the present and the history once more in plain NumPy, step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import batch_of, model_of
from xdm.models.shared.prefixes import latest_exposures
from xdm.schema import ConfigError
from xdm.training.config import load_config


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def made(**switches):
    encoder = model_of(name="binn", **switches).eval().double().encoder
    with torch.no_grad():
        for weight in encoder.parameters():
            torch.nn.init.normal_(weight, std=0.6)
        for module in encoder.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight[0] = 0
    return encoder, batch_of([1, 7, 4], [0] * 3, [0] * 3)


def states(cell, x, kinds=None):
    """The states of a `BehaviourLSTM`: the peepholes of i and f look at the cell before, that of o at the new one."""
    w = {name: weight.detach().numpy() for name, weight in cell.named_parameters()}
    h, c, found = np.zeros(len(x[0])), np.zeros(len(x[0])), []
    for t, one in enumerate(x):
        told = w["input.weight"] @ one + w["input.bias"] + w["recurrent.weight"] @ h
        if kinds is not None:
            told = told + w["of_kind.weight"][kinds[t]]  # B b of a one-hot b
        i, f, g, o = np.split(told, 4)
        p_i, p_f, p_o = w["peepholes"]
        c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
        h = sigmoid(o + p_o * c) * np.tanh(c)
        found.append(h)
    return np.stack(found)


def query_of(encoder, clicks, shown, actions):
    """The query ``[d]`` after these clicks, and these exposures with their actions."""
    x = lambda items: encoder.project(encoder.items(torch.tensor(items))).detach().numpy()  # noqa: E731
    latest = slice(-encoder.config.present, None)
    if encoder.config.reads_stream:
        present = states(encoder.present, x(shown[latest]), actions[latest])[-1]
    else:
        present = states(encoder.present, x(clicks[latest]))[-1]
    liked = x(clicks[-encoder.config.history :])
    history = np.concatenate([states(encoder.forwards, liked).mean(0), states(encoder.backwards, liked[::-1]).mean(0)])
    return encoder.join.weight.detach().numpy() @ np.concatenate([present, history]) + encoder.join.bias.detach().numpy()


@pytest.mark.parametrize(
    "switches", [{}, {"behaviours": "clicks"}, {"present": 1}, {"present": 20, "history": 3}, {"feature_width": 3}]
)
@torch.no_grad()
def test_the_query_is_that_of_the_equations(switches):
    encoder, batch = made(**switches)
    found = encoder.encode(batch)
    for p, (row, position) in enumerate(zip(batch.row.tolist(), batch.position.tolist(), strict=True)):
        end = int(batch.stream_position[p]) + 1
        clicks = batch.short[row, : position + 1].tolist()
        wanted = query_of(encoder, clicks, batch.stream[row, :end].tolist(), batch.stream_action[row, :end].tolist())
        np.testing.assert_allclose(found[p, 0], wanted, rtol=1e-9)


def test_the_present_is_the_latest_exposures_of_any_kind():
    batch = batch_of([3, 6], [0, 0], [0, 0])
    items, actions, lengths = latest_exposures(batch, 5)
    for p in range(len(batch.row)):
        row, end = int(batch.stream_row[p]), int(batch.stream_position[p]) + 1
        n = min(5, end)
        assert int(lengths[p]) == n
        assert items[p].tolist() == batch.stream[row, end - n : end].tolist() + [0] * (5 - n)
        assert actions[p].tolist() == batch.stream_action[row, end - n : end].tolist() + [0] * (5 - n)


@torch.no_grad()
def test_what_was_done_with_an_item_matters_and_what_is_older_than_the_present_does_not():
    encoder, batch = made()
    found = encoder.encode(batch)
    other = batch.stream_action.clone()
    other[1, 13] = 1  # the last exposure, a click, as a skip
    changed = encoder.encode(replace(batch, stream_action=other))
    assert not torch.allclose(changed[batch.row == 1][-1], found[batch.row == 1][-1])
    stream = batch.stream.clone()
    stream[1, :10] = stream[1, :10] % 30 + 1
    old = encoder.encode(replace(batch, stream=stream))
    assert torch.equal(old[batch.row == 1][-1], found[batch.row == 1][-1])  # a present of four, of fourteen exposures
    assert not torch.allclose(old[batch.row == 1][0], found[batch.row == 1][0])


@torch.no_grad()
def test_skipped_items_are_left_out_of_the_history_with_their_steps():
    """A port leaves their steps in the history, with vectors of zeros, and takes the last state of both directions."""
    encoder, batch = made()
    more = replace(batch, stream=batch.stream % 30 + 1)
    assert torch.equal(encoder._history(more), encoder._history(batch))
    longer = batch_of([1, 7, 4, 9], [0] * 4, [0] * 4)  # more padding
    longer.short[:3, :7], longer.short[:3, 7:] = batch.short, 0
    torch.testing.assert_close(encoder._history(longer)[:12], encoder._history(batch))


@torch.no_grad()
def test_with_clicks_alone_there_is_no_term_of_behaviour():
    encoder, batch = made(behaviours="clicks")
    assert encoder.present.of_kind is None
    found = encoder.encode(batch)
    nothing = torch.zeros((0, 0), dtype=torch.int64)
    assert torch.equal(encoder.encode(replace(batch, stream=nothing, stream_action=nothing)), found)


def test_presets_are_end_to_end_and_in_two_stages():
    plain, original = load_config("binn"), load_config("binn-original")
    assert plain.model == original.model
    assert plain.model.present == 10
    assert plain.behaviours.stream_max == original.behaviours.stream_max == 10
    assert (plain.objective.name, plain.item_vectors.frozen) == ("sampled_softmax", False)
    # two stages: with vectors that learn, the regression has an answer of its own, all zeros
    vectors = original.item_vectors
    assert (vectors.pretrained, vectors.item2vec.weighted, vectors.frozen) == ("item2vec", True, True)
    assert (original.objective.name, vectors.scoring) == ("squared_error", "squared_distance")
    with pytest.raises(ConfigError, match="frozen"):
        load_config("binn-original", assignments=["item_vectors.frozen=false"])
    with pytest.raises(ConfigError, match=r"behaviours\.stream_max"):
        load_config("binn", assignments=["behaviours.stream_max=0"])
    load_config("binn", assignments=["behaviours.stream_max=0", "model.behaviours=clicks"])
