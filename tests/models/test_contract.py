"""What every model keeps, with and without the unclicked extension, whatever its switches.

A new model is under this contract as soon as it stands in `MODELS`; its settings need an alternative in `tests/models/settings/`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.batches import (
    XDM_SWITCHES,
    batch_of,
    last_points,
    model_of,
    session,
)
from tests.models.settings import ALTERNATIVES, SDM_SWITCHES, SESSION_SWITCHES, SMALL_MODELS
from xdm.bundle.format import EXACT, SCORED, TREE
from xdm.bundle.reading import OnnxTower, read_index
from xdm.bundle.writing import export_tower, torch_retriever, torch_tower, write_index
from xdm.models.registry import MODELS
from xdm.models.shared.inputs import NoUserInputs
from xdm.models.transrec import TransRec
from xdm.models.unclicked import UnclickedConfig
from xdm.schema import ConfigError
from xdm.training.config import ObjectiveConfig
from xdm.training.steps import losses

ENTRIES = {
    **{name: {"name": name} for name in MODELS},
    **{f"xdm({name})": {"name": name, "unclicked": {}} for name in MODELS},
}
SESSIONS = {**SESSION_SWITCHES, **{f"xdm({name})": {**settings, "unclicked": {}} for name, settings in SESSION_SWITCHES.items()}}
CASES = {
    **ENTRIES, **SESSIONS,
    **{f"sdm {name}": settings for name, settings in SDM_SWITCHES.items()},
    **{f"xdm {name}": {"unclicked": settings} for name, settings in XDM_SWITCHES.items()},
}  # fmt: skip
LENGTHS, LONG, UNCLICKED = [1, 7, 3, 7, 2], [0, 4, 1, 0, 6], [3, 0, 12, 1, 0]


@pytest.fixture(params=CASES)
def model(request):
    return model_of(**CASES[request.param]).eval()


@pytest.fixture
def batch():
    return batch_of(LENGTHS, LONG, UNCLICKED)


def queries(model, batch):
    with torch.no_grad():
        return model(batch).query


def trained_on(model, batch, steps, rate=0.01):
    """The gradients and, in ``model``, the weights after ``steps`` of Adam on made-up labels."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    labels = torch.arange(len(batch.row))[:, None] % 25 + 1
    config = ObjectiveConfig(negatives=5, metric_weight=1.0, margin=4.0)
    for step in range(steps):
        optimizer.zero_grad()
        losses(model, batch, labels, config, np.random.default_rng(step)).total.backward()
        optimizer.step()


def test_queries_of_the_promised_shape_and_no_two_alike(model, batch):
    found = queries(model, batch)
    assert found.shape == (sum(LENGTHS), model.encoder.interests, model.item_vectors().shape[1])
    assert torch.isfinite(found).all()
    # A product with the p of an empty list, which is zeros at first, is zeros.
    multiplied = getattr(getattr(model.encoder, "fusion", None), "kind", None) == "multiply"
    kept = found[batch.long[batch.row, 0, 0] > 0] if multiplied else found
    if isinstance(model.encoder, TransRec):  # from the last click alone, until training gives users ways of their own
        _, first = np.unique(batch.short[batch.row, batch.position], return_index=True)
        kept = found[first]
    assert len(torch.unique(kept, dim=0)) == len(kept)


def test_later_items_change_no_earlier_query(model, batch):
    before = queries(model, batch)
    for place in range(1, 7):
        short = batch.short.clone()
        inside = torch.arange(7) < batch.short_length[:, None]
        short[:, place:] = torch.where(inside[:, place:], short[:, place:] % 30 + 1, 0)
        stream = batch.stream.clone()  # two exposures for each click
        shown = torch.arange(14) < 2 * batch.short_length[:, None]
        stream[:, 2 * place :] = torch.where(shown[:, 2 * place :], stream[:, 2 * place :] % 30 + 1, 0)
        changed = replace(batch, short=short, stream=stream)
        after = queries(model, changed)
        early = batch.position < place
        assert torch.equal(after[early], before[early])
        assert not torch.equal(after[~early], before[~early])
        sessions = batch.short_session.clone()  # one more session rounds the sums of those that read them in another order
        sessions[:, place:] = torch.where(inside[:, place:], sessions[:, place:] + 1, 0)
        after = queries(model, replace(changed, short_session=sessions))
        torch.testing.assert_close(after[early], before[early], atol=1e-6, rtol=1e-6)


def test_each_session_alone_gives_what_it_gives_among_longer_ones(model, batch):
    together = queries(model, batch)
    for b in range(len(LENGTHS)):
        torch.testing.assert_close(queries(model, session(batch, b)), together[batch.row == b], atol=1e-6, rtol=1e-6)


def test_order_within_the_batch_does_not_matter(model, batch):
    points = torch.randperm(len(batch.row), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(queries(model, batch.at(points)), queries(model, batch)[points], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("lengths", "long", "unclicked"),
    [([1], [0], [0]), ([1], [0], [4]), ([1, 1], [0, 0], [0, 0]), ([50], [20], [100]), ([2, 5], [3, 0], [0, 0])],
)
def test_nothing_empty_gives_nan(model, lengths, long, unclicked):
    one = batch_of(lengths, long, unclicked)
    model.train()
    targets = torch.ones((sum(lengths), 1), dtype=torch.long)
    loss = losses(model, one, targets, ObjectiveConfig(negatives=5, metric_weight=1), np.random.default_rng(0))
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_unknown_users_profiles_and_features_are_zeros(model, batch):
    trained_on(model.train(), batch, 1)  # before, some models know no user either
    model.eval()
    unknown = replace(batch, user=torch.zeros_like(batch.user), profile=torch.zeros_like(batch.profile))
    found = queries(model, unknown)
    assert torch.isfinite(found).all()
    # An encoder without user inputs is declared as such; to any other the user matters.
    assert torch.equal(found, queries(model, batch)) == isinstance(model.encoder.users, NoUserInputs)


def test_the_padding_rows_stay_zero_in_training(model, batch):
    trained_on(model.train(), batch, 3, rate=0.1)
    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    assert tables
    assert not any(table.weight[0].any() for table in tables)


def test_every_parameter_gets_a_gradient_and_moves(model, batch):
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trained_on(model.train(), batch, 1)
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []
    assert [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])] == []


@pytest.mark.parametrize("settings", ENTRIES.values(), ids=ENTRIES)
def test_learns_the_labels_of_a_batch(settings, batch):
    """A few steps without dropout: labels, against the average item, are scored higher than before."""
    model = model_of(**settings).eval()
    labels = torch.arange(len(batch.row)) % 25
    trained = model.encoder.trained(batch, np.random.default_rng(0))
    trained = torch.ones(len(batch.row), dtype=torch.bool) if trained is None else trained

    def lead(found):
        scores = model.score(found, model.item_vectors()).detach()
        return float((scores[torch.arange(len(labels)), labels] - scores.mean(dim=1))[trained].mean())

    before = lead(queries(model, batch))
    trained_on(model, batch, 20, rate=0.03)
    assert lead(queries(model, batch)) > before + 0.5


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_the_seed_decides_on_the_weights(settings):
    one, same, other = (model_of(seed=seed, **settings).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    # norms start at one, biases at zero, and the map that pushes skipped items away at a share of the identity
    fixed = ("norm", "bias", "fuse")
    random = [name for name in one if "weight" in name and not any(part in name for part in fixed) and one[name].any()]
    assert not any(torch.equal(one[name], other[name]) for name in random)


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_saved_weights_make_the_same_model(settings, batch, tmp_path):
    model, other = model_of(seed=1, **settings).eval(), model_of(seed=2, **settings).eval()
    trained_on(model, batch, 1)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    assert not torch.equal(queries(other, batch), queries(model, batch))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(queries(other, batch), queries(model, batch))
    assert torch.equal(other.item_vectors(), model.item_vectors())


@pytest.mark.parametrize("settings", ENTRIES.values(), ids=ENTRIES)
def test_dropout_and_the_same_steps_are_the_same_bits(settings, batch):
    weights = []
    for _ in range(2):
        model = model_of(**settings).train()
        torch.manual_seed(7)
        trained_on(model, batch, 3)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weight) for name, weight in weights[1].items())


# session, long-term and unclicked lengths of each session; batches of 1, 3 and 8
SHAPES = [
    ([1], [0], [0]), ([50], [20], [100]), ([2, 50, 7], [0, 0, 0], [0, 0, 0]), ([5, 1, 3], [20, 0, 4], [2, 0, 100]),
    ([1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 4, 5, 6, 7], [9, 0, 7, 0, 5, 0, 3, 0]),
]  # fmt: skip
EXPORTED = {**ENTRIES, **SESSIONS}  # SDM's and XDM's own switches: tests/bundle/test_tower.py


@pytest.mark.parametrize("settings", EXPORTED.values(), ids=EXPORTED)
def test_the_exported_graph_answers_as_the_model(settings, tmp_path):
    model = model_of(**settings)
    with torch.no_grad():
        for weight in model.parameters():  # weights of a trained model are not small
            weight.add_(torch.randn_like(weight) * 0.3)
    export_tower(model, tmp_path / "tower.onnx")
    tower = OnnxTower(tmp_path / "tower.onnx", threads=1)
    for shape in SHAPES:
        points = last_points(*shape)
        found, wanted = tower(points), torch_tower(model, points)
        assert found.shape == wanted.shape == (len(shape[0]), model.encoder.interests, model.item_vectors().shape[1])
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("settings", EXPORTED.values(), ids=EXPORTED)
def test_the_index_of_a_bundle_answers_as_brute_force_over_the_model_s_own_scores(settings, batch, tmp_path):
    model = model_of(**settings).eval()
    found = queries(model, batch)
    with torch.no_grad():
        scores = model.score(found, model.item_vectors()).numpy()  # [P, N]
    exclude = [np.array([1 + p % 25, 1 + 3 * p % 25]) for p in range(len(scores))]
    for p, excluded in enumerate(exclude):
        scores[p, excluded - 1] = -np.inf
    manifest = {**write_index(model, tmp_path), "files": {file.name: "" for file in tmp_path.iterdir()}}
    kinds = {"inner product": EXACT, "scoring every pair": SCORED, "beam search over a tree": TREE}
    assert manifest["index"] == kinds[MODELS[settings.get("name", "sdm")].retrieved]
    index = read_index(tmp_path, manifest, threads=1)
    top_scores, top_items = index.top_k(found.numpy(), 10, exclude)
    if manifest["index"] != TREE:  # a beam may lose some; as wide as the tree it loses none: tests/bundle/test_tree_index.py
        np.testing.assert_allclose(top_scores, -np.sort(-scores, axis=1)[:, :10], atol=1e-4, rtol=1e-5)
    of_items = np.take_along_axis(scores, top_items.astype(np.int64) - 1, axis=1)
    np.testing.assert_allclose(of_items, top_scores, atol=1e-4, rtol=1e-5)
    assert all(len(set(row)) == 10 for row in top_items.tolist())


UNCLICKED_ALTERNATIVES = {
    "items": ({}, "input"), "pooling": ({}, "mean"), "user_query": ({}, True), "heads": ({"pooling": "self_attention"}, 2),
    "fusion": ({}, "gate"), "confidence": ({}, -2.0), "dropout": ({}, 0.4),
}  # fmt: skip


def seen_of(batch, **settings):
    """What a setting may change: the weights, and in training, with the same dropout, the queries, the loss and its gradients; what
    stands after an epoch, and what a search finds then."""
    model = model_of(**settings).train()
    labels = torch.arange(len(batch.row))[:, None] % 25 + 1
    with torch.no_grad():
        first = {name: value.clone() for name, value in model.state_dict().items()}
        torch.manual_seed(3)
        query = model(batch).query
    torch.manual_seed(3)
    loss = losses(model, batch, labels, ObjectiveConfig(negatives=5, metric="none"), np.random.default_rng(3))
    loss.total.backward()
    gradients = {f"gradient {name}": weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    with torch.no_grad():
        model.encoder.after_step(model)
        model.encoder.before_epoch(model, 1)
        later = {f"later {name}": value for name, value in model.state_dict().items()}
        found = torch_retriever(model.eval()).top_k(query.numpy(), 3)[1]
        return {**first, "query": query, "loss": loss.total, **gradients, **later, "found": torch.from_numpy(found)}


def differ(one, other):
    return one.keys() != other.keys() or any(
        one[name].shape != other[name].shape or not torch.equal(one[name], other[name]) for name in one
    )


def test_no_model_and_no_setting_is_left_out():
    for name, entry in MODELS.items():
        assert ALTERNATIVES[name].keys() == entry.config.model_fields.keys() - {"name"}, name
        assert name in SMALL_MODELS or name == "sdm_actions"
    assert UNCLICKED_ALTERNATIVES.keys() == UnclickedConfig.model_fields.keys() - {"enabled"}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in ALTERNATIVES.items() for key in keys])
def test_every_setting_of_a_model_changes_something(name, key, batch):
    base, value = ALTERNATIVES[name][key]
    assert differ(seen_of(batch, name=name, **base), seen_of(batch, name=name, **{**base, key: value}))


@pytest.mark.parametrize("key", UNCLICKED_ALTERNATIVES)
@pytest.mark.parametrize("name", ["sdm", "comirec"])
def test_every_setting_of_the_extension_changes_something(name, key, batch):
    base, value = UNCLICKED_ALTERNATIVES[key]
    if key == "user_query" and name == "comirec":
        with pytest.raises(ConfigError, match=r"unclicked\.user_query: this encoder reads nothing of the user"):
            model_of(name=name, unclicked={key: value})
        return
    plain, changed = (seen_of(batch, name=name, unclicked=one) for one in (base, {**base, key: value}))
    assert differ(plain, changed)
    assert not differ(plain, seen_of(batch, name=name, unclicked=base))
