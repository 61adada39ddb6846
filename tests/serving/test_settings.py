"""Settings: what overrides what, and what is said of a wrong one."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.learning import call
from xdm.schema import ConfigError
from xdm.serving.settings import ServeSettings, as_yaml, load_settings

SOURCES = ("file", "environment", "set", "flag")


def load(tmp_path: Path, text: str = "", environment=None, **others) -> ServeSettings:
    file = tmp_path / "serve.yaml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environment=environment or {}, **others)


@given(given_by=st.dictionaries(st.sampled_from(SOURCES), st.integers(1, 64)))
def test_the_last_source_that_says_anything_decides(given_by, tmp_path_factory):
    """Oracle: walk the sources in their order."""
    expected = 1
    for source in SOURCES:
        expected = given_by.get(source, expected)
    found = load(
        tmp_path_factory.mktemp("settings"),
        f"workers: {given_by['file']}" if "file" in given_by else "",
        {"XDM_SERVE_WORKERS": str(given_by["environment"])} if "environment" in given_by else {},
        sets=[f"workers={given_by['set']}"] if "set" in given_by else [],
        flags={"workers": given_by.get("flag"), "host": None},
    )
    assert found == ServeSettings(workers=expected)


def test_text_becomes_what_the_setting_is():
    environment = {
        "XDM_SERVE_PORT": "9000", "XDM_SERVE_ACCESS_LOG": "false", "XDM_SERVE_DEADLINE_MS": "50", "XDM_SERVE_KEYS": "k.yaml",
        "XDM_SERVE_MAX_AGE_DAYS": "", "XDM_SERVE_RATE_LIMIT": "7/minute", "PATH": "/bin",
    }  # fmt: skip
    expected = ServeSettings(port=9000, access_log=False, deadline_ms=50, keys=Path("k.yaml"), rate_limit="7/minute")
    assert load_settings(environment=environment) == expected
    assert load_settings(environment={}, sets=["max_age_days=30", "keys="], flags={"keys": None}).max_age_days == 30


@pytest.mark.parametrize(
    ("text", "environment", "sets", "flags", "message"),
    [
        ("prot: 1", {}, [], {}, r"serve\.yaml, key 'prot': there is no such setting\. Did you mean 'port'\?"),
        (
            "",
            {"XDM_SERVE_WORKES": "2"},
            [],
            {},
            r"XDM_SERVE_WORKES: there is no such setting\. Did you mean 'workers'\?",
        ),
        ("", {}, ["statee=x"], {}, r"--set statee: there is no such setting\. Did you mean 'state'\?"),
        ("", {}, ["state"], {}, r"--set 'state' has no `=`"),
        ("port: many", {}, [], {}, r"serve\.yaml, key 'port': 'many' does not fit: .*integer"),
        ("port: 1", {"XDM_SERVE_PORT": "70000"}, [], {}, r"XDM_SERVE_PORT: '70000' does not fit: .*65535"),
        ("", {}, ["port="], {}, r"--set port: None does not fit"),
        ("", {}, [], {"workers": 0}, r"--workers: 0 does not fit: .*greater than or equal to 1"),
        ("rate_limit: 500", {}, [], {}, r"key 'rate_limit': 500 does not fit: .*string"),
        ("", {}, ["rate_limit=often"], {}, r"--set rate_limit: 'often' does not fit: 'often' is no rate; .*500/second"),
        ("- a", {}, [], {}, r"serve\.yaml is no mapping"),
        ("a: [", {}, [], {}, r"serve\.yaml cannot be read"),
    ],
)
def test_a_wrong_setting_is_named_with_where_it_was_set(tmp_path, text, environment, sets, flags, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text, environment, sets=sets, flags=flags)


def test_a_file_that_is_not_there_is_wrong_use(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        load_settings(tmp_path / "none.yaml", environment={})


def test_what_is_printed_can_be_loaded_again(tmp_path):
    settings = ServeSettings(bundle=Path("b"), state="redis://h:1/0", drain_seconds=2.5, rate_limit="5/hour")
    printed = as_yaml(settings)
    assert load(tmp_path, printed) == settings
    assert list(yaml.safe_load(printed)) == list(ServeSettings.model_fields)
    for field in ServeSettings.model_fields.values():
        assert f"# {field.description}\n" in printed


def test_settings_reach_a_worker_unchanged():
    settings = ServeSettings(bundle=Path("b"), workers=3)
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_models_lie_beside_the_bundle_unless_set(tmp_path):
    assert ServeSettings(bundle=tmp_path / "models" / "a").models_folder == tmp_path / "models"
    assert ServeSettings(bundle=tmp_path / "a", models=tmp_path / "b").models_folder == tmp_path / "b"
    with pytest.raises(ConfigError, match="no bundle is set"):
        ServeSettings().bundle_path  # noqa: B018


def test_the_command_line_prints_them(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("XDM_SERVE_PORT", "81")
    monkeypatch.setenv("XDM_SERVE_DEADLINE_MS", "82")
    assert call("serve", "b", "--set", "queue_max=83", "--port", "84", "--print-config") == 0
    printed = yaml.safe_load(capfd.readouterr().out)
    assert [printed[name] for name in ("bundle", "port", "deadline_ms", "queue_max")] == ["b", 84, 82, 83]


def test_the_command_line_without_a_bundle_says_what_to_do(capfd):
    assert call("serve", "--port", "0") == 2
    assert "no bundle is set: `xdm serve BUNDLE`" in capfd.readouterr().err
