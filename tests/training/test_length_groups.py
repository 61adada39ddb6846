"""Batches drawn at random and computed in groups of rows of like length: the same step, in other rows' company."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.training.test_labels_per_user import epoch_of, loop_of
from xdm.schema import ConfigError
from xdm.training.config import load_config

# All items as rivals and no dropout: what a step learns does not depend on what else its batch, or group, draws.
PLAIN = ("objective.name=softmax", "model.dropout=0", "training.batch_size=8")


def groups(n, *settings, most=0, model="sdm"):
    alone = ("model.attention_dropout=0", "model.mask_share=0") if model == "bert4rec" else ()  # nothing is drawn: each row's last
    return loop_of("rows", most, *PLAIN, *alone, f"training.length_groups={n}", *settings, model=model)


@pytest.mark.parametrize("model", ["sdm", "bert4rec"])
@pytest.mark.parametrize("most", [0, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 50])
def test_a_step_of_groups_is_the_step_of_the_whole_batch(n, most, model):
    whole, parted = groups(0, most=most, model=model), groups(n, most=most, model=model)
    which = np.sort(whole.order)[::2]  # rows that the epoch learns from; asked of both, for it draws what they keep
    assert np.array_equal(np.sort(parted.order)[::2], which)
    records = [loop._step(which) for loop in (whole, parted)]
    assert records[0]["labels"] == records[1]["labels"] >= 5
    for name in ("loss", "softmax", "gradient_norm"):
        assert records[0][name] == pytest.approx(records[1][name], rel=1e-5)
    for (name, one), other in zip(whole.model.named_parameters(), parted.model.parameters(), strict=True):
        assert one.grad is not None or other.grad is None
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7, msg=name)


def test_groups_are_of_like_length():
    loop = groups(3)
    which = np.random.default_rng(0).permutation(loop.rows.n_rows)[:10]
    parts = loop._parts(which)
    assert sorted(np.concatenate(parts).tolist()) == sorted(which.tolist())
    lengths = [loop.rows.lengths[rows] for rows in parts]
    assert all(one.max() <= other.min() for one, other in pairwise(lengths))
    assert len({len(loop.rows.batch(rows)[1]) for rows in parts}) > 1  # whose labels do not weigh the same


def test_an_epoch_asks_for_every_label_once_and_draws_its_batches_anew():
    loop = groups(2)
    every = sorted(epoch_of(loop_of("rows", 0)))
    orders = []
    for _ in range(3):
        orders.append(loop.order.tolist())
        assert sorted(epoch_of(loop)) == every
    assert len({tuple(order) for order in orders}) == 3
    batches = {frozenset(order[:8]) for order in orders}
    assert len(batches) == 3  # not the rows of one length again and again


def test_each_group_draws_for_itself_and_a_resumed_run_draws_the_same():
    """With dropout and negatives: other draws from group to group, the same from run to run."""
    drawn = ("objective.name=sampled_softmax", "objective.negatives=5", "model.dropout=0.5")
    one, same = groups(2, *drawn), groups(2, *drawn)
    one.run_epoch(lambda record: None)
    same.run_epoch(lambda record: None)
    assert all(torch.equal(a, b) for a, b in zip(one.model.state_dict().values(), same.model.state_dict().values(), strict=True))
    twice = np.array([4, 4])  # one row in both groups
    loop = groups(2, *drawn)
    found = [loop._learn(rows, part)[0]["loss"] for part, rows in enumerate(loop._parts(twice))]
    assert found[0] != found[1]


@pytest.mark.parametrize("wrong", [
    ["training.order=points"], ["training.adversarial_weight=0.5"],
])  # fmt: skip
def test_what_has_no_rows_or_no_gradient_of_its_own_is_refused(wrong):
    with pytest.raises(ConfigError, match="length_groups"):
        load_config("sdm", None, ["training.length_groups=2", *wrong])
