"""Privileged information: what a teacher reads, what it says, and that nothing of the future beyond the training part is in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.test_run import Killed, kill_after, same_files, train
from xdm.console import Progress
from xdm.data.catalogue import build_catalogue
from xdm.data.reversed_clicks import turned_round
from xdm.evaluation.held_back import StoreUntil
from xdm.log.store import Events, Store
from xdm.schema import ConfigError
from xdm.training.config import load_config
from xdm.training.item2vec import item2vec
from xdm.training.loop import Loop, new_model, training_rows
from xdm.training.parts import parts_of
from xdm.training.steps import losses, seed_step
from xdm.training.teaching import teacher_of

HISTORY = 6
TAUGHT = (
    "training.teacher_weight=0.4", "training.teacher_temperature=2", "training.teacher_epochs=1", "behaviours.unclicked_k=0",
    f"behaviours.history_max={HISTORY}", "training.batch_size=32", "training.learning_rate=0.01",
)  # fmt: skip


def config_of(model, *settings):
    return load_config(model, None, ["objective.negatives=20", *TAUGHT, *settings])


def loop_of(path, model="sasrec", *settings, store=None):
    config = config_of(model, "data.label_scope=user", *settings)
    store = store or Store(path)
    parts = parts_of(Store(path), config.split)
    catalogue = build_catalogue(store, parts.until)
    teacher = teacher_of(store, catalogue, config, parts.until, Progress(quiet=True))
    return Loop(
        new_model(config, catalogue), training_rows(store, catalogue, config, until=parts.until), config, teacher
    )


users = st.lists(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 40), st.booleans()), max_size=8), max_size=5)


@given(users, st.integers(0, 45))
def test_clicks_turned_round_are_those_before_the_end_last_first(logs, until):
    logs = [sorted(log, key=lambda event: event[1]) for log in logs]
    flat = [event for log in logs for event in log]
    columns = list(zip(*flat, strict=True)) if flat else [(), (), ()]
    events = Events(
        np.array(columns[0], np.int32), np.array(columns[1], np.int64), np.array(columns[2], np.bool_),
        np.arange(len(flat), dtype=np.int32), np.cumsum([0] + [len(log) for log in logs]),
    )  # fmt: skip
    turned = turned_round(events, until)
    numbers = iter(range(len(flat)))
    expected = [[(*event, next(numbers)) for event in log] for log in logs]
    for row, log in enumerate(expected):
        own = turned.of_user(row)
        found = list(zip(own.item.tolist(), own.time.tolist(), own.session.tolist(), strict=True))
        assert found == [
            (item, until - 1 - time, n) for item, time, clicked, n in reversed(log) if clicked and time < until
        ]
    assert turned.clicked.all()
    assert (np.diff(turned.time) >= 0)[np.diff(np.repeat(np.arange(len(logs)), np.diff(turned.offsets))) == 0].all()


def test_of_every_label_it_reads_what_followed_and_neither_the_label_nor_what_is_beyond_the_training_part(simulated):
    loop = loop_of(simulated)
    store, until = Store(simulated), parts_of(Store(simulated), loop.config.split).until
    mapping = build_catalogue(store, until).of_store
    clicks = {}
    for first, events in store.parts():
        for row in range(len(events.offsets) - 1):
            own = events.of_user(row)
            clicks[first + row + 1] = [
                (int(mapping[item]), int(time))
                for item, time, clicked in zip(own.item, own.time, own.clicked, strict=True) if clicked and time < until
            ]  # fmt: skip
    row, time, item = loop.rows.labels
    lessons, spoken = loop._lessons, 0
    for label in range(0, loop.rows.n_labels, 7):
        user = int(loop.rows.users[row[label]])
        assert (int(item[label]), int(time[label])) in clicks[user]
        after = [one for one, at in clicks[user] if at > time[label]]
        number = lessons.label_of[label]
        assert (number >= 0) == bool(after)
        if number >= 0:
            batch, target = lessons.teacher.rows.points(np.array([number]))
            assert target[0, 0] == item[label]
            read = batch.short[0, : batch.position[0] + 1].tolist()
            assert read == after[::-1][-len(read) :]  # the click right after the label last
            assert 1 <= len(read) <= HISTORY
            spoken += 1
    assert spoken > 50


def test_what_happens_after_the_training_part_changes_nothing(simulated):
    until = parts_of(Store(simulated), config_of("sasrec").split).until
    whole, cut = loop_of(simulated), loop_of(simulated, store=StoreUntil(simulated, until))
    for one, other in zip(whole.teacher.model.parameters(), cut.teacher.model.parameters(), strict=True):
        assert torch.equal(one, other)


def lesson_of(loop, which):
    batch, labels, _ = loop._inputs(which)
    return batch, labels, loop._lessons.of(loop._numbers(which))


@pytest.mark.parametrize("weight", [0.4, 1.0])
@pytest.mark.parametrize("model", ["sasrec", "comirec", "bert4rec", "stamp", "xdm"])
def test_of_each_point_that_it_speaks_of_its_word_has_its_share_and_of_others_none(simulated, model, weight):
    loop = loop_of(simulated, model, f"training.teacher_weight={weight}", "objective.name=softmax")
    loop.model.eval()  # no dropout: the scores below are those of the loss
    batch, labels, lesson = lesson_of(loop, loop.order[:16])
    assert 0 < lesson.known.sum() < len(lesson.known)  # both kinds
    torch.testing.assert_close(lesson.probabilities.sum(1), torch.ones(len(lesson.probabilities)))
    found = losses(
        loop.model, batch, labels, loop.config.objective, seed_step(1, 0), None, loop.objective, lesson
    ).softmax.item()
    points, targets, known, taught = batch, labels, lesson.known, lesson.probabilities
    rng = seed_step(1, 0)
    if (kept := loop.model.encoder.trained(batch, rng)) is not None:
        points, targets, taught, known = batch.at(kept), labels[kept], taught[kept[known]], known[kept]
    with torch.no_grad():
        queries, vectors = loop.model(points).query.double(), loop.model.item_vectors().double()
        if (extra := loop.model.encoder.extra(points, rng)) is not None:  # what it masks beside the points has no lesson
            more = loop.model.scoring.queries(extra[0]).double()
            queries, asked = torch.cat([queries, more]), torch.cat([targets[:, 0], extra[1]])
        else:
            asked = targets[:, 0]
    said, terms = iter(taught.double()), []
    for place, label in enumerate(asked.tolist()):
        by_interest = vectors @ queries[place].T  # [n, K]
        scores = by_interest[:, by_interest[label - 1].argmax()]
        log_p = (scores - torch.log(torch.exp(scores).sum())).numpy()
        if place < len(known) and known[place]:
            terms.append((1 - weight) * -log_p[label - 1] - weight * (next(said).numpy() * log_p).sum())
        else:
            terms.append(-log_p[label - 1])
    assert (extra is not None) == (model == "bert4rec")
    assert found == pytest.approx(np.mean(terms), rel=1e-4)


def test_what_it_says_is_its_own_models_softmax_at_its_temperature(simulated):
    loop = loop_of(simulated)
    labels = np.arange(0, loop.rows.n_labels, 11)
    lesson, teacher = loop._lessons.of(labels), loop.teacher
    own = loop._lessons.label_of[labels]
    assert np.array_equal(lesson.known.numpy(), own >= 0)
    with torch.no_grad():
        batch, _ = teacher.rows.points(own[own >= 0])
        scores = teacher.model(batch.map(torch.from_numpy)).query[:, 0] @ teacher.model.item_vectors().T
    torch.testing.assert_close(lesson.probabilities, torch.exp(scores / 2) / torch.exp(scores / 2).sum(1, keepdim=True))
    sharper = replace(loop._lessons, teacher=replace(teacher, temperature=0.5)).of(labels).probabilities
    assert (sharper.amax(1) > lesson.probabilities.amax(1)).all()


def test_where_the_teacher_has_the_whole_say_the_label_has_none(simulated):
    loop = loop_of(simulated, "sasrec", "training.teacher_weight=1")
    loop.model.eval()
    which = loop.order[:16]
    batch, labels, lesson = lesson_of(loop, which)
    asked = lesson.known
    batch, labels, lesson = batch.at(asked), labels[asked], replace(lesson, known=asked[asked])
    others = 1 + labels % loop.model.sizes.n_candidates

    def total(targets):
        return losses(
            loop.model, batch, targets, loop.config.objective, seed_step(1, 0), None, loop.objective, lesson
        ).softmax

    assert total(labels).item() == pytest.approx(total(others).item(), rel=1e-6)


@pytest.mark.parametrize("settings", [(), ("training.order=points",), ("data.labels_per_user=2",)])
def test_each_point_is_told_of_its_own_label(simulated, settings):
    loop = loop_of(simulated, "sasrec", *settings)
    _, time, item = loop.rows.labels
    for begin in range(0, 96, 32):
        which = loop.order[begin : begin + 32]
        batch, labels, _ = loop._inputs(which)
        numbers = loop._numbers(which)
        assert np.array_equal(item[numbers], labels[:, 0].numpy())
        assert np.array_equal(time[numbers], batch.time.numpy())


def test_killed_and_gone_on_with_it_comes_to_the_same_bits(simulated, tmp_path, monkeypatch):
    settings = ("training.teacher_weight=0.5", "training.teacher_epochs=1", "training.checkpoint_steps=3")
    whole = train(simulated, tmp_path / "whole", *settings)
    plain = train(simulated, tmp_path / "plain")
    assert not same_files(tmp_path / "whole", tmp_path / "plain")["weights.safetensors"]
    teachers = whole["steps"] // 2
    with monkeypatch.context() as patch:
        kill_after(patch, teachers + teachers + 5)  # some steps are the teacher's
        with pytest.raises(Killed):
            train(simulated, tmp_path / "killed", *settings)
    train(simulated, tmp_path / "killed", *settings, resume=True)
    assert all(same_files(tmp_path / "whole", tmp_path / "killed").values())
    assert plain["labels"] == whole["labels"]


def test_a_teacher_begins_with_the_pretrained_vectors_that_it_may_not_move(simulated):
    loop = loop_of(
        simulated, "sasrec", "item_vectors.pretrained=item2vec", "item_vectors.frozen=true", "item_vectors.features=false",
        "model.tie_item_embedding=false",
    )  # fmt: skip
    own = loop.teacher.rows.log
    expected = item2vec(
        own.clicks, len(own.catalogue.clicks), own.catalogue.n_items, loop.model.encoder.width, loop.config.item_vectors.item2vec,
        loop.config.training.seed,
    )  # fmt: skip
    table = loop.teacher.model.item_table.weight.detach().numpy()
    np.testing.assert_array_equal(table, expected[: len(table)])


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("lrml", "LRML has a loss of its own"), ("tdm", "TDM has a loss of its own"),
        ("masr", r"training\.teacher_weight needs scores that are inner products"),
    ],
)  # fmt: skip
def test_what_cannot_be_taught_is_refused_before_any_step(simulated, model, complaint, monkeypatch):
    monkeypatch.setattr(Loop, "run_epoch", None)  # not one
    with pytest.raises(ConfigError, match=complaint):
        loop_of(simulated, model)


def test_live_sessions_cannot_be_taught():
    with pytest.raises(ConfigError, match="session_parallel"):
        load_config("gru4rec", None, ["training.teacher_weight=0.5"])
