"""The session-parallel order: its schedule by the authors' rule in a plain loop, its states against whole sessions, its runs."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.learning import SMALL, losses_of, memory_store
from xdm.data.catalogue import build_catalogue
from xdm.folders import file_sha256
from xdm.log.store import Store
from xdm.objectives.samplers import sampler_of
from xdm.schema import ConfigError
from xdm.training.config import load_config
from xdm.training.loop import Loop, new_model, training_rows
from xdm.training.run import Run
from xdm.training.session_parallel import schedule
from xdm.training.steps import seed_step

# Widths alone: what else `SMALL` sets are settings of SDM.
SESSION_PARALLEL = (
    "training.order=session_parallel", "training.threads=1", "training.batch_size=4", "model.width=8", "model.hidden_dropout=0",
    "training.epochs=2", "objective.negatives=20",
)  # fmt: skip


def steps_of(lengths, started, slots):
    """What the authors do, step by step: ``[[(slot, row, position) …] …]``."""
    order = sorted(range(len(lengths)), key=lambda row: (started[row], row))
    live = {slot: [row, 0] for slot, row in enumerate(order[:slots])}
    coming, steps = order[slots:], []
    while live:
        steps.append([(slot, row, position) for slot, (row, position) in sorted(live.items())])
        for slot in sorted(live):
            live[slot][1] += 1
            if live[slot][1] == lengths[live[slot][0]]:
                if coming:
                    live[slot] = [coming.pop(0), 0]
                else:
                    del live[slot]
    return steps


@settings(max_examples=100, deadline=None)
@given(
    sessions=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), min_size=1, max_size=40), slots=st.integers(1, 8)
)
def test_slots_take_the_sessions_in_the_order_of_their_start(sessions, slots):
    lengths, started = (np.array(column, np.int64) for column in zip(*sessions, strict=True))
    plan = schedule(lengths, started, slots)
    found = [list(zip(*(part.tolist() for part in plan.step(s)), strict=True)) for s in range(plan.steps)]
    assert found == steps_of(lengths, started, slots)


def loop_over(users, *settings, name="gru4rec", min_clicks=1):
    """A loop over a store in memory."""
    store, config = memory_store(users), load_config(name, None, [*SESSION_PARALLEL, *settings])
    until = 1 + max(event[1] for user in users for event in user)
    catalogue = build_catalogue(store, until, min_clicks)
    return Loop(new_model(config, catalogue), training_rows(store, catalogue, config, until=until), config)


event = st.tuples(st.integers(1, 12), st.integers(0, 4000), st.booleans(), st.none())
log = st.lists(st.lists(event, max_size=20), min_size=1, max_size=6)


def asked(batch, targets, queries):
    """Every question of a batch: ``(user, time, targets, unclicked sequence, query)``."""
    for p, row in enumerate(batch.row.tolist()):
        unclicked = batch.unclicked[batch.unclicked_of == batch.unclicked_row[p]].tolist()
        yield (int(batch.user[row]), int(batch.time[p]), tuple(targets[p].tolist()), tuple(unclicked)), queries[p, 0].tolist()


@settings(max_examples=20, deadline=None)
@given(users=log, scope=st.sampled_from(["user", "session"]), layers=st.sampled_from(["[]", "[6]"]))
def test_carried_states_are_those_of_whole_sessions(users, scope, layers):
    """With the weights held still an epoch asks the questions of all rows, with the queries that whole rows have: clicks
    of one second, labels that cannot be recommended, sessions that others replace in their slots, none changes that."""
    users = [*users, [(1, 0, True, None), (2, 1, True, None), (1, 2, True, None)]]
    loop = loop_over(users, f"data.label_scope={scope}", f"model.lower_layers={layers}", "unclicked.enabled=true", min_clicks=2)
    rows, encoder = loop.rows, loop.model.encoder.eval()
    with torch.no_grad():
        whole, targets = rows.batch(np.arange(rows.n_rows))
        whole, targets = whole.map(torch.from_numpy), torch.from_numpy(targets)
        wanted = sorted(asked(whole, targets, encoder.encode(whole)))
        for _ in range(2):  # the second epoch begins where the first one's states lie about
            found = sorted(one for number in range(loop.live.steps) for one in asked(*loop.live.step(number)))
            assert [one for one, _ in found] == [one for one, _ in wanted]
            np.testing.assert_allclose([query for _, query in found], [query for _, query in wanted], atol=1e-6)


USERS = [
    [(1 + (7 * user + 3 * place * place) % 11, 5000 * (user % 5) + 10 * place, True, None) for place in range(clicks)]
    for user, clicks in enumerate([2, 3, 4, 5, 2, 3, 4, 5, 2, 9, 4, 5, 2, 3])  # the last to begin is the longest
]  # fmt: skip


def test_no_gradient_reaches_the_click_before():
    """After the last step's loss only the items of that step have gradients; through whole sessions all of them would."""
    loop = loop_over(USERS, "model.bias=false", "model.tie_item_embedding=false", "model.item_width=8")
    for number in range(3):
        batch, _, queries = loop.live.step(number)
    queries.sum().backward()
    touched = loop.model.encoder.items.tables[0].weight.grad.any(dim=1).nonzero()[:, 0].tolist()
    assert set(touched) == set(batch.short[:, 0].tolist())
    assert all(not state.requires_grad for state in loop.live.states)


def test_every_epoch_takes_the_sessions_in_the_order_of_time(monkeypatch):
    """They are not shuffled: the last updates are of the newest sessions."""
    loop = loop_over(USERS)
    taken, clicks = [], loop.rows.clicks
    monkeypatch.setattr(loop.rows, "clicks", lambda rows, positions: taken.append((rows, positions)) or clicks(rows, positions))
    begun = []
    for _ in range(2):
        taken.clear()
        loop.run_epoch(lambda record: None)
        assert len(taken) == loop.batches_an_epoch
        begun.append([row for rows, positions in taken for row in rows[positions == 0].tolist()])
        assert Counter(begun[-1]) == Counter(range(loop.rows.n_rows))
    assert begun[0] == begun[1]
    assert (np.diff(loop.rows.started[begun[0]]) >= 0).all()


def test_an_interrupted_run_gives_the_same_bits(simulated, tmp_path, monkeypatch):
    """Killed in mid-epoch: the carried states are part of the checkpoint."""
    chosen = [
        *SESSION_PARALLEL, "training.checkpoint_steps=7", "training.batch_size=16", "model.hidden_dropout=0.3",
        "unclicked.enabled=true", "training.optimizer=adagrad_momentum", "training.momentum=0.3", "training.learning_rate=0.1",
    ]  # fmt: skip

    def run(name, resume=False):
        return Run(Store(simulated), load_config("gru4rec", None, chosen), tmp_path / name).train(resume=resume)

    whole = run("whole")
    assert 3 * whole["steps"] // 4 - whole["steps"] // 2 > 7  # there is a checkpoint in mid-epoch
    step, done = Loop._step, []

    def counted(self, which):
        done.append(0)
        if len(done) == 3 * whole["steps"] // 4:
            raise KeyboardInterrupt
        return step(self, which)

    monkeypatch.setattr(Loop, "_step", counted)
    with pytest.raises(KeyboardInterrupt):
        run("killed")
    run("killed", resume=True)
    for name in ("weights.safetensors", "item_vectors.npy", "steps.jsonl", "tower.onnx"):
        assert file_sha256(tmp_path / "whole" / name) == file_sha256(tmp_path / "killed" / name)
    losses = [line["softmax"] for line in losses_of(tmp_path / "whole" / "steps.jsonl")]
    assert np.mean(losses[-20:]) < np.mean(losses[:20])


def test_a_click_that_nothing_is_asked_after_moves_the_states_and_no_weight():
    """Item 3 is clicked once and cannot be recommended, so the click before it has no label."""
    users = [[(1, 0, True, None), (3, 10, True, None), (2, 20, True, None)], [(2, 5000, True, None), (1, 5010, True, None)]]
    loop = loop_over(users, "training.batch_size=1", "data.label_scope=session", min_clicks=2)
    records, before = [], {name: weight.detach().clone() for name, weight in loop.model.named_parameters()}
    loop._step(None)
    assert all(torch.equal(weight, before[name]) for name, weight in loop.model.named_parameters())
    assert loop.live.states[0].any()
    loop.live.states[0].zero_()
    loop.run_epoch(records.append)
    assert [record["labels"] for record in records] == [0, 1, 1]
    assert [record["loss"] > 0 for record in records] == [False, True, True]


def test_a_step_with_fewer_live_sessions_counts_for_less(monkeypatch):
    """The authors divide by the nominal size of the batch."""
    gradients = []
    for size in (2, 8):
        loop = loop_over(USERS[:2], f"training.batch_size={size}", "training.clip_norm=1e6")
        monkeypatch.setattr(loop.optimizer, "step", lambda: None)
        loop._step(None)
        gradients.append(loop.model.encoder.layers[0].recurrent.grad)
        assert loop.model.encoder.layers[0].input.grad.any()
    torch.testing.assert_close(gradients[0], 4 * gradients[1])


def test_an_encoder_without_a_state_is_refused_and_momentum_without_its_optimiser():
    with pytest.raises(ConfigError, match=r"model sasrec has none\. Models that have: gru4rec, hrnn; or set training\.order=rows"):
        load_config("sasrec", None, ["training.order=session_parallel"])
    with pytest.raises(ConfigError, match="momentum is a setting of adagrad_momentum; optimizer adam has none"):
        load_config("sdm", None, [*SMALL, "training.momentum=0.2"])


# --- a step as the authors take it ---------------------------------------------------------------------------------------

BY_HAND = (
    "training.optimizer=adagrad_momentum", "training.momentum=0.3", "training.learning_rate=0.1", "training.clip_norm=1e6",
    "objective.sampler=mixed", "objective.mask_hits=false", "objective.alpha=0.6", "data.label_scope=session",
)  # fmt: skip
LOSSES = {
    "cross-entropy": ("objective.name=sampled_softmax", "objective.logq=support"),
    "cross-entropy without logQ": ("objective.name=sampled_softmax", "objective.logq=none"),
    "BPR-max": ("objective.name=bpr_max", "objective.bpreg=0.7", "objective.elu=0.5"),
}


def loss_by_hand(name, scores, logq, size):
    """Of ``scores`` ``[P, P + drawn]``, whose column p is the label of row p: the sum over rows by the nominal batch size."""
    total = 0.0
    for p, row in enumerate(scores):
        others = [j for j in range(len(row)) if j != p]
        if name == "BPR-max":
            row = torch.nn.functional.elu(row, 0.5)
            weights = torch.softmax(row[others], 0)  # of the negatives: the label has no part in it
            ranked = sum(w * torch.sigmoid(row[p] - row[j]) for w, j in zip(weights, others, strict=True))
            total = total - torch.log(ranked) + 0.7 * sum(w * row[j] ** 2 for w, j in zip(weights, others, strict=True))
        else:
            row = row - logq if name == "cross-entropy" else row
            total = total - torch.log(torch.exp(row[p]) / torch.exp(row).sum())
    return total / size


def epochs_by_hand(loop, name, weights, epochs):
    """``weights`` (a dict of leaves) after training click by click, in plain loops over sessions."""
    rows, size, drawn = loop.rows, loop.config.training.batch_size, loop.config.objective.negatives
    sums, moved = ({key: torch.zeros_like(weight) for key, weight in weights.items()} for _ in range(2))
    table, bias = weights["encoder.items.tables.0.weight"], weights["output_bias.weight"]
    clicks = np.bincount(np.concatenate([[click[0] for click in user] for user in USERS]))  # by item
    clicks = np.sort(clicks[clicks > 0])[::-1]  # by index
    sampler = sampler_of("popularity", len(clicks), max(drawn, 1), size, 0.6, clicks)
    step = 0
    for _ in range(epochs):
        hidden = {}
        for live in steps_of(rows.lengths.tolist(), rows.started.tolist(), size):
            states, labels = [], []
            for _, row, position in live:
                batch, targets = rows.batch(np.array([row]))
                before = hidden.get(row, torch.zeros(8)).detach()
                mine = table[batch.short[0, position]] @ weights["encoder.layers.0.input"].T + weights["encoder.layers.0.input_bias"]
                back = before @ weights["encoder.layers.0.recurrent"].T + weights["encoder.layers.0.recurrent_bias"]
                r, z = torch.sigmoid(mine[:8] + back[:8]), torch.sigmoid(mine[8:16] + back[8:16])
                hidden[row] = (1 - z) * torch.tanh(mine[16:] + r * back[16:]) + z * before
                states.append(hidden[row])
                labels.append(int(targets[position, 0]))
            sample = sampler.shared(seed_step(loop.config.training.seed, step), np.zeros(0, np.int64)).items.tolist()
            columns = [*labels, *(sample if drawn else [])]
            support = [float(clicks[item - 1]) ** (1 if place < len(labels) else 0.6) for place, item in enumerate(columns)]
            step += 1
            if len(columns) < 2:
                continue
            scores = torch.stack([torch.stack([state @ table[item] + bias[item, 0] for item in columns]) for state in states])
            loss = loss_by_hand(name, scores, torch.log(torch.tensor(support)), size)
            for (key, weight), gradient in zip(weights.items(), torch.autograd.grad(loss, weights.values()), strict=True):
                touched = gradient.any(dim=1) if key.endswith("weight") else torch.ones(len(gradient), dtype=torch.bool)
                sums[key] += gradient**2
                moved[key][touched] *= 0.3
                moved[key] += 0.1 * gradient / torch.sqrt(sums[key] + 1e-6)
                weight.data[touched] -= moved[key][touched]
    return weights


@pytest.mark.parametrize("drawn", [0, 6])
@pytest.mark.parametrize("name", LOSSES)
def test_two_epochs_by_hand(name, drawn):
    """What third-party versions get wrong, all at once: states that are not reset, sessions out of order, no drawn negatives
    or only such, a softmax of the negatives with the label in it, a second softmax, gradients through time, another Adagrad."""
    with in_double_precision():
        loop = loop_over(USERS, *BY_HAND, *LOSSES[name], f"objective.negatives={drawn}")
        for weight in loop.model.parameters():
            torch.nn.init.normal_(weight, std=0.4)
        weights = {key: weight.detach().clone().requires_grad_() for key, weight in loop.model.named_parameters()}
        for _ in range(2):
            loop.run_epoch(lambda record: None)
        wanted = epochs_by_hand(loop, name, weights, 2)
        for key, weight in loop.model.named_parameters():
            rows = slice(1, None) if key.endswith("weight") else slice(None)  # the row of padding is nobody's
            torch.testing.assert_close(weight.detach()[rows], wanted[key].detach()[rows], atol=1e-6, rtol=0)


@contextmanager
def in_double_precision():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
