"""``xdm models``: what can be trained, and every setting."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pydantic import BaseModel

Setting = tuple[str, tuple[object, str]]  # key, its default and what it does


@click.command()
@click.option("--settings", is_flag=True, help="Also list every setting with its default.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def models(settings: bool, as_json: bool) -> None:
    """List what `xdm train --model` takes: models with their papers, what they need beyond the clicked items in order, how
    their items are found and what they reached here; presets; and the baselines that only count.

    \b
    Examples:
      xdm models
      xdm models --settings
    """
    from xdm.evaluation.baselines import BASELINES
    from xdm.models.measured import MEASURED
    from xdm.models.presets import PRESET_SUMMARIES
    from xdm.models.registry import MODELS

    presets = {name: summary for name, summary in PRESET_SUMMARIES.items() if name not in MODELS}
    if as_json:
        told = {
            name: {
                "summary": entry.summary, "paper": entry.paper, "label": entry.label, "needs": entry.needs,
                "retrieved": entry.retrieved,
                "measured": [vars(one) for one in MEASURED.get(name, ())],
            }
            for name, entry in MODELS.items()
        }  # fmt: skip
        of_models = {name: dict(_described("model", entry.config)) for name, entry in MODELS.items()}
        counting = {name: {"summary": one.summary, "paper": one.paper} for name, one in BASELINES.items()}
        answer = {"models": told, "presets": presets, "baselines": counting}
        click.echo(json.dumps(answer | {"settings": dict(_settings()), "model_settings": of_models}))
        return
    width = max(map(len, [*PRESET_SUMMARIES, *BASELINES]))
    click.echo("Models")
    for name, entry in MODELS.items():
        click.echo(f"  {name:<{width}}  {entry.summary}")
        needs = f"needs {', '.join(entry.needs)}" if entry.needs else "needs clicks in order"
        facts = [entry.paper] if entry.paper else []
        facts += [f"label: {entry.label}"] if entry.label else []
        facts += [f"{needs}; found by {entry.retrieved}"]
        facts += ["here: " + "; ".join(map(str, MEASURED[name]))] if name in MEASURED else []
        for fact in facts:
            click.echo(f"  {'':<{width}}    {fact}")
    for title, rows in (("Presets", presets), ("Not trained", {name: one.summary for name, one in BASELINES.items()})):
        click.echo(f"\n{title}")
        for name, summary in rows.items():
            told_too = "; here: " + "; ".join(map(str, MEASURED[name])) if name in MEASURED else ""
            click.echo(f"  {name:<{width}}  {summary}{told_too}")
    if settings:
        for name, entry in MODELS.items():
            click.echo(f"\nSettings of model.name={name}:")
            _print(_described("model", entry.config))
        click.echo("\nSettings of every model:")
        _print([setting for setting in _settings() if not setting[0].startswith("model.")])


def _print(settings: list[Setting]) -> None:
    for key, (default, description) in settings:
        click.echo(f"  {key} = {default!r}\n      {description}")


def _settings() -> list[Setting]:
    """All of the default configuration, whose model is SDM."""
    from pydantic import BaseModel

    from xdm.training.config import Config

    found = []
    for section, value in Config():
        assert isinstance(value, BaseModel)
        found += _described(section, type(value))
    return found


def _described(section: str, kind: type[BaseModel]) -> list[Setting]:
    """Every setting of one section; the model's name, which ``--model`` chooses, has no description. A default that follows
    from another setting is the one beside the defaults of the others."""
    from pydantic import BaseModel

    plain = {name: field.default for name, field in kind.model_fields.items() if field.default_factory is None}
    found: list[Setting] = []
    for name, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data=plain)
        if isinstance(default, BaseModel):
            found += _described(f"{section}.{name}", type(default))
        elif field.description:
            found.append((f"{section}.{name}", (default, field.description)))
    return found
