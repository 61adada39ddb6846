"""Training in the order of points: every label once an epoch, in a row of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.learning import memory_store
from xdm.data.catalogue import build_catalogue
from xdm.training.config import load_config
from xdm.training.loop import Loop, new_model, training_rows

# Of each user a few sessions of one to seven clicks, a click a minute.
RNG = np.random.default_rng(0)
CLICKS = memory_store([
    [(int(RNG.integers(1, 20)), 10_000 * session + 60 * place, True, None)
     for session, length in enumerate(RNG.integers(1, 8, 4)) for place in range(length)]
    for _ in range(9)
])  # fmt: skip
UNTIL = 100_000


def loop_of(*settings, model="srgnn"):
    config = load_config(model, None, ["model.width=8", "training.batch_size=16", *settings])
    catalogue = build_catalogue(CLICKS, UNTIL)
    return Loop(new_model(config, catalogue), training_rows(CLICKS, catalogue, config, until=UNTIL), config)


@pytest.mark.parametrize("history", ["behaviours.history_max=0", "behaviours.history_max=5"])
def test_a_point_alone_is_asked_what_it_is_asked_in_its_row(history):
    loop = loop_of(history, "data.label_scope=user", "data.n_targets=2", "behaviours.stream_max=6", "training.order=points")
    rows, model = loop.rows, loop.model.eval()
    whole, targets = rows.batch(np.arange(rows.n_rows))
    labels = np.random.default_rng(1).permutation(rows.n_labels)
    alone, own = rows.points(labels)
    assert np.array_equal(own, targets[labels])
    assert np.array_equal(alone.row, np.arange(rows.n_labels))
    assert np.array_equal(alone.position, alone.short_length - 1)  # nothing stands behind the point
    for name in ("position", "time"):
        assert np.array_equal(getattr(alone, name), getattr(whole, name)[labels])
    assert np.array_equal(alone.user, whole.user[whole.row[labels]])
    for p, label in enumerate(labels):
        seen = whole.short[whole.row[label], : whole.position[label] + 1]
        assert alone.short[p, : alone.short_length[p]].tolist() == seen.tolist()
        assert not alone.short[p, alone.short_length[p] :].any()
    with torch.no_grad():
        together = model(whole.map(torch.from_numpy)).query[labels]
        torch.testing.assert_close(model(alone.map(torch.from_numpy)).query, together, atol=1e-6, rtol=0)


def test_an_epoch_asks_for_every_label_once_and_each_epoch_in_another_order():
    loop = loop_of()
    assert loop.config.training.order == "points"
    asked, sizes = [], []
    points = loop.rows.points
    loop.rows.points = lambda labels: (asked.append(labels), points(labels))[1]
    for _ in range(2):
        loop.run_epoch(lambda record: sizes.append(record["labels"]))
    n = loop.rows.n_labels
    steps = -(-n // 16)
    assert sizes == [*[16] * (steps - 1), n - 16 * (steps - 1)] * 2
    first, second = np.concatenate(asked[:steps]), np.concatenate(asked[steps:])
    assert np.array_equal(np.sort(first), np.arange(n))
    assert np.array_equal(np.sort(second), np.arange(n))
    assert not np.array_equal(first, second)


def test_a_resumed_epoch_takes_the_same_steps():
    straight, broken = loop_of(), loop_of()
    straight.run_epoch(lambda record: None)

    class Stop(Exception):
        pass

    def stop(record):
        if broken.step == 2:
            raise Stop

    with pytest.raises(Stop):
        broken.run_epoch(stop)
    broken.run_epoch(lambda record: None)
    for one, other in zip(straight.model.parameters(), broken.model.parameters(), strict=True):
        assert torch.equal(one, other)


CAUSAL = {
    "gru4rec-rows": ["model.hidden_dropout=0"], "sasrec": ["model.dropout=0", "model.heads=2"], "srgnn": [],
    "xdm": ["model.dropout=0", "model.heads=2", "unclicked.dropout=0", "model.cell=gru"],
}  # fmt: skip


@pytest.mark.parametrize("model", CAUSAL)
def test_one_step_over_all_points_is_one_step_over_all_rows(model):
    """The loss is a mean over points, so with everything in one batch the two orders learn the same: every prefix as a row of its
    own (Tan et al.'s augmentation) differs from a loss at every position by its dropout alone."""
    loops = [
        loop_of(f"training.order={order}", "training.batch_size=1000", *CAUSAL[model], model=model) for order in ("points", "rows")
    ]
    found = []
    for loop in loops:
        loop.run_epoch(lambda record: found.append(record))
    assert [record["labels"] for record in found] == [loops[0].rows.n_labels] * 2
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-6)
    assert found[0]["gradient_norm"] == pytest.approx(found[1]["gradient_norm"], rel=1e-5)
