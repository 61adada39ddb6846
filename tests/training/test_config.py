"""The configuration: every key reached, every wrong one named."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import yaml
from pydantic import BaseModel

from tests.learning import SMALL, call, sets
from tests.models.batches import batch_of, model_of
from xdm.log.store import Store
from xdm.schema import ConfigError
from xdm.training.config import (
    WITHOUT_NEGATIVES,
    Config,
    ObjectiveConfig,
    ObjectiveName,
    differences,
    load_config,
    parse_config,
)
from xdm.training.objective import Objective
from xdm.training.run import Run
from xdm.training.steps import losses

WRONG = [
    ("trainning.epochs=3", "'trainning'", "'training'"),
    ("training.epoch=3", "'training.epoch'", "'epochs'"),
    ("objective.negative=3", "'objective.negative'", "'negatives'"),
    ("model.widht=3", "'model.widht'", "'width'"),
    ("unclicked.fussion=gate", "'unclicked.fussion'", "'fusion'"),
    ("behaviours.session_gab=3", "'behaviours.session_gab'", "'session_gap'"),
    ("data.min_click=3", "'data.min_click'", "'min_clicks'"),
    ("split.tests=0.2", "'split.tests'", "'test'"),
]


@pytest.mark.parametrize(("assignment", "key", "near"), WRONG)
def test_an_unknown_key_is_named_with_the_nearest_right_one(assignment, key, near):
    with pytest.raises(ConfigError) as caught:
        load_config("xdm", None, [assignment])
    assert f"there is no key {key}. Did you mean {near}?" in str(caught.value)
    assert "Keys there: " in str(caught.value)


def test_in_a_file_too_and_all_at_once(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("preset: xdm\nmodel: {widht: 8}\ntraining: {epoch: 1, seed: -1}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(None, file)
    assert {"'model.widht'", "'training.epoch'"} <= set(re.findall(r"'[a-z]+\.[a-z]+'", str(caught.value)))
    assert "training.seed: Input should be greater than or equal to 0, got -1" in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epochs=many", "training.epochs"), ("training.epochs=0", "training.epochs"),
        ("training.epochs=1.5", "training.epochs"), ("training.learning_rate=-1", "training.learning_rate"),
        ("training.learning_rate=0", "training.learning_rate"), ("training.seed=-1", "training.seed"),
        ("training.monitor=auc@50", "training.monitor"), ("training={epochs: [1]}", "training.epochs"),
        ("training=5", "training"), ("training=", "training"), ("training.epochs.x=1", "training.epochs"),
        ("objective.metric=triplett", "objective.metric"), ("objective.margin=5", "objective.margin"),
        ("unclicked.enabled=perhaps", "unclicked.enabled"), ("unclicked.dropout=1", "unclicked.dropout"),
        ("data.label_scope=both", "data.label_scope"), ("behaviours.session_gap=0", "behaviours.session_gap"),
        ("model.width=10", "width 10 cannot be divided by 4 heads"), ("model.cell=rnn", "model.cell"),
        ("model.name=smd", "there is no model 'smd'. Did you mean 'sdm'?"), ("model=sdm", "model.name"),
        ("epochs", "must look like key.key=value"), ("=3", "must look like"), ("training..epochs=3", "must look like"),
        ("training.epochs=[", "the value is no YAML"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(assignment, message):
    heads = [] if "model" not in assignment else ["model.heads=4"]
    with pytest.raises(ConfigError) as caught:
        load_config("xdm", None, [*(heads if assignment != "model=sdm" else []), assignment])
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "1.0e-03", ".001"])
def test_floats_as_people_write_them(text, tmp_path):
    assert load_config("sdm", None, [f"training.learning_rate={text}"]).training.learning_rate == 0.001
    (tmp_path / "run.yaml").write_text(f"training:\n  learning_rate: {text}\n")
    assert load_config("sdm", tmp_path / "run.yaml").training.learning_rate == 0.001


def test_later_layers_win_key_by_key(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("preset: xdm\ntraining: {epochs: 7, patience: 5}\nunclicked: {fusion: gate}\n")
    config = load_config(None, file, ["training.epochs=9", "unclicked.pooling=attention"])
    assert (config.training.epochs, config.training.patience) == (9, 5)
    assert (config.unclicked.enabled, config.unclicked.fusion, config.unclicked.pooling) == (True, "gate", "attention")
    assert load_config("sdm", file).unclicked.enabled is False  # --model over the file's preset
    assert load_config(None, file, ["training.epochs=9", "training.epochs=10"]).training.epochs == 10
    assert load_config("xdm", None, ["unclicked.enabled=false"]).name == "sdm"
    assert load_config("xdm").name == "xdm"
    # presets are not changed by what was laid over them
    assert load_config("xdm").to_dict() == load_config("xdm").to_dict() != config.to_dict()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: [", "is no YAML"), (b"- 1", "must hold keys and values"), (b"\xff\xfe\x00", "cannot be read|no YAML"),
     (b"preset: xmd", "there is no model 'xmd'. Did you mean 'xdm'?"), (None, "cannot be read")],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        load_config(None, tmp_path / "run.yaml")


def test_an_empty_file_changes_nothing(tmp_path):
    (tmp_path / "run.yaml").write_text("")
    assert load_config(None, tmp_path / "run.yaml") == Config()


def test_what_is_written_is_read_back():
    config = load_config("xdm", None, [*SMALL, "split.test=2h", "split.validation=0.2", "unclicked.fusion=gate"])
    again = parse_config(yaml.safe_load(yaml.safe_dump(config.to_dict())))
    assert again == config
    assert differences(config, again) == []
    other = load_config("sdm", None, [*SMALL, "model.width=16"])
    assert "model.width: 8 -> 16" in differences(other, config)
    assert "unclicked.enabled: True -> False" in differences(other, config)


@pytest.mark.parametrize("text", ["2024-01-05", "2024-01-05T00:00:00", "1704412800", "2024-01-05 00:00:00"])
def test_a_split_takes_times_as_people_write_them(simulated, text):
    """YAML reads dates and numbers as such; the command line and a file must take them all the same."""
    from xdm.training.parts import boundaries

    config = load_config("sdm", None, [f"split.test={text}", "split.validation=1d"])
    assert boundaries(Store(simulated), config.split)[:2] == (1704412800 - 86400, 1704412800)
    assert parse_config(config.to_dict()) == config


def leaves(config: BaseModel):
    for section, value in config:
        for name in type(value).model_fields:
            yield type(value).__name__, f"{section}.{name}", name


def test_no_key_is_dead(simulated, tmp_path, monkeypatch):
    """A run of XDM reads every key there is, but those of other objectives, which one step of each reads, and those of what
    it leaves out, which a run with all of it reads."""
    config = load_config("xdm", None, [*SMALL, "training.epochs=1", "objective.metric=symmetric", "model.name=sdm"])
    optional = [
        "item_vectors.pretrained=item2vec",
        "training.recent_share=0.5",
        "training.adversarial_weight=0.5",
        "training.teacher_weight=0.5",
    ]
    with_all = load_config("sdm", None, [*SMALL, "training.epochs=1", *optional])
    read = defaultdict(set)
    for section in {type(value) for _, value in config}:
        plain = section.__getattribute__

        def recording(self, name, plain=plain):
            read[type(self).__name__].add(name)
            return plain(self, name)

        monkeypatch.setattr(section, "__getattribute__", recording)
    for name, one in {"bundle": config, "with_all": with_all}.items():
        Run(Store(simulated), one, tmp_path / name).train()
    batch, clicks = batch_of([3, 2], [0, 0], [1, 0]), np.ones(25)
    for name in set(get_args(ObjectiveName)) - WITHOUT_NEGATIVES.keys():
        settings = ObjectiveConfig(name=name)
        objective = Objective.of(settings, 25, clicks)
        losses(model_of(), batch, torch.arange(1, 6)[:, None], settings, np.random.default_rng(0), objective=objective)
    keys = list(leaves(config))
    assert len(keys) > 30
    assert [key for section, key, name in keys if name not in read[section]] == []


def test_the_command_line_names_wrong_keys_with_exit_code_2(simulated, tmp_path, capfd):
    out: Path = tmp_path / "bundle"
    assert call("train", simulated, "--out", out, *sets("training.epoch=3")) == 2
    printed = capfd.readouterr()
    assert printed.err.startswith("xdm: there is no key 'training.epoch'. Did you mean 'epochs'? Keys there: epochs, ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_show_config_prints_what_a_file_may_hold(simulated, tmp_path, capfd):
    assert call("train", simulated, "--out", tmp_path / "b", "--seed", 5, "--show-config", *sets("model.width=16")) == 0
    printed = capfd.readouterr().out
    (tmp_path / "run.yaml").write_text(printed)
    config = load_config(None, tmp_path / "run.yaml")
    assert (config.training.seed, config.model.width, config.name) == (5, 16, "xdm")
    assert not (tmp_path / "b").exists()
