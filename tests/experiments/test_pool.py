"""How many run at once: workers and measured memory decide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdm.experiments.pool import Pool, _Running
from xdm.experiments.task import peak_memory_mb


def task(log: str = "a", trained: bool = True) -> Any:
    return SimpleNamespace(log=log, trained=trained, title=f"{log}, {trained}")


def pool(workers: int = 4, memory: float = 1000, running: tuple[tuple[Any, float], ...] = (), **peaks: float) -> Pool:
    made = Pool(workers, memory, Path("output"), lambda line: None)
    made.peaks = {(name.split("_")[0], not name.endswith("_untrained")): peak for name, peak in peaks.items()}
    made._running = [_Running(one, SimpleNamespace(), Path("x"), peak) for one, peak in running]  # type: ignore[arg-type]
    return made


def test_the_first_run_of_a_log_is_alone():
    assert pool().fits(task())
    assert not pool(running=((task(), 10),)).fits(task())  # not measured yet
    assert not pool(running=((task("b"), 10),), a=10).fits(task("a"))  # the one that runs is being measured
    assert not pool(running=((task("a"), 10),), a=10).fits(task("b"))
    assert pool(running=((task("a"), 10),), a=10, b=10).fits(task("b"))


def test_what_is_not_trained_needs_no_more_than_what_is():
    assert pool(running=((task(), 10),), a=400).fits(task(trained=False))
    assert not pool(running=((task(), 10),), a=600).fits(task(trained=False))
    assert pool(running=((task(), 10),), a=600, a_untrained=300).fits(task(trained=False))
    assert not pool(running=((task(trained=False), 10),), a_untrained=1).fits(task())


@given(
    st.integers(1, 6), st.floats(10, 2000), st.lists(st.floats(0, 900), max_size=6), st.floats(1, 900),
)  # fmt: skip
def test_a_run_starts_beside_others_only_within_the_budget(workers, memory, held, peak):
    fits = pool(workers, memory, tuple((task(), mb) for mb in held), a=peak).fits(task())
    needed = sum(max(mb, peak) for mb in held) + peak
    assert fits == (not held or (len(held) < workers and needed <= memory))


def test_one_that_needs_more_than_the_budget_runs_alone_and_is_told(tmp_path, monkeypatch):
    said: list[str] = []
    made = Pool(2, 100, tmp_path, said.append)
    made.measured(task(), 150)
    made.measured(task(), 120)  # the largest counts
    assert made.fits(task())
    monkeypatch.setattr("subprocess.Popen", lambda *args, **options: SimpleNamespace(stdin=None))
    one = task()
    one.out, one.variant, one.model_dump_json = Path("seed-1"), "v", lambda: "{}"
    made.start(one)
    assert said == ["a, True: needs 150 MB by measure, more than the budget of 100; runs alone"]
    assert not made.fits(task())


def test_peak_memory(tmp_path):
    # in a process of its own: a peak that earlier tests have left would hide the growth
    growing = """
from xdm.experiments.task import peak_memory_mb
before = peak_memory_mb()
grown = bytearray(64 * 2**20)
grown[::4096] = b"x" * len(grown[::4096])
print(before, peak_memory_mb())
"""
    told = subprocess.run([sys.executable, "-c", growing], capture_output=True, text=True, check=True).stdout
    before, after = map(float, told.split())
    assert before + 50 < after < before + 200
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t   2048 kB\n")
    assert peak_memory_mb(status) == 2
    assert peak_memory_mb(tmp_path / "none") == pytest.approx(peak_memory_mb(), rel=0.5)
