"""The simulated world keeps what it promises: judged on the rows of its files, with plain loops."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from xdm.schema import DAY, HOUR
from xdm.simulation import World
from xdm.simulation import users as users_module
from xdm.simulation.writing import write_world

Row = dict[str, Any]
USERS = 600
WORLD = World(users=USERS)


def cluster_of(topic: str) -> int:
    return (int(topic.removeprefix("topic-")) - 1) // WORLD.topics


class Files(NamedTuple):
    """The four tables as rows, and lookups over them."""

    exposures: list[Row]
    items: list[Row]
    users: list[Row]
    truth: list[Row]

    def topics(self) -> dict[str, str]:
        return {row["item_id"]: row["category"] for row in self.items}

    def likes(self) -> set[tuple[str, str]]:
        return {(row["user_id"], row["category"]) for row in self.truth}

    def by_user(self) -> dict[str, list[Row]]:
        rows = defaultdict(list)
        for row in self.exposures:
            rows[row["user_id"]].append(row)
        return rows


def simulate(folder: Path, **settings: Any) -> Files:
    write_world(World(**settings), folder)
    names = ("exposures", "items", "users", "truth")
    return Files(*(pq.read_table(folder / f"{name}.parquet").to_pylist() for name in names))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return simulate(tmp_path_factory.mktemp("world") / "log", users=USERS)


def visits_of(rows: list[Row]) -> list[list[Row]]:
    """The exposures of one user, visit by visit."""
    visits: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        visits[row["session_id"]].append(row)
    return list(visits.values())


def test_same_settings_same_log(tmp_path: Path) -> None:
    one = simulate(tmp_path / "one", users=50, seed=3)
    assert one == simulate(tmp_path / "two", users=50, seed=3)
    other = simulate(tmp_path / "three", users=50, seed=4)
    assert one.exposures != other.exposures
    assert one.truth != other.truth
    assert one.items != other.items


def test_rows_are_as_documented(files: Files) -> None:
    assert [row["user_id"] for row in files.users] == [f"u{n:03d}" for n in range(1, USERS + 1)]
    assert [row["item_id"] for row in files.items] == [f"i{n:03d}" for n in range(1, WORLD.n_items + 1)]
    categories = [row["category"] for row in files.items]
    assert {categories.count(category) for category in categories} == {WORLD.items_per_topic}
    assert len(set(categories)) == WORLD.clusters * WORLD.topics
    times = [row["timestamp"] for row in files.exposures]
    assert times == sorted(times)
    assert set(files.exposures[0]) == {"user_id", "item_id", "timestamp", "clicked", "session_id", "position"}
    assert set(files.by_user()) <= {row["user_id"] for row in files.users}
    assert {row["item_id"] for row in files.exposures} <= {row["item_id"] for row in files.items}
    for rows in files.by_user().values():
        for visit in visits_of(rows):
            assert WORLD.least_exposures <= len(visit) <= WORLD.most_exposures
            assert [row["position"] for row in visit] == list(range(1, len(visit) + 1))
            gaps = np.diff([row["timestamp"] for row in visit])
            assert (gaps > 0).all()
            assert (gaps < 600).all(), "the exposures of a visit are one session"
            second = visit[0]["timestamp"] - WORLD.start
            assert 0 <= second < WORLD.days * DAY
            assert 7 <= second % DAY / HOUR < 23


def test_visits_do_not_overlap_and_are_as_many_as_asked(files: Files) -> None:
    visits = 0
    for rows in files.by_user().values():
        spans = [(visit[0]["timestamp"], visit[-1]["timestamp"]) for visit in visits_of(rows)]
        assert all(end < start for (_, end), (start, _) in itertools.pairwise(spans))
        visits += len(spans)
    expected = USERS * WORLD.days * WORLD.visits * WORLD.active
    assert visits == pytest.approx(expected, rel=0.03)
    assert len({row["session_id"] for row in files.exposures}) == visits


def test_a_user_sees_one_cluster_and_likes_topics_of_it(files: Files) -> None:
    topics = files.topics()
    seen = {user: {cluster_of(topics[row["item_id"]]) for row in rows} for user, rows in files.by_user().items()}
    assert all(len(clusters) == 1 for clusters in seen.values())
    assert set().union(*seen.values()) == set(range(WORLD.clusters))
    for user, topic in files.likes():
        assert cluster_of(topic) in seen[user]
    assert {user for user, _ in files.likes()} == {row["user_id"] for row in files.users}
    assert len(files.truth) / USERS == pytest.approx(WORLD.share_liked * WORLD.topics, rel=0.1)


@pytest.mark.parametrize(("p", "q"), [(0.9, 0.005), (0.6, 0.1)])
def test_clicks_follow_p_and_q(tmp_path: Path, p: float, q: float) -> None:
    files = simulate(tmp_path / "log", users=USERS, click_liked=p, click_other=q)
    topics, likes = files.topics(), files.likes()
    clicks: dict[bool, list[bool]] = {True: [], False: []}
    for row in files.exposures:
        clicks[(row["user_id"], topics[row["item_id"]]) in likes].append(row["clicked"])
    for liked, probability in ((True, p), (False, q)):
        deviation = (probability * (1 - probability) / len(clicks[liked])) ** 0.5
        assert abs(np.mean(clicks[liked]) - probability) < 4 * deviation


def test_no_click_is_shown_again_and_no_item_too_often(files: Files) -> None:
    for rows in files.by_user().values():
        times_shown: dict[str, int] = defaultdict(int)
        clicked = set()
        for row in rows:
            assert row["item_id"] not in clicked
            times_shown[row["item_id"]] += 1
            if row["clicked"]:
                clicked.add(row["item_id"])
        assert max(times_shown.values()) <= 3


@pytest.mark.parametrize("again", [0.0, 0.5, 1.0])
def test_a_skipped_item_comes_back_at_the_next_visit(tmp_path: Path, again: float) -> None:
    # With as many exposures in every visit, all that is due finds room.
    files = simulate(tmp_path / "log", users=300, show_again=again, least_exposures=5, most_exposures=5)
    came_back = []
    for rows in files.by_user().values():
        times_shown: dict[str, int] = defaultdict(int)
        visits = visits_of(rows)
        for visit, following in itertools.pairwise(visits):
            next_items = {row["item_id"] for row in following}
            for row in visit:
                times_shown[row["item_id"]] += 1
                if not row["clicked"] and times_shown[row["item_id"]] < 3:
                    came_back.append(row["item_id"] in next_items)
                else:
                    assert row["item_id"] not in next_items
    deviation = (again * (1 - again) / len(came_back)) ** 0.5
    assert abs(np.mean(came_back) - again) <= 4 * deviation


def unclicked_at(rows: list[Row], time: int, k: int) -> set[str]:
    """The items that the rows of one user leave unclicked: shown more than ``k`` times in three days, not clicked there."""
    window = [row for row in rows if time - 3 * DAY <= row["timestamp"] < time]
    clicked = {row["item_id"] for row in window if row["clicked"]}
    shown = [row["item_id"] for row in window]
    return {item for item in shown if shown.count(item) > k and item not in clicked}


def test_most_users_have_an_unclicked_sequence(files: Files) -> None:
    last_day = WORLD.start + (WORLD.days - 1) * DAY
    lengths = [len(unclicked_at(rows, last_day, k=1)) for rows in files.by_user().values()]
    assert np.mean([length > 0 for length in lengths]) > 0.9
    assert np.mean(lengths) > 4


def test_skips_tell_what_is_not_liked(files: Files) -> None:
    topics, likes = files.topics(), files.likes()
    every_topic = sorted(set(topics.values()))
    liked_of_skipped, liked_of_unseen = [], []
    for user, rows in files.by_user().items():
        seen = {topics[row["item_id"]] for row in rows}
        clicked = {topics[row["item_id"]] for row in rows if row["clicked"]}
        for topic in every_topic:
            if cluster_of(topic) != cluster_of(min(seen)):
                continue
            if topic not in seen:
                liked_of_unseen.append((user, topic) in likes)
            elif topic not in clicked:
                liked_of_skipped.append((user, topic) in likes)
    assert np.mean(liked_of_unseen) == pytest.approx(0.2, abs=0.03)
    assert np.mean(liked_of_skipped) < 0.02
    assert len(liked_of_skipped) > 3000


def test_popular_items_are_shown_more(tmp_path: Path) -> None:
    shares = {}
    for skew in (0.0, 1.5):
        files = simulate(tmp_path / f"log-{skew}", users=300, days=2, popularity_skew=skew)
        shown: dict[str, int] = defaultdict(int)
        for row in files.exposures:
            shown[row["item_id"]] += 1
        most_shown = sorted(shown.values(), reverse=True)[: len(files.items) // 10]
        shares[skew] = sum(most_shown) / len(files.exposures)
    assert shares[0.0] < 0.2
    assert shares[1.5] > 0.3


def test_users_come_in_batches_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_module, "CELLS_AT_ONCE", WORLD.items_per_cluster * 20)
    done = []
    world = World(users=50)
    write_world(world, tmp_path / "log", progress=lambda users, total: done.append((users, total)))
    assert done == [(20, 50), (40, 50), (50, 50)]
    exposures = pq.read_table(tmp_path / "log" / "exposures.parquet").to_pylist()
    users = pq.read_table(tmp_path / "log" / "users.parquet")["user_id"].to_pylist()
    assert users == [f"u{n:02d}" for n in range(1, 51)]
    assert {row["user_id"] for row in exposures} == set(users)
    assert len({row["session_id"] for row in exposures}) == len({(r["user_id"], r["session_id"]) for r in exposures})

    monkeypatch.setattr(users_module, "EXPOSURES_AT_ONCE", 1)
    assert [len(batch.cluster) for batch in World(users=3).batches()] == [1, 1, 1]


def test_a_small_cluster_runs_out_of_items(tmp_path: Path) -> None:
    files = simulate(tmp_path / "log", users=20, clusters=1, topics=2, items_per_topic=1, days=3, active=1.0)
    for rows in files.by_user().values():
        assert {row["item_id"] for row in rows} == {"i1", "i2"}
        assert len(rows) <= 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"users": 0}, "greater than or equal to 1"),
        ({"click_liked": 1.5}, "less than or equal to 1"),
        ({"least_exposures": 7}, r"least_exposures \(7\) is above most_exposures \(6\)"),
        ({"day": 3}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        World(**settings)


def test_memory_does_not_grow_with_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_module, "CELLS_AT_ONCE", WORLD.items_per_cluster * 100)
    peaks = []
    for users in (400, 1600):
        world = World(users=users)
        world.catalogue  # noqa: B018  (made once, whatever the number of users)
        tracemalloc.start()
        write_world(world, tmp_path / f"log-{users}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    exposures = pq.read_metadata(tmp_path / "log-1600" / "exposures.parquet")
    assert exposures.num_row_groups == 16
    assert peaks[1] < 1.2 * peaks[0]
