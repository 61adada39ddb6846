"""MovieLens (100K, 1M, 10M, 20M, 25M, 32M, latest): ratings with a time. A click-only log: every rating is a click.

Three layouts: ``u.data``, ``u.item``, ``u.user`` (100K); ``ratings.dat``, ``movies.dat``, ``users.dat`` (1M, 10M);
``ratings.csv``, ``movies.csv`` (20M and later).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from xdm.log.adapters.published import PublishedLog, read_delimited, read_delimited_table, read_lines, wrong_layout
from xdm.schema import CLICKED, ITEM_ID, TIMESTAMP, USER_ID

# The order of the flags in u.item
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
NO_GENRE = ("unknown", "(no genres listed)", "")
LATIN = "iso-8859-1"  # the encoding of the files of 100K, 1M and 10M

SCHEMA = pa.schema([(USER_ID, pa.int64()), (ITEM_ID, pa.int64()), (TIMESTAMP, pa.int64()), (CLICKED, pa.bool_())])
NUMBERS = (pa.int64(),) * 3


def open_source(path: Path) -> MovielensLog:
    """The log of a MovieLens folder, of whichever size.

    Raises:
        LogError: ``path`` holds none of the three layouts.
    """
    for layout in (Movielens100K, MovielensDat, MovielensCsv):
        if (path / layout.RATINGS).exists():
            return layout(path)
    wanted = " or ".join(layout.RATINGS for layout in (Movielens100K, MovielensDat, MovielensCsv))
    raise wrong_layout("MovieLens", path, wanted)


class MovielensLog(PublishedLog, ABC):
    """One click a rating. Items have the first genre as category and the release year, both as text."""

    RATINGS: str
    ITEMS: str
    USERS: str

    def __init__(self, root: Path) -> None:
        super().__init__(root, [root / self.RATINGS], [root / name for name in (self.ITEMS, self.USERS) if name])

    @abstractmethod
    def movies(self, path: Path) -> Iterator[tuple[str, str, str]]:
        """``(id, title, first genre)`` of each film."""

    @property
    def items(self) -> pa.Table | None:
        path = self.root / self.ITEMS
        if not path.exists():
            return None
        movies = list(self.movies(path))
        return pa.table(
            {
                ITEM_ID: pa.array([int(movie) for movie, _, _ in movies], pa.int64()),
                "category": pa.array([None if genre in NO_GENRE else genre for _, _, genre in movies], pa.string()),
                "year": pa.array([release_year(title) for _, title, _ in movies], pa.string()),
            }
        )


class Movielens100K(MovielensLog):
    RATINGS, ITEMS, USERS = "u.data", "u.item", "u.user"

    def read(self, path: Path) -> Iterator[pa.RecordBatch]:
        header = ("user", "item", "rating", "timestamp")
        types = dict(zip(("user", "item", "timestamp"), NUMBERS, strict=True))
        yield from map(as_clicks, read_delimited(path, types, delimiter="\t", header=header))

    def movies(self, path: Path) -> Iterator[tuple[str, str, str]]:
        for row in read_lines(path, "|", 5 + len(GENRES_100K), LATIN):
            genres = [genre for genre, flag in zip(GENRES_100K, row[5:], strict=True) if flag == "1"]
            yield row[0], row[1], genres[0] if genres else ""

    @property
    def users(self) -> pa.Table | None:
        path = self.root / self.USERS
        if not path.exists():
            return None
        return user_table(read_lines(path, "|", 5, LATIN), {"age": 1, "gender": 2, "occupation": 3})


class MovielensDat(MovielensLog):
    RATINGS, ITEMS, USERS = "ratings.dat", "movies.dat", "users.dat"

    def read(self, path: Path) -> Iterator[pa.RecordBatch]:
        # The block reader splits at one character, so "::" leaves an empty column between two fields.
        header = ("user", "_1", "item", "_2", "rating", "_3", "timestamp")
        types = dict(zip(("user", "item", "timestamp"), NUMBERS, strict=True))
        yield from map(as_clicks, read_delimited(path, types, delimiter=":", header=header, quoted=False))

    def movies(self, path: Path) -> Iterator[tuple[str, str, str]]:
        for movie, title, genres in read_lines(path, "::", 3, LATIN):
            yield movie, title, genres.split("|")[0]

    @property
    def users(self) -> pa.Table | None:
        path = self.root / self.USERS
        if not path.exists():
            return None
        return user_table(read_lines(path, "::", 5, LATIN), {"gender": 1, "age": 2, "occupation": 3})


class MovielensCsv(MovielensLog):
    RATINGS, ITEMS, USERS = "ratings.csv", "movies.csv", ""

    def read(self, path: Path) -> Iterator[pa.RecordBatch]:
        types = dict(zip(("userId", "movieId", "timestamp"), NUMBERS, strict=True))
        yield from map(as_clicks, read_delimited(path, types))

    def movies(self, path: Path) -> Iterator[tuple[str, str, str]]:
        table = read_delimited_table(path, dict.fromkeys(("movieId", "title", "genres"), pa.string()))
        for row in table.to_pylist():
            yield row["movieId"], row["title"] or "", (row["genres"] or "").split("|")[0]


def as_clicks(ratings: pa.RecordBatch) -> pa.RecordBatch:
    """Ratings (user, item, time in seconds) as exposures that were clicked."""
    clicked = pa.repeat(pa.scalar(True), ratings.num_rows)
    return pa.RecordBatch.from_arrays([*ratings.columns, clicked], schema=SCHEMA)


def release_year(title: str) -> str | None:
    """The year at the end of a title: ``Toy Story (1995)``; null where there is none."""
    found = re.search(r"\((\d{4})[^)]*\)\s*$", title)
    return found.group(1) if found else None


def user_table(rows: Sequence[Sequence[str]], profile: dict[str, int]) -> pa.Table:
    """The users table from text rows; ``profile`` says which field each column is. The post code is left out."""
    columns = {USER_ID: pa.array([int(row[0]) for row in rows], pa.int64())}
    for name, field in profile.items():
        columns[name] = pa.array([row[field] for row in rows], pa.string())
    return pa.table(columns)
