"""What holds for every adapter: a folder of another kind is refused by name, and the registry is quick to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from xdm.log.adapters import ADAPTERS
from xdm.schema import LogError

WANTED = {
    "ebnerd": ("train/behaviors.parquet", "validation/behaviors.parquet", "articles.parquet"),
    "kuairand": ("data/log_standard_*.csv", "data/log_random_*.csv"),
    "mind": ("behaviors.tsv", "news.tsv", "*train", "*dev"),
    "movielens": ("u.data", "ratings.dat", "ratings.csv"),
}


def test_every_adapter_is_checked_here() -> None:
    assert set(WANTED) == set(ADAPTERS)


@pytest.mark.parametrize("name", WANTED)
def test_the_error_names_the_files_that_were_looked_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(LogError) as caught:
        ADAPTERS[name](tmp_path)
    assert str(tmp_path) in str(caught.value)
    for file in WANTED[name]:
        assert file in str(caught.value)


@pytest.mark.parametrize("name", WANTED)
def test_a_path_that_is_no_folder_is_said_to_be_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(LogError, match="does not exist"):
        ADAPTERS[name](tmp_path / "nowhere")
    file = tmp_path / "log.csv"
    file.write_text("user_id\n")
    with pytest.raises(LogError, match="is a file, not a folder"):
        ADAPTERS[name](file)


def test_looking_a_name_up_imports_no_heavy_library() -> None:
    program = (
        "import sys, xdm.log.adapters as a; assert 'ebnerd' in a.ADAPTERS;"
        "print([m for m in ('pyarrow', 'polars', 'numba', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
