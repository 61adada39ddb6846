"""Equal examples per user: at most so many labels of each user an epoch, drawn anew, in either order of training."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.learning import memory_store
from xdm.data.catalogue import build_catalogue
from xdm.schema import ConfigError
from xdm.training.config import load_config
from xdm.training.loop import Loop, new_model, training_rows

# Users of 2, 5, 9 … clicks in sessions of a few, a click a minute.
RNG = np.random.default_rng(0)
CLICKS = memory_store([
    [(int(RNG.integers(1, 20)), 10_000 * (place // 4) + 60 * place, True, None) for place in range(clicks)]
    for clicks in (2, 5, 9, 14, 30, 3)
])  # fmt: skip
UNTIL = 1_000_000


SMALL = {
    "sdm": ["model.width=8", "model.heads=2", "model.item_width=4", "model.feature_width=2"],
    "bert4rec": ["model.width=8", "model.heads=2", "model.inner=8"],
}  # fmt: skip


def loop_of(order, most, *settings, model="sdm"):
    config = load_config(model, None, [
        *SMALL[model], "training.batch_size=4",
        f"training.order={order}", f"data.labels_per_user={most}", *settings,
    ])  # fmt: skip
    catalogue = build_catalogue(CLICKS, UNTIL)
    return Loop(new_model(config, catalogue), training_rows(CLICKS, catalogue, config, until=UNTIL), config)


def epoch_of(loop):
    """What one epoch asks for: (user, time of the question, label)."""
    asked, inputs = [], loop._inputs

    def watched(*which):
        batch, labels, h = inputs(*which)
        asked.extend(zip(batch.user[batch.row].tolist(), batch.time.tolist(), labels[:, 0].tolist(), strict=True))
        return batch, labels, h

    loop._inputs = watched
    loop.run_epoch(lambda record: None)
    loop._inputs = inputs
    return asked


@pytest.mark.parametrize("order", ["rows", "points"])
def test_no_user_has_more_labels_than_asked_for_and_all_that_there_are_up_to_it(order):
    every = Counter(user for user, _, _ in epoch_of(loop_of(order, 0)))
    assert max(every.values()) > 20
    loop = loop_of(order, 3)
    epochs = [epoch_of(loop) for _ in range(8)]
    for asked in epochs:
        assert Counter(user for user, _, _ in asked) == Counter({user: min(count, 3) for user, count in every.items()})
        assert len(set(asked)) == len(asked)
    assert len({frozenset(asked) for asked in epochs}) > 1  # drawn anew
    whole = set(epoch_of(loop_of(order, 0)))
    assert set().union(*epochs) <= whole
    busiest = max(every, key=every.get)
    drawn = Counter(label for asked in epochs for label in asked if label[0] == busiest)
    assert len(drawn) > 12  # 24 draws of some 29 labels, not always the same ones


def test_both_orders_draw_the_same_labels():
    assert sorted(epoch_of(loop_of("rows", 2))) == sorted(epoch_of(loop_of("points", 2)))


@pytest.mark.parametrize("order", ["rows", "points"])
def test_a_resumed_epoch_takes_the_same_steps(order):
    straight, broken = loop_of(order, 3), loop_of(order, 3)
    straight.run_epoch(lambda record: None)
    straight.run_epoch(lambda record: None)
    broken.run_epoch(lambda record: None)
    resumed = loop_of(order, 3)
    resumed.model.load_state_dict(broken.model.state_dict())
    resumed.optimizer.load_state_dict(broken.optimizer.state_dict())
    resumed.epoch, resumed.batch, resumed.step = broken.epoch, broken.batch, broken.step
    resumed.run_epoch(lambda record: None)
    for name, weight in straight.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_more_than_anyone_has_changes_nothing():
    plain, capped = loop_of("rows", 0), loop_of("rows", 1000)
    plain.run_epoch(lambda record: None)
    capped.run_epoch(lambda record: None)
    assert all(torch.equal(a, b) for a, b in zip(plain.model.state_dict().values(), capped.model.state_dict().values(), strict=True))


def test_session_parallel_is_refused():
    with pytest.raises((ConfigError, ValidationError), match=r"data\.labels_per_user draws labels"):
        load_config("gru4rec", None, ["data.labels_per_user=5"])
