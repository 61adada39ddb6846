"""A sweep's figures are means and standard deviations over seeds, and what would mix two variants is refused."""

from __future__ import annotations

import json
import math
import statistics

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.learning import call
from tests.reports.conftest import assert_pictures, read_csv
from xdm.reports.style import drawing
from xdm.reports.sweep import _scale, read_sweep
from xdm.schema import UsageError

WEIGHT, MARGIN = "objective.metric_weight", "objective.margin"


def row(log, variant, seed, value, weight=None, margin=None, metric="hr@50"):
    return {"log": log, "variant": variant, "model": variant.split("-")[0], "seed": seed, "metric": metric, "value": value,
            WEIGHT: weight, MARGIN: margin}  # fmt: skip


def write(path, rows):
    schema = {WEIGHT: pl.Float64, MARGIN: pl.Float64}
    pl.DataFrame(rows, schema_overrides=schema).write_parquet(path)
    return path


@pytest.fixture
def results(tmp_path):
    rows = []
    for log, base in (("world", 0.3), ("news", 0.5)):
        for weight in (10.0, 0.1, 1.0):
            for seed in (1, 2, 3):
                rows.append(row(log, f"xdm-metric_weight={weight:g}", seed, base + weight / 100 + seed / 1000, weight))
                rows.append(row(log, f"xdm-metric_weight={weight:g}", seed, 0.9, weight, metric="mrr@50"))
        rows += [row(log, "sdm", seed, base + seed / 100) for seed in (1, 2, 3)]
    return write(tmp_path / "results.parquet", rows)


def test_each_line_has_its_points_in_order_and_the_control_beside_it(results):
    sweep = read_sweep(results, WEIGHT, "hr@50", control="sdm")
    assert [(point.line, point.x) for point in sweep.points] == [(log, x) for log in ("news", "world") for x in (0.1, 1.0, 10.0)]
    for point in sweep.points:
        values = [{"world": 0.3, "news": 0.5}[point.line] + point.x / 100 + seed / 1000 for seed in (1, 2, 3)]
        assert (point.seeds, point.values) == (3, tuple(values))
        assert point.mean == pytest.approx(statistics.fmean(values))
        assert point.std == pytest.approx(statistics.stdev(values))
    assert sweep.controls == pytest.approx({"news": 0.52, "world": 0.32})


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.floats(0.01, 50), st.lists(st.floats(0, 1), min_size=1, max_size=5), min_size=1, max_size=6))
def test_figures_are_those_of_plain_python(tmp_path_factory, values_at):
    rows = [
        row("world", f"xdm-{weight}", seed, value, weight) for weight, values in values_at.items() for seed, value in enumerate(values)
    ]
    path = write(tmp_path_factory.mktemp("sweep") / "results.parquet", rows)
    points = {point.x: point for point in read_sweep(path, WEIGHT, "hr@50").points}
    assert set(points) == set(values_at)
    for weight, values in values_at.items():
        assert points[weight].mean == pytest.approx(statistics.fmean(values))
        if len(values) > 1:
            assert points[weight].std == pytest.approx(statistics.stdev(values), abs=1e-12)
        else:
            assert math.isnan(points[weight].std)


@pytest.fixture
def grid(tmp_path):
    """Two settings swept at once."""
    rows = [
        row("world", f"xdm-{weight}-{margin}", seed, weight + margin + seed / 10, weight, margin)
        for weight in (1.0, 5.0) for margin in (10.0, 2.0) for seed in (1, 2)
    ]  # fmt: skip
    return write(tmp_path / "grid.parquet", [*rows, row("world", "sdm", 1, 0.25)])


def test_two_variants_at_one_point_are_refused_with_what_tells_them_apart(grid):
    with pytest.raises(UsageError, match=rf"all at {WEIGHT} = 1.0 .*--where.*--line \(they differ in {MARGIN}\)"):
        read_sweep(grid, WEIGHT, "hr@50")
    kept = read_sweep(grid, WEIGHT, "hr@50", where={MARGIN: "2e0"})
    assert [point.variant for point in kept.points] == ["xdm-1.0-2.0", "xdm-5.0-2.0"]
    lines = read_sweep(grid, WEIGHT, "hr@50", line=MARGIN, control="sdm")
    assert [(point.line, point.x) for point in lines.points] == [("2.0", 1.0), ("2.0", 5.0), ("10.0", 1.0), ("10.0", 5.0)]
    assert lines.controls == {"2.0": 0.25, "10.0": 0.25}


@pytest.mark.parametrize(("asked", "message"), [
    ({"x": "objective.metric_wait"}, f"Did you mean '{WEIGHT}'"),
    ({"metric": "hr@5"}, "Did you mean 'hr@50'"),
    ({"where": {"log": "wrld"}}, "it has news, world"),
    ({"where": {MARGIN: "large"}}, "holds numbers"),
    ({"control": "smd"}, "Did you mean 'sdm'"),
    ({"x": MARGIN}, f"no hr@50 of a variant with a value of {MARGIN}"),
])  # fmt: skip
def test_what_is_not_there_is_named(results, asked, message):
    with pytest.raises(UsageError, match=message):
        read_sweep(results, **{"x": WEIGHT, "metric": "hr@50", **asked})


@pytest.mark.parametrize(("values", "scale"), [
    ([0.01, 1, 50], "log"), ([0, 0.01, 1], "symlog"), ([0.1, 0.2, 2], "linear"), ([0], "linear"), ([-1, 0.01, 50], "linear"),
])  # fmt: skip
def test_the_axis_is_logarithmic_where_the_setting_spans_decades(values, scale):
    figure, axes = drawing().subplots()
    _scale(axes, values, True)
    assert axes.get_xscale() == scale
    if scale != "linear":
        assert [float(label.get_text()) for label in axes.get_xticklabels()] == values
    drawing().close(figure)


def test_the_command_writes_and_prints_every_point(results, tmp_path, capfd):
    out = tmp_path / "sweep"
    words = ("report", "sweep", results, "--x", WEIGHT, "--where", "log=world", "--control", "sdm", "--out", out)
    assert call(*words) == 0
    printed = capfd.readouterr().out
    rows = read_csv(out / "sweep.csv")
    assert [float(one[WEIGHT]) for one in rows] == [0.1, 1.0, 10.0]
    for one, point in zip(rows, read_sweep(results, WEIGHT, "hr@50", where={"log": "world"}).points, strict=True):
        assert (float(one["mean"]), float(one["std"]), one["variant"]) == (point.mean, point.std, point.variant)
        assert tuple(map(float, one["values"].split())) == point.values
        assert f"{point.mean:.4f}" in printed
    assert "sdm on world: 0.3200" in printed
    assert json.loads((out / "report.json").read_text())["control_means"] == pytest.approx({"world": 0.32})
    assert_pictures(out, "sweep")
    assert call(*words, "--overwrite", "--where", "log") == 2
    assert "must look like COLUMN=VALUE" in capfd.readouterr().err


def test_settings_that_are_words_stand_side_by_side(tmp_path):
    rows = [row("world", fusion, seed, seed / 10) | {"unclicked.fusion": fusion} for fusion in ("gate", "subtract") for seed in (1, 2)]
    path = write(tmp_path / "results.parquet", rows)
    assert call("report", "sweep", path, "--x", "unclicked.fusion", "--out", tmp_path / "out") == 0
    assert [one["unclicked.fusion"] for one in read_csv(tmp_path / "out" / "sweep.csv")] == ["gate", "subtract"]
    assert_pictures(tmp_path / "out", "sweep")
