"""Models and items over HTTP, on really trained bundles: loaded, refused, switched, rolled back, followed by other workers."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.serving.conftest import ITEMS, START, simulated_rows, train
from tests.serving.fakes import write_store
from xdm.behaviours.printing import answer_all
from xdm.bundle.reading import load_recommender
from xdm.log.store import Store
from xdm.serving.app import create_app
from xdm.serving.opening import open_service
from xdm.serving.service import model_info
from xdm.serving.settings import ServeSettings
from xdm.serving.telemetry import Telemetry

AT = START + 4 * 7200


@contextmanager
def serving(bundle: Path, state: Path, **changes):
    settings = ServeSettings(bundle=bundle, state=str(state), refresh_seconds=0.05, deadline_ms=5000, **changes)
    opened = open_service(settings, Telemetry())
    with TestClient(create_app(opened, settings), raise_server_exceptions=False) as client:
        yield client, opened


@pytest.fixture
def models(tmp_path, bundle, other_bundle) -> Path:
    """A models folder of one's own."""
    shutil.copytree(bundle.parent, tmp_path / "models", ignore=lambda folder, names: [n for n in names if n.endswith(".run")])
    return tmp_path / "models"


def fingerprint(bundle: Path) -> str:
    return model_info(json.loads((bundle / "manifest.json").read_text())).fingerprint


def ask(client, **question) -> dict:
    answer = client.post("/v1/recommend", json={"user_id": "u1", "timestamp": AT, "k": 5} | question)
    assert answer.status_code == 200, answer.text
    return answer.json()


def clicks(*items: str) -> list[dict]:
    return [{"item_id": item, "timestamp": AT - 100 + place, "clicked": True} for place, item in enumerate(items)]


def best(bundle: Path, *items: str, k: int = 5) -> list[str]:
    """What the bundle itself answers, without a service."""
    from xdm.serving.messages.recommend import InlineEvent
    from xdm.serving.service import Service

    events = [InlineEvent(**one) for one in clicks(*items)]
    return [one.item_id for one in Service.of(load_recommender(bundle, threads=1)).recommend("u1", k=k, at=AT, events=events).items]


def ids(answer: dict) -> list:
    return [item["item_id"] for item in answer["items"]]


# --- models ---------------------------------------------------------------------------------------------------------------
def test_a_model_is_loaded_beside_the_active_one_switched_to_and_rolled_back(models, tmp_path):
    seen = clicks("item 2", "item 4")
    first, second = (best(models / name, "item 2", "item 4") for name in ("bundle", "bundle-2"))
    assert first != second
    with serving(models / "bundle", tmp_path / "s.sqlite") as (client, _):
        assert ids(ask(client, events=seen)) == first
        loaded = client.post("/v1/models", json={"name": "bundle-2"}).json()
        assert loaded["model"]["fingerprint"] == fingerprint(models / "bundle-2")
        assert (loaded["items"], loaded["shared_items"]) == (len(load_recommender(models / "bundle-2").catalogue), 1.0)
        assert ids(ask(client, events=seen)) == first  # loading is not switching
        states = {one["name"]: one["state"] for one in client.get("/v1/models").json()["models"]}
        assert states == {"bundle": "active", "bundle-2": "loaded"}
        switched = client.post("/v1/models/bundle-2/activate", json={}).json()
        assert switched["active"]["fingerprint"] == fingerprint(models / "bundle-2")
        answer = ask(client, events=seen)
        assert ids(answer) == second
        assert answer["model"] == switched["active"]
        back = client.post("/v1/models/rollback", json={}).json()
        assert back["active"] == switched["previous"]
        assert ids(ask(client, events=seen)) == first


def test_to_activate_what_is_active_keeps_the_way_back(models, tmp_path):
    first, second = (fingerprint(models / name) for name in ("bundle", "bundle-2"))
    with ExitStack() as stack:
        (one, _), (other, opened) = (stack.enter_context(serving(models / "bundle", tmp_path / "s.sqlite")) for _ in range(2))
        assert one.post("/v1/models/bundle/activate", json={}).json()["active"]["fingerprint"] == first
        assert one.post("/v1/models/rollback", json={}).status_code == 404
        for _ in range(3):  # as a client does that had no answer
            switched = one.post("/v1/models/bundle-2/activate", json={}).json()
            assert (switched["active"]["fingerprint"], switched["previous"]["fingerprint"]) == (second, first)
        # a worker that has not heard of the switch yet: there it is one
        assert other.post("/v1/models/bundle/activate", json={}).json()["active"]["fingerprint"] == first
        assert opened.service.state.active_model().fingerprint == first
        assert one.post("/v1/models/bundle-2/activate", json={}).json()["active"]["fingerprint"] == second
        assert one.post("/v1/models/rollback", json={}).json()["active"]["fingerprint"] == first


@pytest.mark.parametrize("harm", ["a byte", "a missing file", "no manifest", "nonsense"])
def test_a_broken_bundle_is_refused_and_the_active_one_goes_on(models, tmp_path, harm):
    broken = models / "bundle-2"
    if harm == "a byte":
        vectors = broken / "item_vectors.npy"
        content = bytearray(vectors.read_bytes())
        content[-1] ^= 1
        vectors.write_bytes(content)
    elif harm == "a missing file":
        (broken / "tower.onnx").unlink()
    elif harm == "no manifest":
        (broken / "manifest.json").unlink()
    else:
        (broken / "manifest.json").write_text("[]")
    with serving(models / "bundle", tmp_path / "s.sqlite") as (client, _):
        before = ask(client, events=clicks("item 2"))
        for answer in (client.post("/v1/models", json={"name": "bundle-2"}), client.post("/v1/models/bundle-2/activate", json={})):
            assert answer.status_code == (404 if harm == "no manifest" else 422)
            assert str(tmp_path) not in answer.text
        assert ask(client, events=clicks("item 2")) == before
        assert 'xdm_model_swaps_total{outcome="refused"}' in client.get("/metrics").text
        described = {one["name"]: one["state"] for one in client.get("/v1/models").json()["models"]}
        assert described["bundle"] == "active"
        assert harm != "nonsense" or described["bundle-2"] == "unreadable"


def test_a_model_whose_answers_are_no_numbers_is_refused(models, tmp_path):
    """Its files are as they were written, so that only asking it can tell."""
    import hashlib

    bad = models / "bundle-2"
    vectors = np.load(bad / "item_vectors.npy")
    np.save(bad / "item_vectors.npy", np.full_like(vectors, 3e38))
    manifest = json.loads((bad / "manifest.json").read_text())
    manifest["files"]["item_vectors.npy"] = hashlib.sha256((bad / "item_vectors.npy").read_bytes()).hexdigest()
    (bad / "manifest.json").write_text(json.dumps(manifest))
    with serving(models / "bundle", tmp_path / "s.sqlite") as (client, _):
        refused = client.post("/v1/models", json={"name": "bundle-2"})
        assert refused.status_code == 422
        assert "the active model stays" in refused.json()["detail"]


def test_names_that_lead_out_of_the_folder_are_no_names(models, tmp_path):
    shutil.copytree(models / "bundle-2", tmp_path / "outside")
    with serving(models / "bundle", tmp_path / "s.sqlite") as (client, _):
        for name in ("../outside", "..", ".hidden", "a/b", "/etc", ""):
            assert client.post("/v1/models", json={"name": name}).status_code == 422
        assert client.post("/v1/models", json={"name": "nobody"}).status_code == 404
        wrong = client.post("/v1/models", json={"name": "bundle-2", "fingerprint": "0" * 16})
        assert (wrong.status_code, "not 0000" in wrong.json()["detail"]) == (422, True)
        assert client.post("/v1/models/rollback", json={}).status_code == 404


def test_other_workers_follow_and_a_restart_goes_on_with_what_was_active(models, tmp_path):
    state = tmp_path / "s.sqlite"
    want = fingerprint(models / "bundle-2")
    with ExitStack() as stack:
        (one, _), (other, opened) = (stack.enter_context(serving(models / "bundle", state)) for _ in range(2))
        one.post("/v1/models/bundle-2/activate", json={})
        opened.shelf.follow()
        assert ask(other)["model"]["fingerprint"] == want
        back = other.post("/v1/models/rollback", json={}).json()  # asked of a worker that did not switch itself
        assert back["active"]["fingerprint"] == fingerprint(models / "bundle")
        assert one.post("/v1/models/rollback", json={}).json()["active"]["fingerprint"] == want
        one.post("/v1/items", json={"items": [{"item_id": "item 2", "withdrawn": True}]})
        opened.shelf.follow()
        assert "item 2" not in ids(ask(other, k=40))
    with serving(models / "bundle", state) as (again, _):
        assert ask(again)["model"]["fingerprint"] == want
        assert "item 2" not in ids(ask(again, k=40))
        assert again.post("/v1/models/rollback", json={}).json()["active"]["fingerprint"] == fingerprint(models / "bundle")
        assert again.post("/v1/models/rollback", json={}).json()["active"]["fingerprint"] == want
    shutil.move(models / "bundle-2", tmp_path / "gone")
    with serving(models / "bundle", state) as (again, _):  # what was active is there no more
        assert ask(again)["model"]["fingerprint"] == fingerprint(models / "bundle")
    shutil.move(tmp_path / "gone", models / "bundle-2")
    # another bundle on the command line is what its operator wants now
    with serving(models / "bundle-2", state, models=models) as (started, _):
        started.post("/v1/models/bundle/activate", json={})
    with serving(models / "bundle", state) as (again, _):
        assert ask(again)["model"]["fingerprint"] == fingerprint(models / "bundle")


# --- items ----------------------------------------------------------------------------------------------------------------
def test_items_come_and_go_and_stay_through_swaps_and_restarts(models, tmp_path):
    seen = clicks("item 2", "item 4")
    state = tmp_path / "s.sqlite"
    with serving(models / "bundle", state) as (client, _):
        first = ids(ask(client, events=seen, k=40))
        posted = client.post("/v1/items", json={"items": [
            {"item_id": "new", "similar_to": [first[0]]}, {"item_id": first[1], "withdrawn": True}, {"item_id": "idea"},
        ]}).json()  # fmt: skip
        assert (posted["accepted"], len(posted["not_recommended"])) == (3, 1)
        assert posted["not_recommended"][0].startswith("idea: ")
        after = ids(ask(client, events=seen, k=40))
        assert after == [first[0], "new", *first[2:]]
        assert ids(ask(client, events=seen, exclude=["new"], k=40)) == [first[0], *first[2:]]
        assert ids(ask(client, events=seen, only=["new", first[1]])) == ["new"]
        # an event of a new item is kept, though no model knows it yet
        answer = ask(client, events=[*seen, *clicks("new")])
        assert answer["unknown_items"] == 1
        client.post("/v1/models/bundle-2/activate", json={})
        assert "new" in ids(ask(client, events=seen, k=40))
        assert first[1] not in ids(ask(client, events=seen, k=40))
    with serving(models / "bundle", state) as (client, _):
        client.post("/v1/models/bundle/activate", json={})
        assert ids(ask(client, events=seen, k=40)) == after
        client.post("/v1/items", json={"items": [{"item_id": first[1]}, {"item_id": "new", "withdrawn": True}]})
        assert ids(ask(client, events=seen, k=40)) == first


def test_a_vector_must_be_as_long_as_the_models_and_is_its_alone(models, tmp_path):
    with serving(models / "bundle", tmp_path / "s.sqlite") as (client, opened):
        wrong = client.post("/v1/items", json={"items": [{"item_id": "new", "vector": [1.0, 2.0]}]})
        assert (wrong.status_code, "row 0" in wrong.json()["detail"]) == (400, True)
        vector = [1.0] * opened.service.served.catalogue.width
        assert client.post("/v1/items", json={"items": [{"item_id": "new", "vector": vector}]}).json()["not_recommended"] == []
        assert "new" in ids(ask(client, events=clicks("item 2"), k=60))
        client.post("/v1/models/bundle-2/activate", json={})
        assert "new" not in ids(ask(client, events=clicks("item 2"), k=60))


def test_similar_items_are_the_bundle_s_by_cosine(models, tmp_path):
    recommender = load_recommender(models / "bundle")
    vectors = np.asarray(recommender.retriever.item_vectors, np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    index = recommender.catalogue.index("item 2")
    cosines = unit @ unit[index - 1]
    order = [i for i in np.argsort(-cosines) if i != index - 1]
    with serving(models / "bundle", tmp_path / "s.sqlite") as (client, _):
        answer = client.post("/v1/similar", json={"item_id": "item 2", "k": 4, "exclude": ["nobody"]}).json()
        assert ids(answer) == [recommender.catalogue.ids[int(i)].as_py() for i in order[:4]]
        assert [item["score"] for item in answer["items"]] == pytest.approx(cosines[order[:4]].tolist(), abs=1e-5)
        assert answer["unknown_items"] == 1
        assert client.post("/v1/similar", json={"item_id": "nobody"}).status_code == 404


# --- people ---------------------------------------------------------------------------------------------------------------
def test_what_is_held_of_a_user_is_shown_and_deleted(models, store, tmp_path):
    state = tmp_path / "s.sqlite"
    with serving(models / "bundle", state, history=store) as (client, opened):
        now = opened.service.now
        events = [
            {"event_id": f"{place}", "user_id": "u1", "item_id": item, "timestamp": now - 50 + place, "clicked": clicked}
            for place, (item, clicked) in enumerate([("item 3", True), ("item 5", True), ("item 4", False), ("item 4", False)])
        ]
        client.post("/v1/events", json={"events": events})
        shown = client.get("/v1/users/u1").json()
        assert [(one["item_id"], one["clicked"]) for one in shown["events"]] == [(e["item_id"], e["clicked"]) for e in events]
        assert shown["behaviours"]["short"] == ["item 3", "item 5"]
        assert (shown["behaviours"]["sessions"], shown["behaviours"]["stream"]) == ([1, 1], None)
        assert shown["behaviours"]["unclicked"] == ["item 4"]
        assert (shown["events_held"], shown["history_events"], shown["in_training"], shown["forgotten"]) == (4, 48, True, False)
        stranger = ask(client, user_id="somebody else", timestamp=now)
        assert ask(client, timestamp=now)["events_seen"] == 52
        assert client.delete("/v1/users/u1").json() == {"user_id": "u1", "deleted": 4}
        gone = client.get("/v1/users/u1").json()
        assert (gone["events"], gone["history_events"], gone["in_training"], gone["forgotten"]) == ([], 0, False, True)
        answer = ask(client, timestamp=now)
        assert (answer["events_seen"], answer["fallback"], ids(answer)) == (0, "unknown_user", ids(stranger))
    with serving(models / "bundle", state, history=store) as (client, _):
        assert ask(client, timestamp=now)["events_seen"] == 0  # also after a restart


def test_what_a_model_sees_of_a_user_is_shown_whole(tmp_path):
    store = write_store(tmp_path / "store", simulated_rows(), ITEMS)
    bundle = train(store, "actions", "behaviours.history_max=20", "behaviours.stream_max=9", model="sdm_actions")
    with serving(bundle, tmp_path / "s.sqlite", history=store) as (client, opened):
        shown = client.get("/v1/users/u1").json()["behaviours"]
        rules = opened.service.served.catalogue.recommender.rules
    [expected] = answer_all(Store(store), [("u1", shown["timestamp"])], rules)
    assert (shown["short"], shown["sessions"]) == (expected.short, expected.sessions)
    assert len(set(shown["sessions"])) > 1
    assert (shown["long"], shown["unclicked"]) == (expected.long, expected.unclicked)
    assert [(one["item_id"], one["clicked"]) for one in shown["stream"]] == expected.stream
    assert {one["clicked"] for one in shown["stream"]} == {True, False}


def test_several_questions_at_once_are_answered_as_if_each_came_alone(models, store, tmp_path):
    questions = [{"user_id": f"u{i}", "timestamp": AT, "k": 1 + i % 7, "exclude_clicked": i % 2 == 0} for i in range(40)]
    questions += [{"user_id": "u1", "timestamp": AT, "only": ITEMS[:9]}, {"user_id": "nobody", "k": 3, "timestamp": AT}]
    with serving(models / "bundle", tmp_path / "s.sqlite", history=store) as (client, _):
        together = client.post("/v1/recommend/batch", json={"questions": questions}).json()["answers"]
        for question, answer in zip(questions, together, strict=True):
            alone = client.post("/v1/recommend", json=question).json()
            assert ids(alone) == ids(answer)
            assert [one["score"] for one in alone["items"]] == pytest.approx([one["score"] for one in answer["items"]], abs=1e-5)
            assert {**alone, "items": None} == {**answer, "items": None}
