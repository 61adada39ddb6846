"""Seeds, strata and questions without a value, against plain Python over the same rows; the bootstrap against a loop."""

import itertools
import json
import math
import statistics

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.test_comparing import write_run
from xdm.evaluation import bootstrap as bootstrapping
from xdm.evaluation.bootstrap import bootstrap, holm, per_user_sums, resampled_means
from xdm.evaluation.comparing import compare, compare_strata, compare_variants, stratum_names, without_unclicked
from xdm.schema import UsageError

USERS, EACH = 40, 3
NAMES = ["0", "1-5", "6-20", ">20"]


def write_seed(folder, seed, gain=0.0, unclicked=True, skipped=True):
    """Three questions about each of 40 users, in an order of the seed's own; ``unclicked`` of user i lies near i."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(USERS * EACH)
    user, time = order // EACH, order % EACH
    length = np.where(user < 8, 0, user + time - 8).astype(np.int32)
    columns = {"hr_at_50": rng.random(len(order)) + gain * length, "recall_at_50": rng.random(len(order))}
    if skipped:
        columns["skipped_at_50"] = np.where(length > 0, rng.random(len(order)), np.nan)
    if unclicked:
        columns["unclicked"] = length
    return write_run(folder, [f"u{u:02d}" for u in user], time, **columns)


def rows_of(folder):
    """``{(user, time): row}``"""
    return {(row["user_id"], row["timestamp"]): row for row in pq.read_table(folder / "per_user.parquet").to_pylist()}


def stratum_of(n):
    return "0" if n == 0 else "1-5" if n <= 5 else "6-20" if n <= 20 else ">20"


def oracle(control, variant, metric, keep=lambda row: True):
    """Means, difference and spread in plain Python; questions are kept by a row of the control's first seed."""
    sides = []
    keys = [key for key, row in rows_of(control[0]).items() if keep(row) and not math.isnan(row[metric])]
    for folders in (control, variant):
        seeds = [rows_of(folder) for folder in folders]
        means = [statistics.fmean(rows[key][metric] for key in keys) for rows in seeds]
        per_question = {key: statistics.fmean(rows[key][metric] for rows in seeds) for key in keys}
        sides.append((per_question, statistics.stdev(means) if len(means) > 1 else None))
    (first, first_std), (second, second_std) = sides
    return {
        "reference_mean": statistics.fmean(first.values()),
        "mean": statistics.fmean(second.values()),
        "difference": statistics.fmean(second[key] - first[key] for key in keys),
        "reference_std": first_std,
        "std": second_std,
        "questions": len(keys),
        "users": len({user for user, _ in keys}),
    }


@pytest.fixture
def folders(tmp_path):
    control = [write_seed(tmp_path / f"control{n}", n) for n in range(3)]
    variant = [write_seed(tmp_path / f"variant{n}", 10 + n, gain=0.02) for n in range(2)]
    single = [write_seed(tmp_path / "single", 20)]
    return control, {"variant": variant, "single": single}


def agree(row, expected):
    got = row.to_dict()
    assert {name: got[name] for name in expected} == pytest.approx(expected)


def test_seeds_are_averaged_question_by_question(folders):
    control, variants = folders
    found = compare_variants(control, variants, ("hr@50", "skipped@50"), resamples=400)
    assert [(row.run, row.metric) for row in found] == list(itertools.product(variants, ("hr@50", "skipped@50")))
    for row in found:
        agree(row, oracle(control, variants[row.run], row.metric))
        assert (row.seeds, row.reference_seeds, row.stratum) == (len(variants[row.run]), 3, "all")
        assert row.low < row.difference < row.high
    assert [row.p_holm for row in found] == pytest.approx(holm(np.array([row.p for row in found])))
    assert found[0].p < 0.01 < found[2].p
    assert found[1].questions < found[0].questions == USERS * EACH


def test_one_seed_each_is_the_plain_comparison(folders):
    control, variants = folders
    plain, questions, users = compare([control[0], *variants["single"]], ("hr@50",), resamples=300, seed=5)
    (row,) = compare_variants(control[:1], {"single": variants["single"]}, ("hr@50",), resamples=300, seed=5)
    assert (questions, users) == (row.questions, row.users) == (USERS * EACH, USERS)
    assert row.to_dict() | {"run": ""} == plain[0].to_dict() | {"run": ""}


def test_strata_equal_plain_python(folders):
    control, variants = folders
    metrics = ("hr@50", "skipped@50")
    found = compare_strata(control, variants, metrics, resamples=300)
    assert [(row.run, row.metric, row.stratum) for row in found] == list(itertools.product(variants, metrics, NAMES))
    for row in found:
        if (row.metric, row.stratum) == ("skipped@50", "0"):
            assert (row.questions, row.users) == (0, 0)
            assert [row.to_dict()[name] for name in ("mean", "difference", "low", "high", "p", "p_holm")] == [None] * 6
            continue
        keep = lambda asked, stratum=row.stratum: stratum_of(asked["unclicked"]) == stratum  # noqa: E731
        agree(row, oracle(control, variants[row.run], row.metric, keep))
        assert row.low <= row.difference <= row.high
    assert sum(row.questions for row in found if (row.run, row.metric) == ("single", "hr@50")) == USERS * EACH
    assert json.loads(json.dumps([row.to_dict() for row in found], allow_nan=False))
    # Each stratum has users of its own: its interval is that of a comparison of nothing but its questions.
    last = next(row for row in found if (row.run, row.metric, row.stratum) == ("variant", "hr@50", ">20"))
    keys = [key for key, row in rows_of(control[0]).items() if row["unclicked"] > 20]
    wanted = []
    for of in (control, variants["variant"]):
        seeds = [rows_of(folder) for folder in of]
        wanted.append([statistics.fmean(rows[key]["hr@50"] for rows in seeds) for key in keys])
    difference = np.subtract(wanted[1], wanted[0])[:, None]
    users = sorted({user for user, _ in keys})
    low, high, p = bootstrap(*per_user_sums(difference, np.array([users.index(user) for user, _ in keys]), len(users)), 300, 0)
    assert (last.low, last.high, last.p) == pytest.approx((low[0], high[0], p[0]))


def test_names_of_strata(tmp_path):
    one = write_seed(tmp_path / "one", 1)
    assert stratum_names((1, 6, 21)) == NAMES
    assert stratum_names((5,)) == ["0-4", ">4"]
    for edges in ((), (0, 3), (3, 3), (6, 1)):
        with pytest.raises(UsageError, match="edges of strata must rise from 1 or more"):
            compare_strata([one], {"again": [one]}, edges=edges)


def test_folders_without_the_column_take_strata_from_the_others(tmp_path):
    older = write_seed(tmp_path / "older", 1, unclicked=False, skipped=False)
    newer = write_seed(tmp_path / "newer", 2)
    assert without_unclicked([older, newer]) == [older]
    found = compare_strata([older], {"newer": [newer]}, resamples=100)
    assert {row.metric for row in found} == {"hr@50", "recall@50"}
    strata = [stratum_of(row["unclicked"]) for row in rows_of(newer).values()]
    assert [row.questions for row in found[:4]] == [strata.count(name) for name in NAMES]
    plain, questions, _ = compare([older, newer], resamples=100)
    assert (len(plain), questions) == (2, USERS * EACH)
    with pytest.raises(UsageError, match=r"older has no metric 'skipped@50'.*written before skips were judged: evaluate it again"):
        compare([older, newer], ("skipped@50",))
    with pytest.raises(UsageError, match=r"none of the folders has the column 'unclicked'"):
        compare_strata([older], {"again": [older]})


def test_other_rules_of_what_is_unclicked_are_refused_where_it_matters(tmp_path):
    one = write_seed(tmp_path / "one", 1)
    table = pq.read_table(one / "per_user.parquet")
    other = tmp_path / "other"
    other.mkdir()
    (other / "metrics.json").write_text((one / "metrics.json").read_text())
    place = table.column_names.index("unclicked")
    more = np.asarray(table["unclicked"]) + (np.asarray(table["unclicked"]) > 3).astype(np.int32)
    pq.write_table(table.set_column(place, "unclicked", [more]), other / "per_user.parquet")
    different = int((np.asarray(table["unclicked"]) > 3).sum())
    message = rf"{different} of 120 questions have another number of unclicked items in .*other.*same --unclicked-k"
    with pytest.raises(UsageError, match=message):
        compare_strata([one], {"other": [other]})
    with pytest.raises(UsageError, match=message):
        compare([one, other], ("skipped@50",))
    assert compare([one, other], ("hr@50",), resamples=100)[0][0].difference == 0


def test_a_variant_needs_a_folder(tmp_path):
    one = write_seed(tmp_path / "one", 1)
    for control, variants, message in (
        ([one], {}, "needs a variant"),
        ([one], {"xdm": []}, "xdm has no folder"),
        ([], {"xdm": [one]}, "the control has no folder"),
    ):
        with pytest.raises(UsageError, match=message):
            compare_variants(control, variants)


def test_a_metric_that_no_question_has_is_no_figure(tmp_path):
    folders = [write_run(tmp_path / name, ["a", "b"], [1, 1], skipped_at_50=np.full(2, np.nan)) for name in "xy"]
    (row,), questions, _ = compare(folders, ("skipped@50",), resamples=100)
    assert (questions, row.questions) == (2, 0)
    assert [row.to_dict()[name] for name in ("mean", "difference", "low", "p", "p_holm")] == [None] * 5


# --- the bootstrap ---------------------------------------------------------------------------------------------------


def naive_means(sums, questions, resamples, seed):
    """One resample at a time, one user at a time, from the same stream of random numbers."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = rng.integers(0, len(sums), len(sums)).tolist()
        total = sum(questions[user] for user in drawn)
        found.append([sum(sums[user][m] for user in drawn) / total for m in range(len(sums[0]))])
    return found


@given(
    sums=st.lists(st.tuples(*[st.integers(-9, 9)] * 3), min_size=1, max_size=12),
    resamples=st.integers(1, 30),
    cells=st.sampled_from([1, 7, 40, 2**21]),
)
@settings(max_examples=60, deadline=None)
def test_resampled_means_equal_a_loop(sums, resamples, cells):
    questions = [1 + abs(first) for first, *_ in sums]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrapping, "CELLS_AT_ONCE", cells)
        found = resampled_means(np.array(sums, float), np.array(questions, float), resamples, seed=4)
    np.testing.assert_allclose(found, naive_means(sums, questions, resamples, 4), atol=1e-12)


VALUES = st.lists(st.tuples(st.integers(0, 4), *[st.floats(-2, 2) | st.just(math.nan)] * 2), min_size=1, max_size=25)


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_questions_and_users_without_a_value_say_nothing(rows):
    """Each column's interval is that of its own questions alone."""
    user, values = np.array([row[0] for row in rows]), np.array([row[1:] for row in rows])
    sums, counts = per_user_sums(values, user, 5)
    together = bootstrap(sums, counts, 50, seed=2)
    for m in range(2):
        of_user = {}
        for who, *own in rows:
            if not math.isnan(own[m]):
                of_user.setdefault(who, []).append(own[m])
        assert counts[:, m].tolist() == [len(of_user.get(who, [])) for who in range(5)]
        if not of_user:
            assert np.isnan([column[m] for column in together]).all()
            continue
        means = naive_means([[sum(of_user[who])] for who in sorted(of_user)], [len(of_user[who]) for who in sorted(of_user)], 50, 2)
        assert together.low[m] == pytest.approx(np.quantile(means, 0.025), abs=1e-9)
        assert together.high[m] == pytest.approx(np.quantile(means, 0.975), abs=1e-9)
