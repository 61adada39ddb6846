"""``xdm simulate``: what it writes, says and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from xdm.cli import group
from xdm.schema import ConfigError, UsageError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["simulate", *arguments], catch_exceptions=False)


def test_writes_the_files_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "log"
    result = run("--out", str(out), "--users", "40", "--days", "2")
    assert result.exit_code == 0
    assert {path.name for path in out.iterdir()} == {
        "exposures.parquet", "items.parquet", "users.parquet", "truth.parquet", "manifest.json",
    }  # fmt: skip
    exposures = pq.read_table(out / "exposures.parquet")
    assert f"simulated {len(exposures):,} exposures of 240 items to 40 users in 2 days" in result.output
    assert f"xdm prepare {out}/exposures.parquet --items {out}/items.parquet" in result.output


def test_json_counts_what_was_written(tmp_path: Path) -> None:
    out = tmp_path / "log"
    result = run("--out", str(out), "--users", "40", "--click-liked", "0.5", "--json")
    answer = json.loads(result.stdout)
    exposures = pq.read_table(out / "exposures.parquet")
    assert answer["simulated"] is True
    assert answer["exposures"] == len(exposures)
    assert answer["clicks"] == sum(exposures["clicked"].to_pylist())
    assert (answer["settings"]["users"], answer["settings"]["click_liked"], answer["settings"]["days"]) == (40, 0.5, 6)
    assert answer["out"] == str(out)
    assert json.loads((out / "manifest.json").read_text()) == {k: v for k, v in answer.items() if k != "out"}


def test_a_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    out = str(tmp_path / "log")
    run("--out", out, "--users", "5")
    with pytest.raises(UsageError, match="exists already"):
        run("--out", out, "--users", "6")
    assert run("--out", out, "--users", "6", "--overwrite").exit_code == 0
    assert len(pq.read_table(tmp_path / "log" / "users.parquet")) == 6


def test_impossible_settings_name_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--share-liked 2\.0: Input should be less than or equal to 1"):
        run("--out", str(tmp_path / "log"), "--share-liked", "2")
    with pytest.raises(ConfigError, match=r"least_exposures \(9\) is above most_exposures \(6\)"):
        run("--out", str(tmp_path / "log"), "--least-exposures", "9")
    assert not (tmp_path / "log").exists()
    assert run("--out", str(tmp_path / "log"), "--users", "many").exit_code == 2
