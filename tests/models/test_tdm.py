"""TDM: its network, loss and draws against naive versions written here; its tree between epochs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.batches import N_ITEMS, SIZES, batch_of, model_of
from xdm.models import tdm
from xdm.models.shared.inputs import Sizes
from xdm.retrieval.exact import ExactRetriever
from xdm.retrieval.scoring import FullScoring
from xdm.retrieval.tree import TreeRetriever
from xdm.schema import ConfigError

N = SIZES.n_candidates  # 25: the leaves are nodes 32 to 63
WINDOWS = [1, 1, 2, 4]
VARIANTS = ["inner_product", "attention"]
NORMS = ["batch", "layer"]


def model_with_life(seed=1, **settings):
    """A small model whose weights and running figures are of a trained model's size."""
    model = model_of(name="tdm", seed=seed, **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.5)
        for name, figures in model.named_buffers():
            if name.endswith("running_var"):
                figures.copy_(torch.rand(figures.shape, generator=generator) + 0.5)
            elif name.endswith("running_mean"):
                figures.copy_(torch.randn(figures.shape, generator=generator))
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight[0] = 0
    return model


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


# --- the network, again in NumPy -------------------------------------------------------------------------------------


def naive_prelu(x, slope):
    return np.array([v if v > 0 else s * v for v, s in zip(x, slope, strict=True)])


def naive_dense(layer, x):
    """One row through a dense layer with its norm, as in evaluation."""
    x = array(layer.linear.weight) @ x
    norm = layer.norm
    if isinstance(norm, torch.nn.BatchNorm1d):
        x = (x - array(norm.running_mean)) / np.sqrt(array(norm.running_var) + 1e-3)
    else:
        x = (x - x.mean()) / np.sqrt(x.var() + norm.eps)
    return naive_prelu(x * array(norm.weight) + array(norm.bias), array(layer.slope))


def naive_windows(vectors, weights):
    """Sums of weighed vectors, the latest first, by window over the window's length, also where it is not full."""
    pooled, begin = [], 0
    for length in WINDOWS:
        total = np.zeros(vectors.shape[1])
        for place in range(begin, min(begin + length, len(vectors))):
            total += weights[place] * vectors[place]
        pooled.append(total / length)
        begin += length
    return pooled


def latest_first(batch, point):
    clicks = batch.short[batch.row[point], : int(batch.position[point]) + 1].tolist()
    return clicks[::-1][: sum(WINDOWS)]


@pytest.mark.parametrize("norm", NORMS)
def test_the_user_vector_equals_a_naive_one(norm):
    model = model_with_life(norm=norm).eval()
    batch = batch_of([1, 12, 5], [0, 0, 0], [0, 0, 0])
    found, table = array(model(batch).query), array(model.encoder.items.tables[0].weight)
    assert found.shape == (18, 1, 8)
    *inner, last = model.encoder.layers
    for point in range(18):
        clicks = table[latest_first(batch, point)]
        x = np.concatenate(naive_windows(clicks, np.ones(len(clicks))))
        for layer in inner:
            x = naive_dense(layer, x)
        x = array(last.weight) @ x + array(last.bias)
        np.testing.assert_allclose(found[point, 0], x, atol=1e-4)


def naive_attention_score(scoring, clicks, node):
    """The score of ``node`` ``[d]`` for ``clicks`` ``[k, d]``, the latest first: one dense layer on [click; click ⊙ node; node]."""
    first = np.concatenate([array(part.weight) for part in (scoring.click, scoring.product, scoring.node)], axis=1)
    weights = []
    for click in clicks:
        hidden = first @ np.concatenate([click, click * node, node]) + array(scoring.click.bias)
        weights.append((array(scoring.weigh.weight) @ naive_prelu(hidden, array(scoring.slope)) + array(scoring.weigh.bias)).item())
    x = np.concatenate([*naive_windows(clicks, weights), node])
    for layer in scoring.layers:
        x = naive_dense(layer, x)
    return (array(scoring.logit.weight) @ x + array(scoring.logit.bias)).item()


@pytest.mark.parametrize("norm", NORMS)
def test_the_score_of_the_attention_equals_a_naive_one(norm):
    model = model_with_life(variant="attention", norm=norm).eval()
    batch = batch_of([1, 12, 5], [0, 0, 0], [0, 0, 0])
    queries, vectors = model(batch).query, model.item_vectors()[:7]
    found = array(model.score(queries, vectors))
    table = array(model.encoder.items.tables[0].weight)
    for point in range(18):
        clicks = table[latest_first(batch, point)]
        for s in range(7):
            wanted = naive_attention_score(model.encoder.scoring, clicks, array(vectors[s]))
            assert found[point, s] == pytest.approx(wanted, abs=1e-3)
    own = vectors[torch.arange(18)[:, None] % 5 + torch.arange(3)]  # [18, 3, d]: each point's own nodes
    wanted = torch.stack([model.score(queries[[p]], own[p])[0] for p in range(18)])
    torch.testing.assert_close(model.score(queries, own), wanted, atol=1e-4, rtol=1e-4)


def test_the_attention_in_small_parts_is_the_same_and_so_are_its_gradients(monkeypatch):
    batch = batch_of([1, 12, 5], [0, 0, 0], [0, 0, 0])
    targets = torch.arange(18)[:, None] % N + 1
    gradients = []
    for size in (1 << 23, 500):
        monkeypatch.setattr(tdm, "HIDDEN_AT_ONCE", size)
        model = model_with_life(variant="attention").train()
        model.encoder.own_loss(model(batch).query, targets, batch, model, np.random.default_rng(0)).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_clicks_before_the_windows_change_nothing_and_those_inside_do(variant):
    model = model_with_life(variant=variant).eval()
    batch = batch_of([12], [0], [0])
    last = batch.at(torch.tensor([11]))

    def score(changed):
        short = batch.short.clone()
        short[0, changed] = short[0, changed] % N_ITEMS + 1
        return model.score(model(replace(last, short=short)).query, model.item_vectors())

    with torch.no_grad():
        before = model.score(model(last).query, model.item_vectors())
        for place in range(12):
            assert torch.equal(score(place), before) == (place < 4)


def test_a_batch_of_one_row_takes_the_running_figures():
    model = model_with_life()
    batch = batch_of([1], [0], [0])
    with torch.no_grad():
        assert torch.equal(model.train()(batch).query, model.eval()(batch).query)


# --- loss and draws --------------------------------------------------------------------------------------------------


def path_of(model, item):
    """The nodes from below the root down to the leaf of ``item``."""
    path, node = [], int(model.encoder.leaves[item])
    while node > 1:
        path.append(node)
        node //= 2
    return path[::-1]


def node_vector(model, node):
    leaves = model.encoder.leaves.tolist()
    return model.vectors(torch.tensor(leaves.index(node))) if node >= 32 else model.encoder.nodes.weight[node]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("negatives_for", ["batch", "label"])
@pytest.mark.parametrize("n_targets", [1, 3])
def test_the_loss_equals_a_naive_one(variant, negatives_for, n_targets):
    model = model_with_life(variant=variant, negatives_for=negatives_for).eval()  # eval: layers take each row alone
    batch = batch_of([2, 5], [0, 0], [0, 0])
    rng = np.random.default_rng(4)
    targets = torch.from_numpy(rng.integers(1, N + 1, (7, n_targets)))
    targets[3, 1:] = 0  # fewer clicks follow
    queries = model(batch).query
    nodes, items = model.encoder.draw(targets, np.random.default_rng(9))
    total, count = 0.0, 0
    for point in range(7):
        own = [path_of(model, int(target)) for target in targets[point] if target]
        drawn = nodes[point % len(nodes)].tolist()
        drawn += [int(model.encoder.leaves[item]) for item in items[point % len(items)]]
        pairs = [(node, 1) for path in own for node in path]
        pairs += [(node, 0) for node in drawn if not any(node in path for path in own)]
        for node, label in pairs:
            score = model.score(queries[[point]], node_vector(model, node)[None]).item()
            total -= math.log(1 / (1 + math.exp(-score if label else score)))
        count += sum(label for _, label in pairs)
    found = model.encoder.own_loss(queries, targets, batch, model, np.random.default_rng(9))
    assert found.item() == pytest.approx(total / count, rel=1e-4)


def test_every_level_gives_its_number_of_other_nodes():
    """Levels 1 to 5 have 2, 4, 8, 16 nodes and 25 leaves; 6 leaves are drawn, 3 nodes above them, 2 further up."""
    labels = torch.arange(1, N + 1)[:, None]
    each = model_of(name="tdm", negatives_for="label").encoder
    nodes, items = each.draw(labels, np.random.default_rng(0))
    for point in range(N):
        path = {node.bit_length(): node for node in path_of_leaf(int(each.leaves[point + 1]))}
        by_level = {level: [node for node in nodes[point].tolist() if node.bit_length() == level + 1] for level in range(1, 5)}
        assert {level: len(drawn) for level, drawn in by_level.items()} == {1: 1, 2: 2, 3: 2, 4: 3}
        assert not any(path[level + 1] in drawn for level, drawn in by_level.items())
        assert len(items[point]) == 6
        assert point + 1 not in items[point].tolist()
        assert all(1 <= item <= N for item in items[point].tolist())
    shared = model_of(name="tdm").encoder
    nodes, items = shared.draw(labels, np.random.default_rng(0))
    counts = np.bincount([node.bit_length() - 1 for node in nodes[0].tolist()], minlength=5)
    assert counts.tolist() == [0, 2, 2, 2, 3]  # the root never; both nodes of level 1, of which one is the label's own
    for row, size in ((nodes, 9), (items, 6)):
        assert row.shape == (1, size)
        assert len(set(row[0].tolist())) == size


def path_of_leaf(leaf):
    return [leaf >> steps for steps in range(leaf.bit_length())]


@pytest.mark.parametrize("negatives_for", ["batch", "label"])
def test_draws_are_even_over_the_other_nodes_of_a_level(negatives_for):
    encoder = model_of(name="tdm", negatives_for=negatives_for).encoder
    labels = torch.full((3, 1), 7)
    rng, counts = np.random.default_rng(0), np.zeros(N + 1)
    for _ in range(4000):
        counts += np.bincount(encoder.draw(labels, rng)[1].flatten(), minlength=N + 1)
    others = np.delete(counts, [0] if negatives_for == "batch" else [0, 7])
    assert counts[0] == 0
    assert negatives_for == "batch" or counts[7] == 0
    assert np.abs(others / others.mean() - 1).max() < 0.15


@pytest.mark.parametrize("n_candidates", [1, 2, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_catalogues_of_a_few_items(n_candidates, variant):
    model = model_of(Sizes(N_ITEMS, n_candidates, 9), name="tdm", variant=variant).train()
    batch = batch_of([2, 3], [0, 0], [0, 0])
    queries = model(batch).query
    for negatives_for in ("batch", "label"):
        model.encoder.config.negatives_for = negatives_for
        loss = model.encoder.own_loss(queries, torch.ones((5, 1), dtype=torch.long), batch, model, np.random.default_rng(0))
        assert torch.isfinite(loss)
        assert (loss == 0) == (n_candidates == 1)


# --- the tree --------------------------------------------------------------------------------------------------------


def test_the_first_tree_goes_by_category_where_there_is_one():
    encoder = model_of(name="tdm").encoder

    def runs(row):
        in_order = encoder.items.codes[row, 1 + np.argsort(encoder.leaves[1:].numpy())]
        return len(torch.unique_consecutive(in_order)), len(torch.unique(in_order))

    assert runs(1)[0] == runs(1)[1]  # SIZES has category, then brand
    encoder = model_of(name="tdm", category="brand").encoder
    assert runs(2)[0] == runs(2)[1]
    assert runs(1)[0] > runs(1)[1]
    with pytest.raises(ConfigError, match=r"model\.category: the store has no item feature 'brnd'\. Did you mean 'brand'"):
        model_of(name="tdm", category="brnd")


def learned(model, epoch):
    with torch.no_grad():
        model.encoder.before_epoch(model, epoch)
    return model.encoder.leaves.tolist()


def test_the_tree_is_learned_between_epochs_and_nodes_start_as_means():
    model = model_with_life(tree_epochs=2)
    leaves, nodes = model.encoder.leaves.tolist(), model.encoder.nodes.weight.detach().clone()
    for epoch in (0, 1, 3):
        assert learned(model, epoch) == leaves
    assert torch.equal(model.encoder.nodes.weight, nodes)
    assert learned(model, 2) != leaves
    vectors, leaves = array(model.item_vectors()), model.encoder.leaves.tolist()
    assert leaves[0] == 0
    assert len(set(leaves)) == N + 1
    for node in range(1, 32):
        below = [item for item in range(1, N + 1) if node in path_of_leaf(leaves[item])]
        np.testing.assert_allclose(array(model.encoder.nodes.weight[node]), vectors[np.array(below) - 1].mean(axis=0), atol=1e-5)
    # siblings on the last level are nearer to each other than two items are on average
    pairs = [(leaves.index(2 * node), leaves.index(2 * node + 1)) for node in range(16, 32) if {2 * node, 2 * node + 1} <= set(leaves)]
    near = np.mean([np.square(vectors[a - 1] - vectors[b - 1]).sum() for a, b in pairs])
    assert near < 0.7 * np.square(vectors[:, None] - vectors[None]).sum(-1).mean()


def test_a_model_that_is_saved_and_loaded_learns_the_same_tree():
    model, other = model_with_life(seed=1), model_with_life(seed=2)
    other.load_state_dict(model.state_dict())
    assert learned(other, 1) == learned(model, 1)
    assert torch.equal(other.encoder.nodes.weight, model.encoder.nodes.weight)
    first = model.encoder.leaves.tolist()
    assert learned(model, 2) != first or learned(model, 3) != first  # another epoch draws other first centres
    never = model_with_life(tree_epochs=0)
    before = never.encoder.leaves.tolist()
    assert learned(never, 1) == before


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_wide_beam_finds_what_scoring_every_item_finds(variant):
    model = model_with_life(variant=variant, beam=16).eval()
    learned(model, 1)
    queries = model(batch_of([1, 12, 5], [0, 0, 0], [0, 0, 0])).query.detach().numpy()
    vectors, tree = model.item_vectors().detach().numpy(), model.encoder.item_tree()
    exclude = [np.array([1 + q, 9]) for q in range(18)]

    def scorer(some, nodes):
        with torch.no_grad():
            return model.score(torch.from_numpy(some), torch.from_numpy(nodes)).numpy()

    if variant == "attention":
        found = TreeRetriever(vectors, tree, scorer).top_k(queries, 8, exclude)
        wanted = FullScoring(scorer, vectors).top_k(queries, 8, exclude)
    else:
        found, wanted = TreeRetriever(vectors, tree).top_k(queries, 8, exclude), ExactRetriever(vectors).top_k(queries, 8, exclude)
    np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-3)
