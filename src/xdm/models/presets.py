"""What `--model NAME` stands for: settings of the whole configuration, over its defaults. Each model's own stand in its file."""

from __future__ import annotations

from typing import Any

from xdm.models.registry import MODELS
from xdm.schema import ConfigError, nearest

PRESETS: dict[str, dict[str, Any]] = {name: {"model": {"name": name}, **entry.settings} for name, entry in MODELS.items()}
PRESET_SUMMARIES = {name: entry.summary for name, entry in MODELS.items()}
for _name, _entry in MODELS.items():
    for _variant, _preset in _entry.presets.items():
        PRESETS[_variant], PRESET_SUMMARIES[_variant] = {"model": {"name": _name}, **_preset.settings}, _preset.summary


def _xdm(summary: str, **settings: dict[str, Any]) -> tuple[dict[str, Any], str]:
    return {"model": {"name": "sdm"}, "unclicked": {"enabled": True}, **settings}, summary


# XDM and the variants of its paper, by the paper's names; then the controls that stand in every table of results.
for _name, (_settings, _summary) in {
    "xdm": _xdm("XDM (DASFAA 2022): SDM with the unclicked sequence, symmetric triplet and confidence fusion"),
    "xdm-no-sym": _xdm("XDM w/o sym: the ordinary triplet, with the label as its only anchor", objective={"metric": "asymmetric"}),
    "xdm-no-metric": _xdm("XDM w/o metric: the fusion without a metric loss", objective={"metric": "none"}),
    "xdm-unclk-lab": _xdm("XDM (unclk&lab): the pair loss that pushes n from the label", objective={"metric": "unclicked_label"}),
    "xdm-lab-clk": _xdm("XDM (lab&clk): the pair loss that pulls h to the label", objective={"metric": "label_clicked"}),
    "xdm-unclk-clk": _xdm("XDM (unclk&clk): the pair loss that pushes n from h", objective={"metric": "unclicked_clicked"}),
    "xdm-shuffled": _xdm(
        "control: XDM with another user's unclicked sequences", data={"unclicked_source": "shuffled"}
    ),
    "xdm-random": _xdm("control: XDM with random items for unclicked ones", data={"unclicked_source": "random"}),
    "xdm-shown": _xdm("control: XDM told what was shown, clicked or not", behaviours={"keep_clicked": True}),
    "xdm-live": _xdm("control: XDM told what is clicked by anyone now", data={"unclicked_source": "live"}),
    "sdm-ntr": (
        {"model": {"name": "sdm"}, "objective": {"not_to_recommend": 0.1}},
        "SDM with the not-to-recommend loss (RecSys 2023) over unclicked items",
    ),
}.items():
    PRESETS[_name], PRESET_SUMMARIES[_name] = _settings, _summary


def preset(name: str) -> dict[str, Any]:
    """The settings that ``--model name`` stands for."""
    if name not in PRESETS:
        raise ConfigError(f"there is no model '{name}'.{nearest(name, PRESETS)} Models: {', '.join(PRESETS)}")
    return PRESETS[name]
