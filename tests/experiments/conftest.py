"""One small grid, run once: its folder is read by several tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.files import write_file
from xdm.experiments.file import read_file
from xdm.experiments.running import Grid, run_experiment

VARIANTS = {
    "popularity": {"model": "popularity"},
    "sdm": {"model": "sdm"},
    "tuned": {"model": "xdm", "unclicked.enabled": True, "objective.margin": {"low": 0.1, "high": 1.5}},
}
KEYS = {"seeds": [1, 2], "search": {"trials": 2}}


@pytest.fixture(scope="session")
def grid_file(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_file(tmp_path_factory.mktemp("grid"), simulated, variants=VARIANTS, **KEYS)


@pytest.fixture(scope="session")
def grid(grid_file: Path) -> Grid:
    """Five runs and two trials that are done."""
    return run_experiment(read_file(grid_file), grid_file.parent / "out")
