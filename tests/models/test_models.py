"""What every model keeps, whatever its switches: causality, indifference to padding, no NaN, and all of it trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.batches import BARE, SDM_SWITCHES, SIZES, XDM_SWITCHES, batch_of, model_of, session
from xdm.models.sdm import SDM, SDMConfig
from xdm.training.config import ObjectiveConfig
from xdm.training.steps import losses

MODELS = {
    **{f"sdm {name}": settings for name, settings in SDM_SWITCHES.items()},
    **{f"xdm {name}": {"unclicked": settings} for name, settings in XDM_SWITCHES.items()},
}
LENGTHS, LONG, UNCLICKED = [1, 7, 3, 7, 2], [0, 4, 1, 0, 6], [3, 0, 12, 1, 0]


@pytest.fixture(params=MODELS)
def model(request):
    return model_of(**MODELS[request.param]).eval()


@pytest.fixture
def batch():
    return batch_of(LENGTHS, LONG, UNCLICKED)


def queries(model, batch):
    with torch.no_grad():
        return model(batch).query


def test_one_query_a_point(model, batch):
    found = queries(model, batch)
    assert found.shape == (sum(LENGTHS), 1, 8)
    assert torch.isfinite(found).all()
    # No two points of this batch have the same state; but a product with the p of an empty list, zeros at first, is zeros.
    multiplied = isinstance(model.encoder, SDM) and model.encoder.fusion is not None and model.encoder.fusion.kind == "multiply"
    kept = found[batch.long[batch.row, 0, 0] > 0] if multiplied else found
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
        after = queries(model, replace(batch, short=short, stream=stream))
        early = batch.position < place
        assert torch.equal(after[early], before[early])
        assert not torch.equal(after[~early], before[~early])


def test_each_session_alone_gives_what_it_gives_among_longer_ones(model, batch):
    together = queries(model, batch)
    for b in range(len(LENGTHS)):
        torch.testing.assert_close(queries(model, session(batch, b)), together[batch.row == b], atol=1e-6, rtol=0)


def test_order_within_the_batch_does_not_matter(model, batch):
    points = torch.randperm(len(batch.row), generator=torch.Generator().manual_seed(0))
    mixed = replace(
        batch, row=batch.row[points], position=batch.position[points], unclicked_row=batch.unclicked_row[points],
        stream_row=batch.stream_row[points], stream_position=batch.stream_position[points],
    )  # fmt: skip
    torch.testing.assert_close(queries(model, mixed), queries(model, batch)[points], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("lengths", "long", "unclicked"),
    [([1], [0], [0]), ([1], [0], [4]), ([1, 1], [0, 0], [0, 0]), ([50], [20], [100]), ([2, 5], [3, 0], [0, 0])],
)
def test_nothing_empty_gives_nan(model, lengths, long, unclicked):
    one = batch_of(lengths, long, unclicked)
    model.train()
    loss = losses(model, one, torch.ones((sum(lengths), 1), dtype=torch.long), ObjectiveConfig(negatives=5, metric_weight=1),
                  np.random.default_rng(0))  # fmt: skip
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_unknown_users_profiles_and_features_are_zeros(model, batch):
    unknown = replace(batch, user=torch.zeros_like(batch.user), profile=torch.zeros_like(batch.profile))
    found = queries(model, unknown)
    assert torch.isfinite(found).all()
    assert torch.equal(found, queries(model, batch)) == (model.encoder.users.width == 0)
    for table in [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]:
        assert not table.weight[0].any()


def test_the_padding_rows_stay_zero_in_training(model, batch):
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        labels = torch.arange(len(batch.row))[:, None] % 25 + 1
        losses(model, batch, labels, ObjectiveConfig(negatives=5), np.random.default_rng(step)).total.backward()
        optimizer.step()
    for table in [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]:
        assert not table.weight[0].any()


def test_every_parameter_gets_a_gradient_and_moves(model, batch):
    model.train()
    # A bias that adds the same to all places of a softmax moves nothing; it shares its tensor with others that do.
    config = ObjectiveConfig(negatives=5, metric_weight=1.0, margin=4.0)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    labels = torch.arange(len(batch.row))[:, None] % 25 + 1
    losses(model, batch, labels, config, np.random.default_rng(0)).total.backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []
    optimizer.step()
    assert [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])] == []


def test_without_features_profiles_and_user_ids_a_constant_is_learned_in_their_place():
    model = model_of(BARE, unclicked={}, user_width=0)
    batch = batch_of(LENGTHS, LONG, UNCLICKED, BARE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    labels = torch.arange(len(batch.row))[:, None] % 25 + 1
    for step in range(2):  # the constant starts at zero; only from the second step on has its weight a gradient
        optimizer.zero_grad()
        losses(model, batch, labels, ObjectiveConfig(negatives=5), np.random.default_rng(step)).total.backward()
        optimizer.step()
    assert all(weight.grad.any() for weight in model.parameters())
    assert model.encoder.users.constant.detach().abs().item() > 0


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
def test_the_seed_decides_on_the_weights(settings):
    one, same, other = (model_of(seed=seed, **settings).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    random = [name for name in one if "weight" in name and "norm" not in name]
    assert not any(torch.equal(one[name], other[name]) for name in random)


def test_initial_tables_and_gates():
    model = model_of(unclicked={})
    items = model.encoder.items.tables[0].weight[1:]
    assert items.abs().max() <= 2 * 30**-0.5
    assert model.output.weight.abs().max() <= 0.1
    assert (model.unclicked.confidence.bias == 2).all()
    forget = model.encoder.recurrent.layers[0].bias_ih_l0[8:16] + model.encoder.recurrent.layers[0].bias_hh_l0[8:16]
    assert (forget == 1).all()


def test_features_are_what_the_codes_say():
    model = model_of().eval()
    items = torch.tensor([[0, 3], [7, 7]])
    parts = [
        torch.cat([model.encoder.items.tables[f].weight[model.encoder.items.codes[f, i]] for f in range(3)])
        for i in items.reshape(-1)
    ]
    assert torch.equal(model.encoder.items(items), torch.stack(parts).reshape(2, 2, -1))


def test_width_must_be_divided_by_the_heads():
    with pytest.raises(ValueError, match="width 10 cannot be divided by 4 heads"):
        SDMConfig(width=10, heads=4)


def test_sizes_are_those_of_the_catalogue(simulated):
    from xdm.data.catalogue import build_catalogue
    from xdm.log.store import Store
    from xdm.models.registry import sizes_of

    store = Store(simulated)
    catalogue = build_catalogue(store, store.time_range[1] - 4 * 86400)
    sizes = sizes_of(catalogue)
    assert (sizes.n_items, sizes.n_candidates, sizes.n_users) == (catalogue.n_items, catalogue.n_candidates, 200)
    assert sizes.features == {"category": 12, "brand": len(store.items.features["brand"].values)}
    assert sizes.profile == {"age_group": 5, "region": 4}
    assert SIZES.features.keys() == sizes.features.keys()
