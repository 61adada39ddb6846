"""What several commands share: the rules' options, the length of lists, paths, and the name of an option in a message."""

from __future__ import annotations

import json

import click
import pytest
from pydantic import Field

from tests.experiments.files import BASE, write_file
from tests.learning import call
from xdm.behaviours.rules import BehaviourRules
from xdm.bundle.reading import read_manifest
from xdm.cli import COMMANDS, group
from xdm.cli.evaluate import choose_split
from xdm.cli.options import GivenPath, rule_options
from xdm.experiments.file import read_file
from xdm.log.store import Store
from xdm.schema import LONGEST_LIST, UsageError


def every_command() -> dict[str, click.Command]:
    """Each command by its words, those of groups within `xdm` too."""
    found: dict[str, click.Command] = {}
    waiting = {name: group.get_command(None, name) for name in COMMANDS}
    while waiting:
        words, command = waiting.popitem()
        if isinstance(command, click.Group):
            waiting |= {f"{words} {name}": one for name, one in command.commands.items()}
        else:
            found[words] = command
    return found


# --- the rules of behaviours ------------------------------------------------------------------------------------------


def defaults() -> dict[str | None, object]:
    return {param.name: param.default for param in click.command()(rule_options(lambda **_: None)).params}


def test_every_rule_has_an_option_with_its_default():
    assert list(defaults().items()) == [(name, field.default) for name, field in BehaviourRules.model_fields.items()]


def test_another_default_of_a_rule_is_that_of_its_option(monkeypatch):
    class Other(BehaviourRules):
        session_gap: int = Field(77)

    monkeypatch.setattr("xdm.behaviours.rules.BehaviourRules", Other)
    assert defaults()["session_gap"] == 77


# --- the length of lists ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["evaluate", "oracle", "rolling"])
def test_every_command_that_judges_takes_lists_of_one_length_at_most(name, capfd):
    paths = {"evaluate": ["b", "s"], "oracle": ["small", "s"], "rolling": ["s", "--out", "o", "--start", "1d"]}[name]
    command = group.get_command(None, name)
    assert command.make_context(name, [*paths, "--k", str(LONGEST_LIST)]).params["ks"] == (LONGEST_LIST,)
    assert call(name, *paths, "--k", LONGEST_LIST + 1) == 2
    assert "1<=x<=10000" in capfd.readouterr().err


def test_an_experiment_takes_lists_of_the_same_length(tmp_path):
    keys = {"logs": {"w": {"world": {"users": 50}}}, "metrics": [f"hr@{LONGEST_LIST}"], "ks": [LONGEST_LIST]}
    assert read_file(write_file(tmp_path, **(BASE | keys))).ks == (LONGEST_LIST,)


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", every_command())
def test_no_command_takes_an_empty_path(name):
    paths = [param for param in every_command()[name].params if isinstance(param.type, click.Path)]
    assert all(isinstance(param.type, GivenPath) for param in paths)
    for param in paths:
        with pytest.raises(click.BadParameter, match="the path is empty"):
            param.type.convert("", param, None)


@pytest.mark.parametrize(
    "words",
    [
        ("prepare", "", "--out", "s"), ("prepare", "f.csv", "--out", ""), ("prepare", "f.csv", "", "--out", "s"),
        ("oracle", "", "store"), ("simulate", "--world", "", "--out", "s"), ("simulate", "--out", ""), ("compare", "a", ""),
        ("serve", "bundle", "--history", ""), ("keys", "list", "--file", ""), ("report", "sweep", "", "--x", "a", "--out", "s"),
        ("recommend", "bundle", "", "--user", "u"),
    ],
)  # fmt: skip
def test_an_empty_path_is_not_the_current_folder(words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.csv").write_text("user_id,item_id,timestamp,clicked\nu,i,1,1\n")
    assert call(*words) == 2
    assert "the path is empty; name a file or a folder" in capfd.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["f.csv"]


# --- one command's options in another's messages ----------------------------------------------------------------------


def test_a_time_that_was_learned_is_named_by_the_option_of_the_command(simulated, trained, tmp_path, capfd):
    assert call("report", "case", trained, trained, simulated, "--at", "2020-01-01", "--out", tmp_path / "case") == 2
    said = capfd.readouterr().err
    assert "choose a later --at, or train" in said
    assert "--cut-off" not in said
    assert call("evaluate", trained, simulated, "--cut-off", "2020-01-01") == 2
    assert "choose a later --cut-off, or train" in capfd.readouterr().err


@pytest.mark.parametrize(("option", "says"), [("--at", "one that was trained up to a time"), ("--cut-off", "--protocol last-click")])
def test_a_bundle_of_leave_last_out_is_refused_in_the_words_of_the_command(option, says):
    manifest = {"split": {"protocol": "last-click", "validation_from": 1, "test_from": 2, "until": 3}}
    with pytest.raises(UsageError, match=says) as raised:
        choose_split("bundle", manifest, 4, "test", "time", "2", None, option)
    assert (option == "--at") == ("--protocol" not in str(raised.value))


# --- recommend --------------------------------------------------------------------------------------------------------


def test_recommending_without_a_store_or_events_says_that_nothing_is_known(simulated, trained, tmp_path, capfd):
    user = Store(simulated).users.vocabulary.ids[0].as_py()
    assert call("recommend", trained, "--user", user, "--user", "nobody", "--k", 3, "--json") == 0
    printed = capfd.readouterr()
    assert printed.err.startswith("without STORE or --events nothing is known of a user")
    assert printed.err.count("\n") == 1
    answers = [json.loads(line) for line in printed.out.splitlines()]
    assert [answer["source"] for answer in answers] == ["popular"] * 2
    assert answers[0]["items"] == answers[1]["items"]
    assert answers[0]["timestamp"] > read_manifest(trained)["split"]["until"]
    event = {"item_id": answers[0]["items"][0]["item_id"], "timestamp": 5, "clicked": True}
    (tmp_path / "visit.jsonl").write_text(json.dumps(event))
    for known in ((simulated, "--user", user), ("--events", tmp_path / "visit.jsonl")):
        assert call("recommend", trained, *known, "--k", 3) == 0
        assert capfd.readouterr().err == ""
