"""The service: which events a question gets, from where, in which order, and what comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.fakes import ITEMS, MANIFEST, FakeRecommender, expected_ranking, service_over, write_store
from xdm.log.store import Store
from xdm.schema import NO_SESSION, InternalError
from xdm.serving.history import History
from xdm.serving.messages.recommend import InlineEvent
from xdm.serving.questions import session_codes
from xdm.serving.service import model_info
from xdm.serving.state import NEWEST_EVENTS, LiveEvent, SqliteState

UNKNOWN = "not in the catalogue"
STORE_ITEMS = [*ITEMS[::-1], UNKNOWN]  # other indices than the catalogue's
rows = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "new"]),
        st.sampled_from(STORE_ITEMS),
        st.integers(0, 5),
        st.booleans(),
        st.just(-1),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(stored=rows.filter(bool), live=rows, inline=rows, at=st.integers(0, 7), exclude_clicked=st.booleans(),
       exclude=st.lists(st.sampled_from(STORE_ITEMS), max_size=4))  # fmt: skip
def test_a_question_gets_all_known_events_before_its_time_in_order(
    tmp_path_factory, stored, live, inline, at, exclude_clicked, exclude
):
    folder = tmp_path_factory.mktemp("service")
    recommender = FakeRecommender()
    state = SqliteState(folder / "s.sqlite", durability="normal")
    state.append([LiveEvent(None, user, item, time, clicked) for user, item, time, clicked, _ in live])
    history = History(Store(write_store(folder / "store", stored, STORE_ITEMS)), recommender.catalogue)
    service = service_over(recommender, state=state, history=history)
    sent = [InlineEvent(item_id=item, timestamp=time, clicked=clicked) for _, item, time, clicked, _ in inline]
    answer = service.recommend("u1", at=at, k=20, events=sent, exclude=exclude, exclude_clicked=exclude_clicked)
    state.close()

    mine = [row for row in [*stored, *live] if row[0] == "u1"] + inline
    past = sorted((row for row in mine if row[2] < at), key=lambda row: row[2])
    known = [row for row in past if row[1] != UNKNOWN]
    given_to_model = recommender.asked[-1]
    assert [ITEMS[i - 1] for i in given_to_model.events.item] == [row[1] for row in known]
    assert given_to_model.events.time.tolist() == [row[2] for row in known]
    assert given_to_model.events.clicked.tolist() == [row[3] for row in known]
    assert (given_to_model.user.tolist(), given_to_model.time.tolist()) == ([1], [at])
    left_out = {*exclude, *(row[1] for row in known if row[3] and exclude_clicked)}
    ranking = [item for item in expected_ranking([(row[1], row[3]) for row in known]) if item not in left_out]
    assert [item.item_id for item in answer.items] == ranking
    assert [item.rank for item in answer.items] == list(range(1, len(ranking) + 1))
    assert answer.unknown_items == len(past) - len(known) + exclude.count(UNKNOWN)
    assert answer.events_seen == len(known)
    assert answer.later_events == sum(row[2] >= at for row in inline)
    assert answer.source == ("model" if known else "popular")


def test_without_a_time_the_current_second_counts():
    service = service_over(FakeRecommender(), clock=lambda: 1000.7)
    event = InlineEvent(item_id="i9", timestamp=1000, clicked=True)
    answer = service.recommend(None, events=[event], k=1)
    assert (answer.timestamp, answer.events_seen, answer.items[0].item_id) == (1001, 1, "i9")
    assert service.recommend(None, at=1000, events=[event], k=1).events_seen == 0


def test_sessions_keep_apart_what_their_ids_keep_apart(tmp_path):
    recommender = FakeRecommender()
    stored = [("u1", "i1", 1, True, 4), ("u1", "i2", 2, True, 4), ("u1", "i3", 3, True, -1)]
    state = SqliteState(tmp_path / "s.sqlite")
    state.append([LiveEvent(None, "u1", "i4", 4, True, "4"), LiveEvent(None, "u1", "i5", 5, True)])
    history = History(Store(write_store(tmp_path / "store", stored, ITEMS)), recommender.catalogue)
    inline = [
        InlineEvent(item_id="i6", timestamp=6, clicked=True, session_id=4),
        InlineEvent(item_id="i7", timestamp=7, clicked=True, session_id="s"),
    ]
    service_over(recommender, state=state, history=history).recommend("u1", at=10, events=inline)
    first, second, none, live_four, live_none, inline_four, inline_s = recommender.asked[-1].events.session.tolist()
    assert first == second == 4
    assert none == live_none == NO_SESSION
    assert live_four == inline_four
    assert len({4, NO_SESSION, live_four, inline_s}) == 4


def test_session_codes_number_distinct_ids_by_their_text():
    assert session_codes(["a", None, 7, "7", "a", "b"], 3).tolist() == [3, NO_SESSION, 4, 4, 3, 5]
    assert session_codes([], 0).dtype == np.int32


def test_integer_catalogues_answer_in_integers_whatever_was_asked():
    recommender = FakeRecommender(items=[10, 20, 30], users=[1, 2])
    event = InlineEvent(item_id="30", timestamp=1, clicked=True)
    answer = service_over(recommender).recommend("2", at=5, events=[event], exclude=["10"])
    assert [item.item_id for item in answer.items] == [30, 20]
    assert recommender.asked[-1].user.tolist() == [2]
    assert answer.unknown_items == 0


def test_a_read_is_bounded_by_the_newest_events(tmp_path):
    recommender = FakeRecommender()
    stored = [("u1", "i1", second, False, -1) for second in range(NEWEST_EVENTS + 5)]
    history = History(Store(write_store(tmp_path / "store", stored, ITEMS)), recommender.catalogue)
    answer = service_over(recommender, history=history).recommend("u1", at=10**6)
    assert answer.events_seen == NEWEST_EVENTS
    assert recommender.asked[-1].events.time[0] == 5


def test_a_score_that_is_no_number_is_no_answer_but_popular_items_are(caplog):
    class Broken(FakeRecommender):
        def top_k(self, points, k, exclude=None, allowed=None):
            top = super().top_k(points, k, exclude)
            top.scores[0, 0] = np.nan
            return top

    answer = service_over(Broken()).recommend("u1", at=1, k=2, exclude=["i1"])
    assert (answer.source, answer.fallback) == ("popular", "model")
    assert [item.item_id for item in answer.items] == ["i2", "i3"]
    assert "fake gave a score that is no number" in caplog.text


def test_a_fingerprint_changes_with_any_file_of_the_bundle():
    other = MANIFEST | {"files": {"weights": "beef"}}
    assert model_info(MANIFEST) == model_info(dict(reversed(MANIFEST.items())))
    assert model_info(MANIFEST).fingerprint != model_info(other).fingerprint


def test_recording_needs_a_state():
    with pytest.raises(InternalError, match="without a state"):
        service_over(FakeRecommender()).record([])
