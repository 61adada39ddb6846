"""MovieLens in its three layouts, against generated fixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.adapters.reading import assert_fingerprint, assert_size_is_near, open_log, rows_of
from xdm.schema import LogError

RATINGS = [(196, 242, 3, 881250949), (186, 302, 3, 891717742), (196, 1, 5, 881250949)]
CLICKS: list[dict[str, Any]] = [
    {"user_id": user, "item_id": item, "timestamp": time, "clicked": True} for user, item, _, time in RATINGS
]


def write_100k(folder: Path) -> None:
    flags = {"none": "0|" * 18 + "0", "unknown": "1" + "|0" * 18, "comedy": "0|0|0|0|0|1|0|0|1" + "|0" * 10}
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in RATINGS))
    films = [
        f"1|Misérables, Les (1995)|01-Jan-1995||http://example.org/1|{flags['comedy']}",
        f"242|unknown||||{flags['unknown']}",
        f"302|L.A. Confidential (1997)|01-Jan-1997||http://example.org/2|{flags['none']}",
    ]
    (folder / "u.item").write_text("\n".join(films) + "\n", encoding="iso-8859-1")
    (folder / "u.user").write_text("186|39|F|executive|00000\n196|49|M|writer|55105\n")


def write_dat(folder: Path) -> None:
    (folder / "ratings.dat").write_text("".join("::".join(map(str, row)) + "\n" for row in RATINGS))
    films = ["1::Misérables: Les (1995)::Comedy|Drama", "242::No year::(no genres listed)", "302::X (1997)::Crime"]
    (folder / "movies.dat").write_text("\n".join(films) + "\n", encoding="iso-8859-1")
    (folder / "users.dat").write_text("186::F::35::7::00000\n196::M::45::20::55105\n")


def write_csv(folder: Path) -> None:
    header = "userId,movieId,rating,timestamp\n"
    (folder / "ratings.csv").write_text(header + "".join(",".join(map(str, row)) + "\n" for row in RATINGS))
    (folder / "movies.csv").write_text(
        'movieId,title,genres\n1,"Misérables, Les (1995)",Comedy|Drama\n242,No year,(no genres listed)\n'
        '302,"A series (1997–2003) ",Crime\n'
    )


LAYOUTS = {"100k": write_100k, "dat": write_dat, "csv": write_csv}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_rating_is_a_click(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path)
    assert rows_of(open_log("movielens", tmp_path)) == CLICKS


def test_size_is_estimated_before_reading(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("".join(f"{user}\t242\t3\t881250949\n" for user in range(100, 200_000)))
    assert_size_is_near(open_log("movielens", tmp_path), 199_900)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_items_have_the_first_genre_and_the_year(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path)
    items = open_log("movielens", tmp_path).items
    assert items is not None
    last = None if layout == "100k" else "Crime"  # no flag is set there
    assert items.to_pylist() == [
        {"item_id": 1, "category": "Comedy", "year": "1995"},
        {"item_id": 242, "category": None, "year": None},
        {"item_id": 302, "category": last, "year": "1997"},
    ]


def test_users_where_they_are_published(tmp_path: Path) -> None:
    for layout in LAYOUTS:
        (tmp_path / layout).mkdir()
        LAYOUTS[layout](tmp_path / layout)
    users = {layout: open_log("movielens", tmp_path / layout).users for layout in LAYOUTS}
    assert users["100k"] is not None
    assert users["dat"] is not None
    assert users["100k"].to_pylist() == [
        {"user_id": 186, "age": "39", "gender": "F", "occupation": "executive"},
        {"user_id": 196, "age": "49", "gender": "M", "occupation": "writer"},
    ]
    assert users["dat"].to_pylist() == [
        {"user_id": 186, "gender": "F", "age": "35", "occupation": "7"},
        {"user_id": 196, "gender": "M", "age": "45", "occupation": "20"},
    ]
    assert users["csv"] is None


def test_half_stars_of_the_larger_sets(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("196::242::3.5::881250949\n")
    source = open_log("movielens", tmp_path)
    assert rows_of(source) == CLICKS[:1]
    assert source.items is None
    assert source.users is None


def test_fingerprint_names_what_was_read(tmp_path: Path) -> None:
    write_100k(tmp_path)
    assert_fingerprint(open_log("movielens", tmp_path), tmp_path, ["u.data", "u.item", "u.user"])


def test_a_short_row_is_refused_with_its_number(tmp_path: Path) -> None:
    write_dat(tmp_path)
    (tmp_path / "movies.dat").write_text("1::A (1995)::Comedy\n2::B (1996)\n")
    with pytest.raises(LogError, match=r"movies\.dat, row 2: 2 fields separated by '::', expected 3"):
        _ = open_log("movielens", tmp_path).items


def test_a_rating_that_is_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,2,3.5,yesterday\n")
    with pytest.raises(LogError, match=r"ratings\.csv cannot be read.*yesterday"):
        rows_of(open_log("movielens", tmp_path))
