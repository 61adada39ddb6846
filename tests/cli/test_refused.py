"""What the system refuses to read or write: one line that names the path and the reason, exit code 2, no traceback."""

from __future__ import annotations

import errno
import os
import sys

import click
import pytest

from tests.experiments.files import write_file
from tests.learning import SMALL, call, sets
from xdm.cli import group
from xdm.simulation.writing import EXPOSURES

COMMANDS = {
    "prepare": lambda at: ["prepare", at["log"] / EXPOSURES],
    "simulate": lambda at: ["simulate", "--users", 20],
    "train": lambda at: ["train", at["store"], *sets(*SMALL), "--quiet"],
    "evaluate": lambda at: ["evaluate", at["bundle"], at["store"]],
    "rolling": lambda at: ["rolling", at["store"], "--start", "1d", "--windows", 1, *sets(*SMALL), "--quiet"],
    "oracle": lambda at: ["oracle", at["log"], at["store"]],
    "geometry": lambda at: ["report", "geometry", at["bundle"], at["store"], "--points", 3],
    "case": lambda at: ["report", "case", at["bundle"], at["bundle"], at["store"]],
    "experiment": lambda at: ["experiment", at["experiment"], "--quiet"],
    "demo": lambda at: ["demo", "--users", 100],
}


@pytest.fixture
def at(simulated, trained, tmp_path):
    experiment = write_file(tmp_path, simulated, variants={"sdm": {"model": "popularity"}})
    return {"log": simulated.parent / "world", "store": simulated, "bundle": trained, "experiment": experiment}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_out_that_cannot_be_written_is_one_message(at, name, tmp_path, capfd):
    (tmp_path / "file").write_text("of others")
    assert call(*COMMANDS[name](at), "--out", tmp_path / "file" / "out") == 2
    said = capfd.readouterr().err
    assert said.startswith(f"xdm: {tmp_path / 'file'}")
    assert os.strerror(errno.EEXIST) in said or os.strerror(errno.ENOTDIR) in said
    assert "choose another" in said
    assert said.count("\n") == 1
    assert (tmp_path / "file").read_text() == "of others"


def test_a_folder_where_nothing_can_be_made_is_one_message(at, capfd):
    assert call(*COMMANDS["evaluate"](at), "--out", "/proc/nothing/out") == 2
    said = capfd.readouterr().err
    assert said.startswith(f"xdm: /proc/nothing cannot be read or written ({os.strerror(errno.ENOENT)})")
    assert said.count("\n") == 1


def test_a_path_that_is_too_long_is_one_message(at, tmp_path, capfd):
    assert call("prepare", "x" * 300, "--out", tmp_path / "store") == 2
    assert f"({os.strerror(errno.ENAMETOOLONG)})" in capfd.readouterr().err


def ended(monkeypatch, capfd, error: BaseException) -> tuple[int, str]:
    """How the command line ends where a command raises ``error``."""

    @click.command()
    def fails() -> None:
        raise error

    monkeypatch.setattr(type(group), "get_command", lambda *_: fails)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # click puts others in their places when a pipe breaks
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    return call("models"), capfd.readouterr().err


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("d/log.csv", "d/log.csv"), (b"d/log.csv", "d/log.csv"), ("d/.store.12.ab_cd.partial", "d/store"),
        ("d/.store.v1.12.ab_cd.partial", "d/store.v1"), (".q.parquet.12.partial", "q.parquet"), ("d/.run.json.partial", "d/run.json"),
        ("d/.store.12.ab_cd.partial/time.npy", "d/.store.12.ab_cd.partial/time.npy"), (".partial", ".partial"),
    ],
)  # fmt: skip
def test_the_path_is_the_one_that_people_know(monkeypatch, capfd, filename, shown):
    code, said = ended(monkeypatch, capfd, PermissionError(errno.EACCES, "Permission denied", filename))
    assert code == 2
    assert said == f"xdm: {shown} cannot be read or written (Permission denied); check the path and its rights, or choose another\n"


def test_what_is_no_path_of_the_user_is_no_message_of_ours(monkeypatch, capfd):
    for error in (OSError(errno.EMFILE, "Too many open files"), OSError(errno.EBADF, "Bad file descriptor", 7)):
        with pytest.raises(OSError, match=error.strerror):
            ended(monkeypatch, capfd, error)


def test_a_reader_that_went_away_and_an_interrupt_end_as_before(monkeypatch, capfd):
    assert ended(monkeypatch, capfd, BrokenPipeError(errno.EPIPE, "Broken pipe")) == (1, "")
    code, said = ended(monkeypatch, capfd, KeyboardInterrupt())
    assert (code, said.strip()) == (130, "xdm: interrupted")
