"""The sentence under the differences says what they say: also where XDM loses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xdm.demo.telling import verdict
from xdm.evaluation.comparing import Comparison

METRICS = [f"{name}@{k}" for name in ("hr", "recall", "ndcg") for k in (10, 20)]


def difference(metric: str, value: float, p_holm: float) -> Comparison:
    return Comparison("xdm", metric, 0.5, 0.5 + value, value, value - 0.01, value + 0.01, p_holm / 2, p_holm)


def test_a_loss_is_called_one():
    rows = [difference("hr@10", -0.1, 0.001), difference("hr@20", -0.1, 0.06)]
    assert verdict(rows) == "At 5 % (p after Holm) XDM is worse in hr@10; not told apart in hr@20."


@given(
    st.lists(
        st.tuples(st.sampled_from(METRICS), st.floats(-0.4, 0.4), st.floats(0.0001, 1.0)),
        min_size=1, unique_by=lambda row: row[0],
    )
)  # fmt: skip
def test_every_metric_is_named_once_and_in_its_place(rows):
    said = verdict([difference(*row) for row in rows])
    parts = said.removeprefix("At 5 % (p after Holm) XDM is ").removesuffix(".").split("; ")
    place = {}
    for part in parts:
        words, names = part.rsplit(" in ", 1)
        place |= dict.fromkeys(names.split(", "), words)
    expected = {}
    for metric, value, p in rows:
        if p >= 0.05 or value == 0:
            expected[metric] = "not told apart"
        else:
            expected[metric] = "better than SDM" if value > 0 else "worse"
    assert place == expected
