"""The file: what it may hold, and what is said of what it may not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tests.experiments.files import BASE, write_file
from tests.learning import call
from xdm.experiments.file import RollingProtocol, parse_memory, read_file
from xdm.experiments.grid import variants_of
from xdm.experiments.running import checked_config
from xdm.schema import ConfigError
from xdm.simulation.world import World

WORLD = {"world": {"users": 50}}
ROLLING = {"kind": "rolling", "start": "2d", "windows": 1}


def read(folder: Path, **keys):
    return read_file(write_file(folder, **({"logs": {"w": WORLD}} | keys)))


def checked(file):
    return [checked_config(variant) for variant in variants_of(file)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"varaints": {}}, "there is no key 'varaints'. Did you mean 'variants'?"),
        ({"logs": {"w": {"stoer": "x"}}}, "there is no key 'logs.w.stoer'. Did you mean 'store'? Keys there: store, world"),
        ({"logs": {"w": {"world": {"usres": 3}}}}, "there is no key 'logs.w.world.usres'. Did you mean 'users'?"),
        ({"logs": {"w": {"world": {"users": 0}}}}, "logs.w.world.users: Input should be greater than or equal to 1, got 0"),
        ({"logs": {"w": None}}, "the log w has neither a store nor a world; give it with --log w=STORE"),
        ({"logs": {"a/b": WORLD}}, "the log 'a/b' names a folder too"),
        ({"logs": {}}, "logs:"),
        ({"protocol": {"kind": "rolling", "start": "2d", "widnows": 3}}, "Did you mean 'windows'?"),
        ({"protocol": "roling"}, "roling"),
        ({"protocol": {"kind": "rolling"}}, "protocol.rolling.start' is missing"),
        ({"protocol": ROLLING | {"every": "1 month"}}, "protocol.every: '1 month' is no duration"),
        ({"protocol": ROLLING | {"validation": {"start": "3d", "horizont": "2h"}}}, "Did you mean 'horizon'?"),
        ({"protocol": ROLLING, "exclude_seen": True}, "exclude_seen is not part of the rolling protocol"),
        ({"protocol": ROLLING, "keep": ["bundle"]}, "the rolling protocol makes no bundle"),
        ({"metrics": ["hr@50"]}, "there is no metric 'hr@50' with ks [5, 10]. Did you mean 'hr@5'?"),
        ({"seeds": [1, 1]}, "a seed is given twice in [1, 1]"),
        ({"ks": [5, 10_001]}, "ks.1: Input should be less than or equal to 10000, got 10001"),
        ({"ks": [0, 5]}, "ks.0: Input should be greater than or equal to 1, got 0"),
        ({"seeds": 0}, "seeds:"),
        ({"memory": "much"}, "memory 'much' is no amount"),
        ({"workers": 0}, "workers: Input should be greater than or equal to 1"),
        ({"search": {"trails": 3}}, "there is no key 'search.trails'. Did you mean 'trials'?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, keys, message):
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, **keys)
    assert message in str(raised.value)
    assert str(tmp_path / "experiment.yaml") in str(raised.value)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"sdm": {}}, "variants.sdm: name its model"),
        ({"sdm": {"model": "smd"}}, "variants.sdm: there is no model 'smd'. Did you mean 'sdm'?"),
        ({"sdm": {"model": "sdm", "training.epoch": 3}}, "variants.sdm: there is no key 'training.epoch'. Did you mean 'epochs'?"),
        ({"sdm": {"model": "sdm", "training": {"epochs": 0}}}, "variants.sdm: training.epochs:"),
        ({"sdm": {"model": "sdm", "training.epochs": []}}, "training.epochs is an empty list"),
        ({"sdm": {"model": "sdm", "training.seed": 3}}, "training.seed is the same for all variants; see seeds"),
        ({"sdm": {"model": "sdm", "split.test": 0.5}}, "split.test is the same for all variants; see settings"),
        ({"sdm": {"model": "sdm", "training.learning_rate": {"low": 1}}}, "high: Field required"),
        ({"sdm": {"model": "sdm", "training.learning_rate": {"low": 2, "high": 1}}}, "low must be below high"),
        ({"sdm": {"model": "sdm", "training.learning_rate": {"low": 0, "high": 1, "log": True}}}, "above 0 where log is true"),
        ({"sdm": {"model": "sdm", "training.learning_rate": {"low": 0.0, "high": 1.0}}}, "training.learning_rate: Input should"),
        ({"sdm": {"model": "sdm", "objective.name": {"choices": ["softmax", "sofmax"]}}}, "variants.sdm: objective.name"),
        ({"sdm": {"model": "sdm", "training.monitor": {"choices": ["hr@5", "hr@9"]}}}, "cannot be searched"),
        ({"sdm": {"model": "popularity", "training.epochs": 3}}, "popularity is not trained and takes no settings"),
        ({"xdm": {"model": "sdm"}}, "control: there is no variant 'sdm'; the variants are xdm"),
        ({"sdm": {"model": "sdm"}, "a": {"model": "sdm", "data.min_clicks": [1, 1]}}, "a-min_clicks=1 stands for two variants"),
    ],
)  # fmt: skip
def test_a_wrong_variant_is_named_before_anything_runs(tmp_path, variants, message):
    with pytest.raises(ConfigError) as raised:
        checked(read(tmp_path, variants=variants))
    assert message in str(raised.value)


def test_an_oracle_needs_a_world(tmp_path, simulated):
    file = read_file(write_file(tmp_path, simulated, variants={"sdm": {"model": "oracle"}}))
    with pytest.raises(ConfigError, match="sdm needs a simulated world, and the log log names none"):
        variants_of(file)


@pytest.mark.parametrize("settings", [{"training.seed": 1}, {"model": "sdm"}, {"training.epochs": {"low": 1, "high": 3}}])
def test_what_the_experiment_sets_itself_is_not_a_common_setting(tmp_path, settings):
    with pytest.raises(ConfigError, match=f"settings: {next(iter(settings))}"):
        variants_of(read(tmp_path, settings=settings))


def test_short_forms_and_what_the_command_line_says(tmp_path):
    (tmp_path / "world.yaml").write_text("{users: 40, days: 3}")
    logs = {"w": {"world": "world.yaml"}, "s": {"store": "stores/s"}, "given": None, "moved": {"store": "x", "unclicked_k": 4}}
    path = write_file(tmp_path, logs=logs, seeds=3, protocol="time", memory="1GB")
    file = read_file(path, {"given": Path("/x"), "moved": Path("/y")}, memory="2GiB", workers=None)
    assert file.logs["w"].world == World(users=40, days=3)
    assert file.logs["s"].store == tmp_path / "stores/s"
    assert (file.logs["given"].store, file.logs["moved"].store) == (Path("/x"), Path("/y"))
    assert file.logs["moved"].unclicked_k == 4
    assert (file.seeds, file.protocol.kind, file.memory_mb, file.n_workers) == ((1, 2, 3), "time", 2048, 2)


@pytest.mark.parametrize(
    ("logs", "name", "message"),
    [
        ({"news": None}, "nwes", "there is no log 'nwes' that --log could give a store to. Did you mean 'news'? Logs there: news"),
        ({"news": WORLD, "more": None}, "foo", "there is no log 'foo' that --log could give a store to. Logs there: news, more"),
        ({}, "foo", "Logs there: none"), ({"news": 3}, "news", "logs.news: "), (["news"], "news", "logs: "), (None, "news", "logs"),
    ],
)  # fmt: skip
def test_a_store_of_no_log_of_the_file_is_refused(tmp_path, capfd, logs, name, message):
    path = write_file(tmp_path, logs=logs)
    with pytest.raises(ConfigError) as raised:
        read_file(path, {name: Path("/x")})
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert call("experiment", path, "--log", f"{name}=/x", "--out", tmp_path / "out") == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_times_of_yaml_are_times(tmp_path):
    start = datetime(2023, 5, 25, 7, tzinfo=UTC)
    path = write_file(tmp_path, logs={"w": WORLD}, protocol={"kind": "rolling", "start": start})
    assert isinstance(yaml.safe_load(path.read_text())["protocol"]["start"], datetime)
    protocol = read_file(path).protocol
    assert isinstance(protocol, RollingProtocol)
    assert datetime.fromisoformat(protocol.start) == start


@pytest.mark.parametrize(("text", "mb"), [("500MB", 500e6 / 2**20), ("16GB", 16e9 / 2**20), ("1.5 GiB", 1536), ("3mib", 3)])
def test_memory(text, mb):
    assert parse_memory(text) == pytest.approx(mb)


@pytest.mark.parametrize("text", ["16", "GB", "0GB", "-1GB", "16 TB"])
def test_memory_that_is_none(text):
    with pytest.raises(ValueError, match="no amount"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), ("a: [", "is no YAML"), ("- a", "must hold keys and values")]
)
def test_a_file_that_is_none(tmp_path, content, message):
    path = tmp_path / "experiment.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_file(path)


def test_the_command_says_it_and_ends_with_2(tmp_path, capfd):
    path = write_file(tmp_path, **(BASE | {"logs": {"w": WORLD}, "contorl": "sdm"}))
    assert call("experiment", path, "--out", tmp_path / "out") == 2
    assert "there is no key 'contorl'. Did you mean 'control'?" in capfd.readouterr().err
    assert call("experiment", path, "--log", "w") == 2
    assert "must look like NAME=STORE" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
