"""``xdm models`` lists what ``xdm train --model`` takes, and every setting."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.learning import call
from xdm.evaluation.baselines import BASELINES
from xdm.models.measured import MEASURED
from xdm.models.presets import PRESETS
from xdm.models.registry import MODELS
from xdm.training.config import Config, load_config

ROOT = Path(__file__).parents[2]


def flat(tree, prefix=""):
    """``{"a.b": 1}`` of ``{"a": {"b": 1}}``; the widths by name, which are settings of their own, stay whole."""
    found = {}
    for key, value in tree.items():
        whole = not isinstance(value, dict) or key in ("feature_widths", "field_widths")
        found |= {f"{prefix}{key}": value} if whole else flat(value, f"{prefix}{key}.")
    return found


def test_every_listed_model_can_be_asked_for(capfd):
    assert call("models") == 0
    sections = capfd.readouterr().out.split("\n\n")
    models, presets, counting = ([line.split()[0] for line in s.splitlines()[1:] if line[2] != " "] for s in sections)
    assert models == list(MODELS)
    assert {*models, *presets} == set(PRESETS)
    assert counting == list(BASELINES)
    listed = list(PRESETS)
    names = {name: load_config(name).name for name in listed}
    # a variant of XDM is called what it is a variant of; its settings tell it apart
    assert all(called in name for name, called in names.items())
    assert len({str(load_config(name).to_dict()) for name in listed}) == len(listed)


def test_what_a_model_is_and_has_reached_is_told(capfd):
    assert call("models", "--json") == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["models"].keys() == MODELS.keys()
    assert answer["models"]["lrml"]["retrieved"] == "scoring every pair"
    assert answer["models"]["hstu"]["needs"] == ["times"]
    assert call("models") == 0
    printed = capfd.readouterr().out
    for name, figures in MEASURED.items():
        assert name in {*PRESETS, *BASELINES}
        for one in figures:
            assert (ROOT / one.page).is_file()
            assert f"{one.metric} {one.value:.4f} on {one.log}" in printed
    for name, entry in MODELS.items():
        assert entry.paper in printed
        assert answer["models"][name]["label"] == entry.label
        assert not entry.label or f"label: {entry.label}\n" in printed
    assert "regresses ratings" in MODELS["rrn"].label


def test_every_model_has_a_page_that_the_index_links_and_that_names_its_file():
    index = (ROOT / "docs/models/README.md").read_text()
    linked = {page: (ROOT / "docs/models" / page).read_text() for page in re.findall(r"\]\((\w+\.md)\)", index)}
    for name, entry in MODELS.items():
        file = entry.encoder.__module__.rsplit(".", 1)[1]
        pages = [page for page, text in linked.items() if re.search(rf"[`/]{file}\.py`", text)]
        assert pages or name == "sdm_actions", name  # that one is no paper's: a control, told on XDM's page
        assert name == "sdm_actions" or any(re.search("differen|disagree", linked[page], re.IGNORECASE) for page in pages), name


def test_settings_are_every_key_with_its_default(capfd):
    assert call("models", "--json") == 0
    answer = json.loads(capfd.readouterr().out)
    held = flat(Config().to_dict())
    # the model's name is chosen by --model and has no description of its own
    assert set(answer["settings"]) == held.keys() - {"model.name"}
    for key, (default, description) in answer["settings"].items():
        assert held[key] == default
        assert description.strip()
    assert answer["model_settings"].keys() == MODELS.keys()
    for name, settings in answer["model_settings"].items():
        assert {f"model.{key}" for key in MODELS[name].config.model_fields} - settings.keys() == {"model.name"}
    assert call("models", "--settings") == 0
    printed = capfd.readouterr().out
    assert all(f"  {key} = " in printed for key in answer["settings"])
    for name, settings in answer["model_settings"].items():
        own = printed.split(f"Settings of model.name={name}:\n")[1].split("\n\n")[0]
        assert [line.split(" = ")[0].strip() for line in own.splitlines()[::2]] == list(settings)
