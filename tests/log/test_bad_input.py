"""Every kind of bad input: its message, exit code 2, and no store left behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.log.bad_inputs import CASES, GOOD, HEADER, Bad, rows
from xdm.cli import main


def run_prepare(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["xdm", "prepare", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("bad", CASES, ids=[case.name for case in CASES])
def test_bad_input(
    bad: Bad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    bad.write(work)
    code = run_prepare(monkeypatch, *bad.log, "--out", str(tmp_path / "out" / "store"), *bad.options)
    printed = capsys.readouterr()
    assert code == 2, printed
    assert [part for part in bad.says if part not in printed.err] == [], printed.err
    assert printed.out == ""
    assert list((tmp_path / "out").rglob("*")) == [], "a store, or a part of one, was left"


def test_every_reason_is_counted_and_every_first_row_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading goes on to the end, so that one run tells all that is wrong."""
    lines = [GOOD] * 3 + [",i,1,0\n"] * 7 + ["u,i,1\n"] + ["u,i,-1,0\n"] * 2 + [GOOD] + ["u,-7,1,maybe\n"]
    (tmp_path / "log.csv").write_text(HEADER + "".join(lines))
    assert run_prepare(monkeypatch, str(tmp_path / "log.csv"), "--out", str(tmp_path / "store")) == 2
    said = capsys.readouterr().err
    assert "11 of 15 rows are bad" in said
    assert "7  user_id is null or empty" in said
    for row in (4, 5, 6, 7, 8, 11, 12, 13, 15):
        assert f"log.csv, row {row}:" in said
    assert "log.csv, row 9:" not in said  # five examples are enough
    assert "1  item_id is negative" in said
    assert "clicked is no boolean" not in said  # a row counts once, under its first fault


def test_a_bad_log_leaves_the_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows()(tmp_path)
    arguments = (str(tmp_path / "log.csv"), "--out", str(tmp_path / "store"))
    assert run_prepare(monkeypatch, *arguments) == 0
    before = (tmp_path / "store" / "manifest.json").read_bytes()
    assert run_prepare(monkeypatch, *arguments) == 2  # it exists
    rows("u,i,-1,0")(tmp_path)
    assert run_prepare(monkeypatch, *arguments, "--overwrite") == 2
    assert (tmp_path / "store" / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "store"]


def test_json_tells_the_bad_rows_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows(",i,1,0")(tmp_path)
    arguments = (str(tmp_path / "log.csv"), "--out", str(tmp_path / "store"), "--json")
    assert run_prepare(monkeypatch, *arguments) == 2
    wrong = {"count": 1, "first": [{"file": str(tmp_path / "log.csv"), "row": 2, "value": "''"}]}
    said = json.loads(capsys.readouterr().out)
    assert said == {"rows_read": 2, "events": 0, "bad_rows": {"user_id is null or empty": wrong}}
    assert run_prepare(monkeypatch, *arguments, "--on-bad-rows", "drop") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bad_rows"] == said["bad_rows"]
    assert (report["rows_read"], report["events"], report["clicks"]) == (2, 1, 1)
    assert (report["users"], report["items"], report["store"]) == (1, 1, str(tmp_path / "store"))
