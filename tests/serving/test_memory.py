"""Memory over requests of all kinds: a short run, and what counts as a leak."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.serving.memory import judged
from benchmarks.serving.process import Running

from tests.serving.parts import run_part


def test_memory_is_flat_after_the_first_requests(bundle):
    found = run_part("memory", "--bundle", bundle, "--requests", 4000, "--first", 2000)
    assert found["requests"] == 4000
    assert len(found["kinds"]) == 11
    assert {"200", "400", "404", "422"} <= set(found["statuses"]) <= {"200", "400", "404", "415", "422"}
    assert found["MiB at the end"] > 50


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"], text=True) as process:
        yield Running(process, 0, Path(os.devnull))
        process.kill()


@pytest.mark.parametrize(
    ("samples", "statuses", "failures"),
    [
        ([100] * 40, {"200": 9}, 0),
        ([100] * 20 + [104] * 20, {"200": 9, "422": 3}, 0),  # a step that stays
        ([100 + n for n in range(40)], {"200": 9}, 2),  # it grows, and goes on growing
        ([1000 + n for n in range(40)], {"200": 9}, 0),
        ([100] * 30 + [103] * 10, {"200": 9}, 1),  # little, but just now
        ([100] * 40, {"200": 9, "500": 1}, 1),
        ([100] * 40, {"200": 9, "RemoteDisconnected": 1}, 1),
    ],
)
def test_growth_and_faults_are_failures(samples, statuses, failures, sleeper):
    assert len(judged([mib << 20 for mib in samples], Counter(statuses), sleeper)["failed"]) == failures
