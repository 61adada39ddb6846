"""Grids: every combination once, each with its own name; and the search spaces."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from xdm.experiments.file import NAME, read_file
from xdm.experiments.grid import Choices, Range, divide, expand, flat, untrained_settings, variants_of
from xdm.experiments.running import checked_config
from xdm.schema import ConfigError
from xdm.training.config import load_config

KEYS = ["objective.metric_weight", "objective.margin", "training.epochs", "unclicked.margin", "model.width", "a.b.c"]
VALUES = st.one_of(st.integers(-5, 5), st.floats(-3, 3).map(lambda x: round(x, 3) + 0.0), st.booleans(), st.sampled_from(["x", "y z"]))
ENTRIES = st.dictionaries(st.sampled_from(KEYS), st.one_of(VALUES, st.lists(VALUES, min_size=1, max_size=3)), max_size=4)


def text_of(value):
    """As a name shows it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "".join(c if c.isalnum() or c in "_.=,+-" else "_" for c in str(value))


@given(ENTRIES, st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=2))
def test_a_grid_is_every_combination_once(entry, common):
    lists = {key: value for key, value in entry.items() if isinstance(value, list)}
    found = expand("v", {"model": "sdm", **entry}, common)
    assert len(found) == math.prod(len(values) for values in lists.values())
    wanted = []
    for combination in itertools.product(*lists.values()):
        wanted.append(common | entry | dict(zip(lists, combination, strict=True)))
    assert [variant.assignments for variant in found] == wanted
    for variant in found:
        assert NAME.fullmatch(variant.name)
        shown = [text_of(variant.assignments[key]) for key in entry if isinstance(entry[key], list) and len(entry[key]) > 1]
        assert all(f"={text}" in variant.name for text in shown)
    assert (found[0].name == "v") == all(len(values) == 1 for values in lists.values())


def test_two_keys_of_one_last_word_are_named_in_full():
    found = expand("v", {"model": "sdm", "a.margin": [1, 2], "b.margin": [3, 4], "c.x": [5, 6]})
    assert found[0].name == "v-a.margin=1-b.margin=3-x=5"


def test_a_list_in_a_list_is_a_value():
    found = expand("v", {"model": "sdm", "model.features": [["category", "brand"]], "model.sizes": [[1], [1, 2]]})
    assert [variant.assignments for variant in found] == [
        {"model.features": ["category", "brand"], "model.sizes": sizes} for sizes in ([1], [1, 2])
    ]


def test_nested_keys_are_dotted_keys():
    assert flat({"a": {"b": 1, "c.d": {"e": 2}}, "f": {"low": 1, "high": 2}}) == {
        "a.b": 1, "a.c.d.e": 2, "f": {"low": 1, "high": 2},
    }  # fmt: skip


def test_spaces():
    rates = {"low": "1e-4", "high": 1e-2, "log": True}
    entry = {"model": "xdm", "training.epochs": {"low": 1, "high": 3}, "training.learning_rate": rates,
             "objective": {"name": {"choices": ["softmax", "sampled_softmax"]}}, "objective.margin": [0.1, 0.2]}  # fmt: skip
    first, second = expand("v", entry, {"training.epochs": 9, "model.width": 8})
    assert first.spaces == second.spaces == {
        "training.epochs": Range(low=1, high=3), "training.learning_rate": Range(low=0.0001, high=0.01, log=True),
        "objective.name": Choices(choices=("softmax", "sampled_softmax")),
    }  # fmt: skip
    assert isinstance(first.spaces["training.epochs"].low, int)
    assert second.assignments == {"model.width": 8, "objective.margin": 0.2}
    words = second.words({"training.epochs": 2, "training.learning_rate": 1e-05, "objective.name": "softmax"})
    config = load_config("xdm", None, words)
    assert (config.training.epochs, config.training.learning_rate, config.objective.margin) == (2, 1e-05, 0.2)
    assert config.objective.name == "softmax"


def test_untrained_variants_keep_the_split_alone():
    (variant,) = expand("p", {"model": "popularity"}, {"training.epochs": 3, "split.test": 0.2})
    assert (variant.trained, variant.assignments) == (False, {"split.test": 0.2})
    with pytest.raises(ConfigError, match=r"takes no settings, but has data\.min_clicks"):
        expand("p", {"model": "recent_popularity", "data": {"min_clicks": 2}})


def test_a_baseline_has_its_own_settings_and_no_others():
    found = expand("e", {"model": "ease", "baseline": {"l2": [100, 300.0], "max_items": 5}}, {"split.test": 0.2})
    assert [variant.name for variant in found] == ["e-l2=100", "e-l2=300.0"]
    assert [divide(variant.words()) for variant in found] == [
        ({"l2": l2, "max_items": 5}, ["split.test=0.2"]) for l2 in (100, 300.0)
    ]
    assert [untrained_settings("ease", variant.words()) for variant in found] == [
        {"l2": l2, "max_items": 5} for l2 in (100.0, 300.0)
    ]
    assert untrained_settings("popularity", []) is None
    assert untrained_settings("oracle", []) is None
    (plain,) = expand("k", {"model": "itemknn"})
    assert (plain.trained, plain.assignments) == (False, {})
    for entry, message in (
        ({"model": "ease", "training.epochs": 2}, r"takes settings below baseline alone, but has training\.epochs"),
        ({"model": "popularity", "baseline.l2": 2}, r"takes no settings, but has baseline\.l2"),
        ({"model": "ease", "baseline.l2": {"low": 1, "high": 2}}, "only what is trained is searched"),
    ):
        with pytest.raises(ConfigError, match=message):
            expand("e", entry)
    with pytest.raises(ConfigError, match=r"variants\.e: baseline\.l3: ease has no such setting"):
        checked_config(expand("e", {"model": "ease", "baseline.l3": 2})[0])


def test_the_example_of_the_repository_is_a_file_of_this_version():
    for path in sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml")):
        written = yaml.safe_load(path.read_text())
        if "variants" in written:
            given_logs = {name: Path(name) for name, entry in written["logs"].items() if not {"store", "world"} & (entry or {}).keys()}
            variants = variants_of(read_file(path, given_logs))
            assert {variant.name for variant in variants} >= {written["control"]}
