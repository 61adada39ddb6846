"""What models share beyond their contract (test_contract.py): inputs, sizes, first weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.batches import BARE, SIZES, batch_of, model_of
from xdm.models.sdm import SDMConfig
from xdm.training.config import ObjectiveConfig
from xdm.training.steps import losses


def test_without_features_profiles_and_user_ids_a_constant_is_learned_in_their_place():
    model = model_of(BARE, unclicked={}, user_width=0)
    batch = batch_of([1, 7, 3, 7, 2], [0, 4, 1, 0, 6], [3, 0, 12, 1, 0], BARE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    labels = torch.arange(len(batch.row))[:, None] % 25 + 1
    for step in range(2):  # the constant starts at zero; only from the second step on has its weight a gradient
        optimizer.zero_grad()
        losses(model, batch, labels, ObjectiveConfig(negatives=5), np.random.default_rng(step)).total.backward()
        optimizer.step()
    assert all(weight.grad.any() for weight in model.parameters())
    assert model.encoder.users.constant.detach().abs().item() > 0


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
    from xdm.models.retrieval_model import sizes_of

    store = Store(simulated)
    catalogue = build_catalogue(store, store.time_range[1] - 4 * 86400)
    sizes = sizes_of(catalogue)
    assert (sizes.n_items, sizes.n_candidates, sizes.n_users) == (catalogue.n_items, catalogue.n_candidates, 200)
    assert sizes.features == {"category": 12, "brand": len(store.items.features["brand"].values)}
    assert sizes.profile == {"age_group": 5, "region": 4}
    assert SIZES.features.keys() == sizes.features.keys()
