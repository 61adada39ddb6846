from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xdm.folders import MANIFEST, check_replaceable, file_sha256, new_folder, write_json
from xdm.schema import UsageError

KIND = "xdm-event-store"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "store"
    with new_folder(out, KIND) as folder:
        (folder / "part").mkdir()
        (folder / "part" / "a").write_text("a")
        assert not out.exists()
    assert (out / "part" / "a").read_text() == "a"
    assert [path.name for path in out.parent.iterdir()] == ["store"]
    assert out.stat().st_mode & 0o777 == 0o755


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "store"
    with new_folder(out, KIND) as folder:
        write_json(folder / MANIFEST, {"format": KIND})
    with pytest.raises(RuntimeError, match="midway"):
        fail_midway(out)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert [path.name for path in out.iterdir()] == [MANIFEST]


def fail_midway(out: Path) -> None:
    with new_folder(out, KIND, overwrite=True) as folder:
        (folder / "new").write_text("new")
        raise RuntimeError("midway")


def test_overwrite_replaces_the_whole_folder(tmp_path: Path) -> None:
    out = tmp_path / "store"
    for name in ("old", "new"):
        with new_folder(out, KIND, overwrite=True) as folder:
            write_json(folder / MANIFEST, {"format": KIND})
            (folder / name).write_text("")
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, "new"]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    file, foreign, ours, empty = (tmp_path / name for name in ("file", "foreign", "ours", "empty"))
    file.write_text("")
    empty.mkdir()
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    ours.mkdir()
    write_json(ours / MANIFEST, {"format": KIND})
    for path, overwrite, says in (
        (file, True, "is not a folder"),
        (foreign, False, "exists already"),
        (foreign, True, "was not written by xdm"),
        (ours, False, "pass --overwrite"),
    ):
        with pytest.raises(UsageError, match=says), new_folder(path, KIND, overwrite=overwrite):
            pytest.fail("the block must not be entered")
    with new_folder(empty, KIND) as folder:
        (folder / "a").write_text("a")
    assert (empty / "a").exists()
    assert (foreign / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("held", "kind", "says"),
    [
        ({MANIFEST: {"format": "xdm-bundle"}}, KIND, "holds xdm-bundle, which only another command may replace, not xdm-event-store"),
        ({MANIFEST: {"format": "xdm-bundle"}, "metrics.json": {}}, "metrics.json", "holds xdm-bundle"),
        ({MANIFEST: {"format": "xdm-bundle"}, "config.yaml": {}}, "config.yaml", "holds xdm-bundle"),
        ({MANIFEST: {"name": "a web page", "icons": []}}, KIND, "was not written by xdm"),
        ({MANIFEST: []}, KIND, "was not written by xdm"),
        ({MANIFEST: {"format": ["xdm-event-store"]}}, KIND, "was not written by xdm"),
        ({"metrics.json": {}}, "report.json", "was not written by xdm"),
        ({"metrics.json": {}}, KIND, "was not written by xdm"),
    ],
)  # fmt: skip
def test_a_folder_of_another_kind_is_never_replaced(tmp_path: Path, held: dict, kind: str, says: str) -> None:
    for name, value in held.items():
        write_json(tmp_path / name, value)
    with pytest.raises(UsageError, match=says):
        check_replaceable(tmp_path, kind, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(held)


@pytest.mark.parametrize("kind", ["metrics.json", KIND])
def test_a_folder_of_the_same_kind_is(tmp_path: Path, kind: str) -> None:
    write_json(tmp_path / (MANIFEST if kind == KIND else kind), {"format": kind})
    check_replaceable(tmp_path, kind, overwrite=True)


def test_leftovers_of_dead_processes_go_and_of_living_ones_stay(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = tmp_path / f".store.{ended.pid}.abcd.partial"
    living = tmp_path / f".store.{os.getpid()}.abcd.partial"
    other = tmp_path / f".another.{ended.pid}.abcd.partial"
    for path in (dead, living, other):
        path.mkdir()
    with new_folder(tmp_path / "store", KIND):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, other.name, "store"])


def test_a_killed_process_that_nobody_has_waited_for_is_dead(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    killed.kill()
    while Path(f"/proc/{killed.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        pass  # it stays in the table of processes, as a zombie, until its parent asks for its end
    leftover = tmp_path / f".store.{killed.pid}.abcd.partial"
    leftover.mkdir()
    with new_folder(tmp_path / "store", KIND):
        pass
    assert not leftover.exists()
    killed.wait()


def test_json_is_replaced_whole_and_has_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"ü": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert path.read_text() == '{\n  "ü": 1\n}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_sha256_is_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "abc") == known
