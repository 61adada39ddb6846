"""Two rounds of `benchmarks/crash.py`, which kills for real: nothing acknowledged is lost, doubled or torn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_kill_9_at_random_moments(kind, request, tmp_path):
    if kind == "redis":
        request.getfixturevalue("redis_server")  # skips or fails where there is none
    command = [sys.executable, ROOT / "benchmarks/crash.py", "--kills", "2", "--state", kind, "--folder", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = json.loads(done.stdout)
    assert counted["acknowledged"] > 50
    assert [counted[wrong] for wrong in ("lost", "doubled", "torn", "miscounted", "lost later")] == [0] * 5
