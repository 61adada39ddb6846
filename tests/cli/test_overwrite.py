"""`--overwrite` replaces what the same command wrote, and nothing else: least of all what it reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.learning import SMALL, call, sets
from xdm.simulation.writing import EXPOSURES


@pytest.fixture
def folders(simulated, trained, tmp_path) -> dict[str, Path]:
    """A log, a store and a bundle that a test may lose."""
    for name, source in {"log": simulated.parent / "world", "store": simulated, "bundle": trained}.items():
        shutil.copytree(source, tmp_path / name)
    return {name: tmp_path / name for name in ("log", "store", "bundle")}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("lost", "arguments"),
    [
        ("log", lambda at: ["prepare", at["log"] / EXPOSURES, "--out", at["log"]]),
        ("store", lambda at: ["train", at["store"], "--out", at["store"], *sets(*SMALL), "--quiet"]),
        ("bundle", lambda at: ["evaluate", at["bundle"], at["store"], "--out", at["bundle"]]),
        ("store", lambda at: ["simulate", "--out", at["store"], "--users", 20]),
        ("log", lambda at: ["train", at["store"], "--out", at["log"], *sets(*SMALL), "--quiet"]),
        ("store", lambda at: ["rolling", at["store"], "--out", at["store"], "--start", "1d", "--windows", 1, *sets(*SMALL)]),
    ],
)  # fmt: skip
def test_a_folder_of_another_command_is_refused_and_stays(folders, lost, arguments, capfd):
    before = contents(folders[lost])
    assert call(*arguments(folders), "--overwrite") == 2
    error = capfd.readouterr().err
    assert "which only another command may replace" in error
    assert str(folders[lost]) in error
    assert contents(folders[lost]) == before


def test_what_the_same_command_wrote_is_replaced(folders):
    before = contents(folders["log"])
    assert call("simulate", "--out", folders["log"], "--users", 20, "--overwrite") == 0
    assert contents(folders["log"]) != before
