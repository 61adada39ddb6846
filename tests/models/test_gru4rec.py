"""GRU4Rec: its equations once more, one click of one session at a time in plain loops over NumPy arrays."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.models.batches import SIZES, batch_of, model_of
from xdm.schema import ConfigError
from xdm.training.config import load_config

LENGTHS = [1, 6, 3]
MODES = {
    "shared": {}, "separate": {"tie_item_embedding": False, "item_width": 5}, "one-hot": {"tie_item_embedding": False},
}  # fmt: skip
SHAPES = {
    **MODES, "two layers": {"lower_layers": [6]}, "with features": {"feature_width": 3},
    "one-hot, two layers": {"tie_item_embedding": False, "lower_layers": [6]},
    "one-hot, with features": {"tie_item_embedding": False, "feature_width": 3},
}  # fmt: skip


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def array(tensor):
    return tensor.detach().numpy()


def after_click(layer, x, state):
    """The state after one more input, as the authors' PyTorch code (``cell: torch``) or the paper has it."""
    units = len(state)
    own = array(layer.recurrent)
    if hasattr(layer, "recurrent_bias"):
        mine = array(layer.input) @ x + array(layer.input_bias)
        back = own @ state + array(layer.recurrent_bias)
        r = sigmoid(mine[:units] + back[:units])
        z = sigmoid(mine[units : 2 * units] + back[units : 2 * units])
        return (1 - z) * np.tanh(mine[2 * units :] + r * back[2 * units :]) + z * state
    mine = (x if layer.input is None else array(layer.input) @ x) + array(layer.bias)
    r = sigmoid(mine[:units] + own[:units] @ state)
    z = sigmoid(mine[units : 2 * units] + own[units : 2 * units] @ state)
    return (1 - z) * state + z * np.tanh(mine[2 * units :] + own[2 * units :] @ (r * state))


def states_of(encoder, items, keep=None):
    """The last layer's states after each of ``items``; ``keep`` ``[layer][click]`` multiplies the states as they arise."""
    state = [np.zeros(layer.width) for layer in encoder.layers]
    found = []
    for t, item in enumerate(items):
        x = array(encoder.project(encoder.items(torch.tensor([item]))))[0]
        for number, layer in enumerate(encoder.layers):
            x = after_click(layer, x, state[number])
            if keep is not None:
                x = x * keep[number][t]
            state[number] = x
        found.append(x)
    return np.stack(found)


def large(encoder):
    """Weights and biases of a trained model are not small."""
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return encoder


@pytest.mark.parametrize("cell", ["torch", "paper"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_network(shape, cell):
    encoder = large(model_of(name="gru4rec", cell=cell, **shape).eval().double().encoder)
    batch = batch_of(LENGTHS, [0] * 3, [0] * 3)
    found = array(encoder.encode(batch))
    assert found.shape == (sum(LENGTHS), 1, 8)
    wanted = [states_of(encoder, batch.short[row, : LENGTHS[row]].tolist()) for row in range(3)]
    np.testing.assert_allclose(found[:, 0], np.concatenate(wanted), atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_two_cells_differ_except_where_items_are_one_hot(shape):
    """The layer that one-hot items enter is in the paper's form in either code of the authors."""
    states = []
    for cell in ("torch", "paper"):
        model = model_of(name="gru4rec", cell=cell, **shape).eval()
        large(model.encoder)
        states.append([type(layer).__name__ for layer in model.encoder.layers])
    same = [one == other for one, other in zip(*states, strict=True)]
    one_hot = not shape.get("tie_item_embedding", True) and not shape.get("item_width")
    assert same == [one_hot, *[False] * len(shape.get("lower_layers", []))]


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_score_is_the_inner_product_and_the_items_bias_and_nothing_after_it(mode):
    """No tanh, ELU or softmax: such would saturate, tie items and, before a loss with a softmax, apply it twice."""
    model = model_of(name="gru4rec", **mode).eval().double()
    torch.nn.init.normal_(model.output_bias.weight)
    torch.nn.init.normal_(model.item_table.weight, std=9)
    batch = batch_of(LENGTHS, [0] * 3, [0] * 3)
    scores = array(model.score(model(batch).query, model.item_vectors()))
    states = array(model.encoder.encode(batch))[:, 0]
    vectors, bias = array(model.item_table.weight), array(model.output_bias.weight)[:, 0]
    for p, state in enumerate(states):
        for item in range(1, 26):
            assert scores[p, item - 1] == pytest.approx(float(state @ vectors[item] + bias[item]), abs=1e-9)
    assert scores.max() > 5  # beyond where a tanh would end
    assert all(len(set(row)) == 25 for row in scores.tolist())
    assert (model.item_table is model.encoder.items.tables[0]) == (not mode)


def test_without_a_bias_the_query_is_the_state():
    model = model_of(name="gru4rec", bias=False).eval()
    batch = batch_of(LENGTHS, [0] * 3, [0] * 3)
    assert not hasattr(model, "output_bias")
    assert torch.equal(model(batch).query, model.encoder.encode(batch))


@pytest.mark.parametrize("cell", ["torch", "paper"])
@pytest.mark.parametrize("shape", [{}, {"lower_layers": [6]}, {"tie_item_embedding": False, "lower_layers": [6]}])
def test_the_dropped_state_is_what_is_carried_on(shape, cell):
    """Hidden dropout is recurrent. Of one-hot items the input dropout is that of the first layer's states."""
    encoder = large(model_of(name="gru4rec", cell=cell, hidden_dropout=0.5, input_dropout=0.25, **shape).double().encoder)
    one_hot = "tie_item_embedding" in shape
    encoder.train().input_dropout.p = 0.0  # on inputs it is torch's own; the states are what is tested
    batch = batch_of([6], [0], [0])
    torch.manual_seed(5)
    found = array(encoder.encode(batch))[:, 0]
    torch.manual_seed(5)
    rates = [0.25 if one_hot else 0.5, 0.5][: len(encoder.layers)]
    keep = [
        array(F.dropout(torch.ones(1, 6, layer.width, dtype=torch.float64), rate))[0]
        for layer, rate in zip(encoder.layers, rates, strict=True)
    ]
    np.testing.assert_allclose(found, states_of(encoder, batch.short[0].tolist(), keep), atol=1e-12)
    assert not np.allclose(found, states_of(encoder, batch.short[0].tolist()) * keep[-1])


def test_each_gate_is_drawn_for_itself_and_a_table_by_its_number_of_items():
    def limit(rows, columns):
        return math.sqrt(6 / (rows + columns))

    def within(weight, bound):
        assert 0.97 * bound < float(weight.detach().abs().max()) <= bound

    sizes = replace(SIZES, n_items=30)
    shared = model_of(sizes, name="gru4rec", width=100, lower_layers=[60]).encoder
    within(shared.items.tables[0].weight[1:], limit(30, 100))
    for layer, units, width_in in zip(shared.layers, (60, 100), (100, 60), strict=True):
        for gate in range(3):
            within(layer.input[gate * units : (gate + 1) * units], limit(units, width_in))
            within(layer.recurrent[gate * units : (gate + 1) * units], limit(units, units))
        assert not layer.input_bias.any()
        assert not layer.recurrent_bias.any()
    model = model_of(sizes, name="gru4rec", width=100, tie_item_embedding=False)
    one_hot = model.encoder
    within(model.output.weight[1:], limit(25, 100))  # 25 of them can be recommended
    assert not model.output.weight[0].any()
    within(one_hot.items.tables[0].weight[1:], limit(30, 100))
    assert one_hot.items.tables[0].weight.shape == (31, 300)
    assert not one_hot.items.tables[0].weight[0].any()
    assert not one_hot.layers[0].bias.any()


@pytest.mark.parametrize("cell", ["torch", "paper"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_click_by_click_gives_what_the_whole_session_gives(shape, cell):
    """`advance` from zeros is `encode`; a state of another session would not be."""
    encoder = large(model_of(name="gru4rec", cell=cell, **shape).eval().double().encoder)
    batch = batch_of([4, 4], [0, 0], [0, 0])
    whole = encoder.encode(batch)
    states, both = encoder.start(2), torch.arange(2)
    for t in range(4):
        click = replace(batch, short=batch.short[:, [t]], row=both, position=torch.zeros(2, dtype=torch.long))
        queries, states = encoder.advance(click, states)
        torch.testing.assert_close(queries, whole[batch.position == t])
    carried, _ = encoder.advance(replace(batch, short=batch.short[:, [0]], row=both), states)
    assert not torch.allclose(carried, whole[batch.position == 0])


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ConfigError, match="item_width is that of separate input vectors"):
        load_config("gru4rec", None, ["model.item_width=32"])
    with pytest.raises(ConfigError, match=r"lower_layers \(0,\) must be hidden units"):
        load_config("gru4rec", None, ["model.lower_layers=[0]"])
