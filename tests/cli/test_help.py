"""Help is quick and light, and every command shows how it is used."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest

from tests.learning import call
from xdm.cli import COMMANDS

HEAVY = ("torch", "numba", "polars", "pyarrow", "onnxruntime", "pydantic", "numpy", "rich", "fastapi", "matplotlib")


def test_help_needs_less_than_half_a_second_of_the_processor():
    """Processor time of the process, not time on the wall: other work on the machine must not decide."""
    code = "import sys, time, atexit; atexit.register(lambda: print(time.process_time())); sys.argv = ['xdm', '--help']; " \
        "import runpy; runpy.run_module('xdm', run_name='__main__')"  # fmt: skip
    spent = []
    for _ in range(3):
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "Commands:" in ran.stdout
        spent.append(float(ran.stdout.splitlines()[-1]))
    assert statistics.median(spent) < 0.5


def test_importing_the_package_and_its_command_line_imports_nothing_heavy():
    code = f"import sys, json, xdm, xdm.cli; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # schema.py, the vocabulary, names numpy's types
    assert set(json.loads(ran.stdout)) <= {"numpy"}


def test_help_lists_every_command_in_order(capfd):
    assert call("--help") == 0
    printed = capfd.readouterr().out
    listed = [line.split()[0] for line in printed.split("Commands:")[1].splitlines() if line.startswith("  ")]
    assert [word for word in listed if word in COMMANDS] == list(COMMANDS)
    assert "0 fine, 2 wrong use or bad input, 1 a fault of ours" in printed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_examples(name, capfd):
    assert call(name, "--help") == 0
    printed = capfd.readouterr().out
    assert f"xdm {name} " in printed.splitlines()[0]
    assert any(line.strip().startswith(f"xdm {name}") for line in printed.splitlines()[1:]), printed
    options = [line.split() for line in printed.split("Options:")[1].splitlines() if line.lstrip().startswith("--")]
    assert all(len(words) > 1 for words in options), options


@pytest.mark.parametrize("arguments", [["-h"], ["--help"]])
def test_short_and_long_help_are_the_same(arguments, capfd):
    assert call(*arguments) == 0
    assert "xdm demo" in capfd.readouterr().out


def test_version(capfd):
    from xdm import __version__

    assert call("--version") == 0
    assert capfd.readouterr().out == f"xdm, version {__version__}\n"


@pytest.mark.parametrize(("wrong", "near"), [("trian", "train"), ("behaviors", "behaviours"), ("model", "models")])
def test_a_mistyped_command_is_answered_with_the_nearest(wrong, near, capfd):
    assert call(wrong) == 2
    printed = capfd.readouterr()
    assert f"No such command '{wrong}'. Did you mean '{near}'?" in printed.err
    assert printed.out == ""


def test_a_mistyped_option_is_named(capfd):
    assert call("train", "store", "--out", "b", "--modle", "sdm") == 2
    assert "--modle" in capfd.readouterr().err
