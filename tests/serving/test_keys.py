"""Keys: made once, kept as hashes, found again, taken away."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import yaml

from tests.learning import call
from xdm.schema import ConfigError
from xdm.serving.keys import LOOK_SECONDS, KeyRing, new_key, read_keys, write_keys


def new(file: Path, name: str, *options: str) -> int:
    return call("keys", "new", "--file", file, "--name", name, *options)


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "keys.yaml"


def test_a_key_is_shown_once_and_only_its_hash_is_kept(file, capfd):
    assert new(file, "shop", "--scopes", "read, write", "--rate-limit", "5/second") == 0
    key = capfd.readouterr().out.strip()
    content = file.read_text()
    assert len(key) > 40
    assert key not in content
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = KeyRing(file).find(key.encode())
    assert found is not None
    assert (found.name, found.scopes, found.rate_limit) == ("shop", ("read", "write"), "5/second")
    assert call("keys", "list", "--file", file, "--json") == 0
    listed = capfd.readouterr().out
    assert json.loads(listed) == {"name": "shop", "scopes": ["read", "write"], "rate_limit": "5/second"}


def test_every_key_is_found_and_nothing_else(file):
    made = [new_key(f"k{number}", ["read"]) for number in range(20)]
    write_keys(file, [kept for _, kept in made])
    ring = KeyRing(file)
    for key, kept in made:
        assert ring.find(key.encode()) == kept
        for wrong in (key[:-1], key + "x", key.upper(), kept.sha256, ""):
            assert ring.find(wrong.encode()) is None


def test_all_hashes_are_compared_whatever_the_token(file, monkeypatch):
    """Constant time: the first key and no key at all take the same comparisons."""
    import hmac

    made = [new_key(f"k{number}", ["read"]) for number in range(5)]
    write_keys(file, [kept for _, kept in made])
    ring = KeyRing(file)
    compared: list[int] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(1) or real(a, b))
    for token in (made[0][0], made[4][0], "none"):
        compared.clear()
        ring.find(token.encode())
        assert len(compared) == 5


def test_a_change_of_the_file_counts_within_a_second_and_a_broken_file_changes_nothing(file, caplog):
    now = 0.0
    first, kept = new_key("first", ["read"])
    second, kept_second = new_key("second", ["read"])
    write_keys(file, [kept])
    ring = KeyRing(file, clock=lambda: now)

    def valid() -> list[bool]:
        return [ring.find(key.encode()) is not None for key in (first, second)]

    write_keys(file, [kept_second])
    assert valid() == [True, False]  # not looked at again yet
    now += LOOK_SECONDS
    assert valid() == [False, True]
    for broken in ("- name: [", "[{name: x}]", "just text"):
        file.write_text(broken)
        now += LOOK_SECONDS
        assert valid() == [False, True]
        assert "the keys that were valid before stay so" in caplog.text
        caplog.clear()
    file.unlink()
    now += LOOK_SECONDS
    assert valid() == [False, True]
    write_keys(file, [])
    now += LOOK_SECONDS
    assert valid() == [False, False]


GOOD = {"name": "a", "sha256": "0" * 64, "scopes": ["read"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([GOOD | {"scopes": ["root"]}], r"entry 1, scopes, entry 1: .*'read', 'write' or 'admin'"),
        ([GOOD | {"scopes": []}], r"entry 1, scopes"),
        ([GOOD, GOOD | {"name": "b", "key": "secret"}], r"entry 2, key: Extra inputs"),
        ([GOOD | {"sha256": "abc"}], r"entry 1, sha256"),
        ([GOOD | {"name": "a b"}], r"entry 1, name"),
        ([GOOD | {"rate_limit": "fast"}], r"entry 1, rate_limit: 'fast' is no rate"),
        ([GOOD, GOOD], r"two keys of the name 'a'"),
        ({"a": 1}, r"is no file of keys"),
        ([], r"holds no key"),
    ],
)
def test_a_wrong_file_is_refused_at_the_start(file, content, message):
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=message):
        KeyRing(file)


def test_a_file_that_everybody_may_write_is_refused(file):
    file.write_text(yaml.safe_dump([GOOD]))
    os.chmod(file, 0o666)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_keys(file)


def test_the_command_line_adds_and_takes_away(file, capfd):
    assert new(file, "shop", "--scopes", "read") == 0
    assert new(file, "shop", "--scopes", "read") == 2
    assert "has a key of the name 'shop'" in capfd.readouterr().err
    assert new(file, "other", "--scopes", "reed") == 2
    assert "no such key can be made" in capfd.readouterr().err
    os.chmod(file, 0o640)
    assert new(file, "other", "--scopes", "admin") == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert call("keys", "revoke", "--file", file, "--name", "shopp") == 2
    assert "Did you mean 'shop'?" in capfd.readouterr().err
    assert call("keys", "revoke", "--file", file, "--name", "shop") == 0
    assert [key.name for key in read_keys(file)] == ["other"]
    assert [path.name for path in file.parent.iterdir()] == ["keys.yaml"]
