"""A prepare that is killed or interrupted leaves the old store or none, and no trace after the next."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.log.oracle import Exposure, expected_store, read_back
from tests.log.writing import write_log
from xdm.log.preparing import prepare_log

# Prepares, and stands still once the stage in question has begun to tell of its progress.
HOLD = """
import sys, time
from xdm.log.preparing import prepare_log

def hold(stage, fraction, rows):
    if stage == sys.argv[3]:
        print("held", flush=True)
        time.sleep(60)

prepare_log(sys.argv[1], sys.argv[2], overwrite=True, progress=hold)
"""
# The command itself, standing still after the log was read.
COMMAND = """
import sys, time
import xdm.log.preparing
from xdm.cli import main

def hold(*arguments):
    print("held", flush=True)
    time.sleep(60)

xdm.log.preparing.sort_parts = hold
sys.argv = ["xdm", "prepare", sys.argv[1], "--out", sys.argv[2], "--overwrite"]
main()
"""
OLD = [Exposure("u", "a", 1, False), Exposure("u", "a", 2, True)]
NEW = [Exposure("v", "b", row, row % 2 == 0) for row in range(50)]


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """The script's process, once it stands still."""
    command = [sys.executable, "-c", script, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(("stage", "before"), [("reading", False), ("sorting", True), ("writing", True)])
def test_killed(tmp_path: Path, stage: str, before: bool) -> None:
    old = write_log(tmp_path / "old.parquet", OLD, optional=False, integer=False)
    new = write_log(tmp_path / "new.parquet", NEW, optional=False, integer=False)
    out = tmp_path / "out" / "store"
    if before:
        prepare_log(old, out)
    process = start(HOLD, str(new), str(out), stage)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    if before:
        assert read_back(out) == expected_store(OLD, 1)
    else:
        assert not out.exists()
    assert list(out.parent.glob(".store.*.partial"))  # what it had written so far
    prepare_log(new, out, overwrite=True)
    assert read_back(out) == expected_store(NEW, 1)
    assert [path.name for path in out.parent.iterdir()] == ["store"]


def test_interrupted(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.parquet", NEW, optional=False, integer=False)
    out = tmp_path / "out" / "store"
    process = start(COMMAND, str(log), str(out))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.strip() == "xdm: interrupted"
    assert list(out.parent.iterdir()) == []
