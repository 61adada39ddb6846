"""SR-GNN: the graph of a session and its equations once more, with dictionaries and one node at a time."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tests.models.batches import batch_of, model_of
from xdm.models.shared.graph import averages, session_graphs
from xdm.training.config import load_config


def neighbours_of(clicks):
    """For each item the items clicked right before it, and right after it, each once."""
    before, after = ({item: set() for item in clicks} for _ in range(2))
    for one, following in pairwise(clicks):
        after[one].add(following)
        before[following].add(one)
    return before, after


def states_of(encoder, clicks, steps):
    """For each item of the session ``clicks`` its node ``[d]`` after ``steps`` rounds of messages."""
    cell, d = encoder.cell, encoder.width
    before, after = neighbours_of(clicks)
    state = {item: encoder.project(encoder.items(torch.tensor(item))) for item in clicks}
    for _ in range(steps):
        told = {}
        for item in state:
            messages = []
            for sources, layer, bias in (
                (before[item], cell.from_before, cell.before_bias), (after[item], cell.from_after, cell.after_bias),
            ):  # fmt: skip
                mean = sum(((layer.weight @ state[one] + layer.bias) / len(sources) for one in sources), torch.zeros_like(bias))
                messages.append(mean + bias)
            a = cell.of_messages.weight @ torch.cat(messages) + cell.of_messages.bias
            h = cell.of_nodes.weight @ state[item] + cell.of_nodes.bias
            reset, kept = torch.sigmoid(a[:d] + h[:d]), torch.sigmoid(a[d : 2 * d] + h[d : 2 * d])
            new = torch.tanh(a[2 * d :] + reset * h[2 * d :])
            told[item] = (1 - kept) * new + kept * state[item]
        state = told
    return state


def nodes_of(encoder, clicks, steps):
    """The nodes of the tensor ``clicks`` in their order, as lists."""
    state = states_of(encoder, clicks.tolist(), steps)
    return [state[item].tolist() for item in clicks.tolist()]


def query_of(encoder, clicks):
    """The query ``[d]`` of a session of item numbers."""
    state, d = states_of(encoder, clicks, encoder.steps), encoder.width
    last, pooled = state[clicks[-1]], torch.zeros(d, dtype=torch.float64)
    for item in clicks:  # one that was clicked twice counts twice
        inner = encoder.of_last.weight @ last + encoder.of_last.bias + encoder.of_click.weight @ state[item] + encoder.of_click.bias
        pooled = pooled + (encoder.weigh.weight[0] @ torch.sigmoid(inner)) * state[item]
    if encoder.join is None:
        return pooled
    return encoder.join.weight @ torch.cat([pooled, last]) + encoder.join.bias


@pytest.mark.parametrize("switches", [{}, {"steps": 3}, {"hybrid": False}, {"window": 4}, {"feature_width": 3}])
@torch.no_grad()
def test_the_query_is_the_paper_s(switches):
    encoder = model_of(name="srgnn", **switches).eval().double().encoder
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    batch = batch_of([1, 9, 6, 8], [0] * 4, [0] * 4)
    few = torch.tensor([3, 7, 7, 4])[:, None]
    batch.short[1:] = torch.where(batch.short[1:] > 0, batch.short[1:] % few[1:] + 1, 0)  # so that items come again
    found = encoder.encode(batch)
    for p in range(len(batch.row)):
        clicks = batch.short[batch.row[p], : batch.position[p] + 1].tolist()[-encoder.window :]
        torch.testing.assert_close(found[p, 0], query_of(encoder, clicks))


def test_the_graph_of_a_session_has_a_node_an_item_and_each_edge_once():
    sessions = [[5, 9, 5, 9, 2], [4, 4, 4], [8], [1, 2, 3, 1, 3]]
    items = torch.tensor([one + [0] * (6 - len(one)) for one in sessions])
    graphs = session_graphs(items, torch.tensor([len(one) for one in sessions]))
    assert graphs.item.tolist() == [item for one in sessions for item in one]
    assert graphs.of.tolist() == [0] * 5 + [1] * 3 + [2] + [3] * 5
    assert graphs.node.tolist() == [0, 1, 0, 1, 4, 5, 5, 5, 8, 9, 10, 11, 9, 11]
    assert graphs.last.tolist() == [4, 7, 8, 13]
    edges = list(zip(graphs.source.tolist(), graphs.target.tolist(), strict=True))
    assert edges == [(0, 1), (1, 0), (1, 4), (5, 5), (9, 10), (10, 11), (11, 9), (9, 11)]


def test_messages_are_averages():
    values, group = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 5.0]]), torch.tensor([2, 2, 0])
    assert averages(values, group, 4).tolist() == [[5, 5], [0, 0], [2, 4], [0, 0]]


@torch.no_grad()
def test_the_order_of_clicks_makes_the_graph():
    encoder = model_of(name="srgnn").eval().encoder
    batch = batch_of([4, 4], [0, 0], [0, 0])
    batch.short[:] = torch.tensor([[1, 2, 3, 4], [2, 1, 3, 4]])
    found = encoder.encode(batch)[:, 0]
    assert not torch.allclose(found[3], found[7], atol=1e-4)


def test_defaults_and_first_weights_are_the_authors():
    config = load_config("srgnn").model
    assert (config.width, config.steps, config.hybrid, config.tie_item_embedding) == (100, 1, True, True)
    model = model_of(name="srgnn", width=64)
    for name, weight in model.named_parameters():
        assert 0.8 / 8 < float(weight.detach().abs().max()) <= 1 / 8, name
    assert torch.equal(model.item_vectors(), model.encoder.items.tables[0].weight[1:26])
