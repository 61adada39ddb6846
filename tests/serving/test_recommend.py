"""`xdm recommend` over the fake recommender: one user, inline events, all users to Parquet, and wrong use."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import xdm.bundle.reading
import xdm.serving.bulk
import xdm.serving.service
from tests.serving.fakes import ITEMS, FakeCatalogue, FakeRecommender, expected_ranking, write_store
from xdm.cli.recommend import recommend
from xdm.schema import UsageError

STORE_ITEMS = [*ITEMS[::-1], "unknown"]
ROWS = [
    (f"u{user}", STORE_ITEMS[(7 * user + step) % 13], 100 + (user * step) % 9, (user + step) % 3 == 0, -1)
    for user in range(1, 30)
    for step in range(user % 5 + 1)
]


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "store", ROWS, STORE_ITEMS, parts=3)


@pytest.fixture
def run(monkeypatch):
    """Run the command on a fake bundle; what it wrote on standard output."""
    fake = FakeRecommender()
    monkeypatch.setattr(xdm.bundle.reading, "load_recommender", lambda path: fake)
    monkeypatch.setattr(xdm.serving.service, "LiveCatalogue", FakeCatalogue)

    def call(*arguments) -> str:
        result = CliRunner().invoke(recommend, ["bundle", *map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


def known_events(user, at):
    return [(item, clicked) for u, item, time, clicked, _ in ROWS if u == user and time < at and item != "unknown"]


def test_users_of_a_store_as_json_lines(run, store):
    answers = [
        json.loads(line) for line in run(store, "--user", "u8", "--user", "u9", "--at", 105, "--json").splitlines()
    ]
    for user, answer in zip(["u8", "u9"], answers, strict=True):
        assert [item["item_id"] for item in answer["items"]] == expected_ranking(known_events(user, 105))
        assert (answer["user_id"], answer["timestamp"]) == (user, 105)


def test_by_default_the_whole_store_is_the_past(run, store):
    answer = json.loads(run(store, "--user", "u9", "--json", "--k", 3))
    assert answer["timestamp"] == max(row[2] for row in ROWS) + 1
    assert answer["events_seen"] == len(known_events("u9", 10**9))
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3]


def test_a_table_for_people_names_everything(run, store):
    out = run(store, "--user", "u9", "--k", 2)
    best = expected_ranking(known_events("u9", 10**9))[:2]
    lines = out.splitlines()
    assert "user u9 at 109" in lines[0]
    assert [line.split()[0] for line in lines[2:]] == ["1", "2"]
    assert [line.split()[2] for line in lines[2:]] == best


def test_inline_events_of_someone_new(run, tmp_path):
    file = tmp_path / "visit.jsonl"
    file.write_text(
        '{"item_id": "i9", "timestamp": 50, "clicked": true, "session_id": "s"}\n\n'
        '{"item_id": "i1", "timestamp": 60, "clicked": false}\n{"item_id": "of tomorrow", "timestamp": 55, "clicked": true}\n'
    )
    answer = json.loads(run("--events", file, "--json", "--exclude-clicked"))
    assert answer["user_id"] is None
    assert (answer["timestamp"], answer["events_seen"], answer["unknown_items"]) == (61, 2, 1)
    ranking = expected_ranking([("i9", True), ("i1", False)])
    assert [item["item_id"] for item in answer["items"]] == [item for item in ranking if item != "i9"]


@pytest.mark.parametrize("exclude_clicked", [False, True])
def test_all_users_to_parquet(run, store, tmp_path, monkeypatch, exclude_clicked):
    monkeypatch.setattr(xdm.serving.bulk, "BATCH_USERS", 4)
    out = tmp_path / "all.parquet"
    options = ["--exclude-clicked"] if exclude_clicked else []
    report = json.loads(run(store, "--all", "--out", out, "--at", 106, "--k", 12, "--json", *options))
    rows = pq.read_table(out).to_pylist()
    assert report == {"out": str(out), "users": 29, "rows": len(rows), "timestamp": 106}
    assert [file.name for file in tmp_path.iterdir() if "partial" in file.name] == []
    for number in range(1, 30):
        user = f"u{number}"
        events = known_events(user, 106)
        clicked = {item for item, was_clicked in events if was_clicked and exclude_clicked}
        expected = [item for item in expected_ranking(events) if item not in clicked]
        mine = [row for row in rows if row["user_id"] == user]
        assert [row["item_id"] for row in mine] == expected
        assert [row["rank"] for row in mine] == list(range(1, len(expected) + 1))
        assert {row["timestamp"] for row in mine} == {106}
        assert [row["score"] for row in mine] == sorted((row["score"] for row in mine), reverse=True)


def test_a_fault_on_the_way_leaves_no_file_and_the_old_one(run, store, tmp_path, monkeypatch):
    out = tmp_path / "all.parquet"
    out.write_bytes(b"old")
    monkeypatch.setattr(FakeRecommender, "top_k", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(store, "--all", "--out", out, "--overwrite")
    assert out.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir() if "partial" in file.name] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nobody to recommend for"),
        (["--all"], "--all needs the STORE"),
        (["STORE", "--all"], "--out"),
        (["STORE", "--all", "--out", "x.parquet", "--user", "u1"], "leave out --user"),
        (["STORE", "--all", "--out", "."], "is a folder"),
        (["STORE", "--all", "--out", "no/such/x.parquet"], "does not exist"),
        (["STORE", "--user", "u1", "--out", "x.parquet"], "--out goes with --all"),
        (["STORE", "--user", "u1", "--user", "u2", "--events", "x"], "belong to one user"),
        (["--events", "no such file"], "cannot be read"),
    ],
)
def test_wrong_use(run, store, arguments, message):
    with pytest.raises(UsageError, match=message):
        run(*[store if argument == "STORE" else argument for argument in arguments])


def test_an_existing_file_is_not_replaced_unasked(run, store, tmp_path):
    (tmp_path / "old.parquet").write_bytes(b"old")
    with pytest.raises(UsageError, match="exists already"):
        run(store, "--all", "--out", tmp_path / "old.parquet")
    assert (tmp_path / "old.parquet").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no event"),
        (b"\xff", "cannot be read"),
        (b'{"item_id": "i1", "timestamp": 1, "clicked": true}\n{"item_id": "i1"', "row 2: Invalid JSON"),
        (b'{"item_id": "i1", "timestamp": 1.5, "clicked": true}', "row 1, column 'timestamp'"),
        (b'{"item_id": "i1", "timestamp": 1, "clicked": true, "user_id": "u"}', "row 1, column 'user_id'"),
        (b"[]", "row 1: "),
    ],
)
def test_bad_event_files_name_the_row_and_the_field(run, tmp_path, content, message):
    (tmp_path / "visit.jsonl").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        run("--events", tmp_path / "visit.jsonl")
