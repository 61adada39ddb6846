"""SDM's equations once more, one position at a time in plain loops, and the layers under it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tests.models.batches import SIZES, batch_of, model_of
from tests.models.settings import SDM_SWITCHES
from xdm.models.presets import preset
from xdm.models.sdm import SDMConfig
from xdm.models.shared.inputs import widths_of
from xdm.models.shared.layers import masked_softmax
from xdm.schema import ConfigError
from xdm.training.config import load_config


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def average(scores, vectors):
    """Of ``vectors``, weighted by the softmax of ``scores``."""
    weights = torch.softmax(torch.stack(scores), dim=0)
    return sum(weight * vector for weight, vector in zip(weights, vectors, strict=True))


def attended(encoder, hidden):
    """Causal multi-head self-attention over ``hidden`` (a list of ``[d]``), residual and LayerNorm after."""
    layer, found = encoder.self_attention, []
    q, k, v = zip(*(layer.qkv(h).chunk(3) for h in hidden), strict=True)
    width = len(hidden[0]) // layer.heads
    for t in range(len(hidden)):
        heads = []
        for head in range(layer.heads):
            part = slice(head * width, (head + 1) * width)
            scores = [dot(q[t][part], k[s][part]) / math.sqrt(width) for s in range(t + 1)]
            heads.append(average(scores, [v[s][part] for s in range(t + 1)]))
        found.append(layer.norm(hidden[t] + layer.out(torch.cat(heads))))
    return found


def user_attended(encoder, seen, user, kind):
    if kind == "none":
        return seen[-1]
    layer, d = encoder.user_attention, encoder.width
    if kind == "general":
        scores = [dot(torch.tanh(layer.query(user)), h) / math.sqrt(d) for h in seen]
    elif kind == "concat":
        scores = [torch.tanh(layer.score(torch.cat([user, h])))[0] / math.sqrt(d) for h in seen]
    else:
        scores = [dot(layer.query(user), h) for h in seen]
    found = average(scores, seen)
    return found + seen[-1] if layer.residual else found


def long_term(encoder, lists, user, kind):
    parts = []
    for place, feature in enumerate(encoder.items.features):
        width = encoder.items.widths[place]
        rows = [encoder.items.tables[place].weight[code] for code in lists[feature].tolist() if code]
        if not rows:
            parts.append(torch.zeros(width, dtype=user.dtype))
            continue
        score = encoder.long_term.scores[place]
        if kind == "dot":
            scores = [dot(score(user), g) for g in rows]
        else:
            scores = [torch.tanh(score(torch.cat([user, g])))[0] / math.sqrt(width) for g in rows]
        parts.append(average(scores, rows))
    return torch.tanh(encoder.long_term.out(torch.cat(parts)))


def fused(encoder, short, long, user, kind):
    if kind == "add":
        return short + long
    if kind == "multiply":
        return short * long
    if kind == "concat":
        return encoder.fusion.both(torch.cat([short, long]))
    if kind == "gated":
        gate, other = torch.sigmoid(encoder.fusion.gate(torch.cat([short, long, user]))), long
    else:
        both = torch.cat([short, long])
        gate, other = torch.sigmoid(encoder.fusion.gate(both)), torch.tanh(encoder.fusion.both(both))
    return gate * short + (1 - gate) * other


def states(layer, x, cell):
    """What a recurrent layer makes of ``x`` ``[T, d_in]``."""
    if cell != "gru_reset_before":
        return layer(x[None])[0][0]
    state, found = torch.zeros(layer.width, dtype=x.dtype), []
    (of_r, of_z, of_n), (b_r, b_z, b_n) = layer.recurrent.chunk(3), layer.bias.chunk(3)
    for step in x:
        r, z, n = (layer.input @ step).chunk(3)
        reset, update = torch.sigmoid(r + of_r @ state + b_r), torch.sigmoid(z + of_z @ state + b_z)
        state = (1 - update) * state + update * torch.tanh(n + of_n @ (reset * state) + b_n)
        found.append(state)
    return torch.stack(found)


@pytest.mark.parametrize("switches", SDM_SWITCHES.values(), ids=SDM_SWITCHES)
def test_the_equations_one_position_at_a_time(switches):
    encoder = model_of(**switches).eval().double().encoder
    batch = batch_of([1, 6, 3], [0, 4, 2], [0, 0, 0])
    layers = switches.get("layers", 1)
    with torch.no_grad():
        found = encoder.encode(batch)
        users = encoder.users(batch).double()
        for p in range(len(batch.row)):
            b, t = int(batch.row[p]), int(batch.position[p])
            user = users[b]
            if switches.get("name") == "sdm_actions":
                stream = slice(0, int(batch.stream_position[p]) + 1)
                x = encoder.items(batch.stream[b, stream]) + encoder.actions.weight[batch.stream_action[b, stream]]
            else:
                x = encoder.items(batch.short[b, : t + 1])
            for i, layer in enumerate(encoder.recurrent.layers):
                hidden = states(layer, x, switches.get("cell"))
                x = x + hidden if i >= layers - switches.get("residual_layers", layers - 1) else hidden
            seen = attended(encoder, list(x))
            wanted = user_attended(encoder, seen, user, switches.get("user_attention", "general"))
            if switches.get("long_term", True):
                long = long_term(encoder, batch.long[b], user, switches.get("long_score", "concat"))
                wanted = fused(encoder, wanted, long, user, switches.get("fusion", "gated"))
            torch.testing.assert_close(found[p, 0], wanted)


def test_masked_softmax_sees_what_is_visible_and_gives_zeros_where_nothing_is():
    scores = torch.tensor([[1.0, 2.0, 50.0], [3.0, 4.0, 5.0]])
    visible = torch.tensor([[True, True, False], [False, False, False]])
    found = masked_softmax(scores, visible)
    torch.testing.assert_close(found[0], F.pad(torch.softmax(scores[0, :2], dim=0), (0, 1)))
    assert not found[1].any()


def test_the_first_weights_of_the_gru_that_resets_before_are_tensorflows():
    layer = model_of(cell="gru_reset_before").encoder.recurrent.layers[0]
    kernel, d = torch.cat([layer.input, layer.recurrent], dim=1), layer.width  # [3 d, width_in + d]
    for rows in (kernel[: 2 * d], kernel[2 * d :]):  # of both gates together, of the candidate
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)))
    # theirs start at 1, 1 and 0; their update gate is the share of the old state, this one that of the new
    assert layer.bias.tolist() == [1.0] * d + [-1.0] * d + [0.0] * d


def test_widths_of_features_and_fields_by_name():
    encoder = model_of(feature_widths={"brand": 5, "category": 7}, field_widths={"age": 0}).encoder
    assert [tuple(table.weight.shape) for table in encoder.items.tables] == [(31, 6), (6, 7), (4, 5)]
    assert [tuple(table.weight.shape) for table in encoder.users.fields] == [(3, 2)]
    assert (encoder.items.width, encoder.users.width) == (18, 6)
    config = load_config("sdm", None, ["model.feature_widths={brand: 5}", "model.feature_widths.category=7"])
    assert config.model.feature_widths == {"brand": 5, "category": 7}
    assert widths_of("", SIZES.features, 3, config.model.feature_widths) == [7, 5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"feature_widths": {"brnd": 5}}, "model.feature_widths: the store has no 'brnd'. Did you mean 'brand'?"),
        ({"field_widths": {"sex": 5}}, "model.field_widths: the store has no 'sex'. It has: age, region"),
    ],
)
def test_a_width_for_what_the_store_lacks_is_an_error(settings, message):
    with pytest.raises(ConfigError) as caught:
        model_of(**settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["model.residual_layers=1"], "residual_layers 1 must be below layers 1"),
        (["model.tie_item_embedding=true", "model.item_width=32"], "needs item_width 32 equal to width 64"),
        (["model.feature_widths={brand: -1}"], "model.feature_widths.brand: Input should be greater than or equal to 0"),
        (["model.user_attention=general_dot"], "model.user_attention: Input should be 'general', 'concat', 'dot' or 'none'"),
    ],
)
def test_settings_that_do_not_fit_are_named(assignments, message):
    with pytest.raises(ConfigError) as caught:
        load_config("sdm", None, assignments)
    assert message in str(caught.value)


def test_initial_weights_are_those_of_the_code_or_orthogonal():
    code = model_of(width=64, item_width=64).encoder
    for score in code.long_term.scores:
        assert 0.08 < score.weight.abs().max() <= 0.1 or score.weight.shape[1] < 30
        assert score.weight.abs().max() <= 0.1
    qkv = code.self_attention.qkv.weight
    assert math.sqrt(6 / (64 + 192)) * 0.95 < qkv.abs().max() <= math.sqrt(6 / (64 + 192))
    gate = code.recurrent.layers[0].weight_hh_l0[:64]
    torch.testing.assert_close(gate @ gate.T, torch.eye(64), atol=1e-5, rtol=0)
    torch.testing.assert_close(code.long_term.out.weight @ code.long_term.out.weight.T, torch.eye(64), atol=1e-5, rtol=0)
    all_of_it = model_of(width=64, item_width=64, init="orthogonal", user_attention="concat").encoder
    dense = [layer for layer in all_of_it.modules() if isinstance(layer, torch.nn.Linear)]
    assert len(dense) == 8  # qkv, out, score, three long-term scores, long-term out, gate
    for layer in dense:
        rows, columns = layer.weight.shape
        weight = layer.weight if rows <= columns else layer.weight.T
        torch.testing.assert_close(weight @ weight.T, torch.eye(min(rows, columns)), atol=1e-5, rtol=0)


def test_a_tied_model_scores_its_input_vectors():
    model = model_of(item_width=8, tie_item_embedding=True)
    assert "output.weight" not in model.state_dict()
    assert model.item_vectors().shape == (25, 8)
    assert torch.equal(model.item_vectors(), model.encoder.items.tables[0].weight[1:26])
    assert torch.equal(model.vectors(torch.tensor([0, 25, 26])), model.encoder.items.tables[0].weight[[0, 25, 0]])


def test_the_presets_are_the_published_values():
    paper, code = load_config("sdm-paper"), load_config("sdm-code")
    assert isinstance(paper.model, SDMConfig)
    assert (paper.model.width, paper.model.heads, paper.model.dropout) == (64, 4, 0.2)
    assert (paper.model.cell, paper.model.layers, paper.model.fusion) == ("lstm", 2, "gated")
    assert (paper.model.user_attention, paper.model.long_score, paper.model.user_residual) == ("dot", "dot", False)
    assert (paper.model.init, code.model.init) == ("orthogonal", "code")
    assert (code.model.width, code.model.heads, code.model.dropout) == (64, 4, 0.2)
    assert (code.model.cell, code.model.layers, code.model.residual_layers) == ("gru_reset_before", 1, 0)
    assert (code.model.user_attention, code.model.long_score, code.model.user_residual) == ("general", "concat", True)
    assert (code.model.item_width, code.model.feature_width, code.model.user_width, code.model.field_width) == (64, 16, 64, 4)
    assert (paper.training.optimizer, code.training.optimizer) == ("adam", "adagrad")
    for config in (paper, code):
        assert (config.training.learning_rate, config.training.clip_norm, config.training.batch_size) == (1e-3, 5, 256)
        assert config.data.label_scope == "session"
        assert config.objective.negatives == 2000
        rules = config.behaviours
        assert (rules.session_gap, rules.session_max, rules.long_window, rules.long_max) == (600, 50, 7 * 86_400, 20)
    assert (paper.data.n_targets, code.data.n_targets, load_config("psdmmal-n").data.n_targets) == (1, 5, 5)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("sdmma", {"user_attention": "none", "long_term": False}), ("psdmma", {"long_term": False}), ("psdmmal-n", {}),
        ("psdmmal-nos", {"feature_width": 0, "field_width": 0}),
    ],
)  # fmt: skip
def test_an_ablation_differs_from_the_papers_model_in_what_it_is_named_for(name, changed):
    assert preset(name)["model"] == {**preset("sdm-paper")["model"], **changed}
