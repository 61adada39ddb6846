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
    """List the models and presets that `xdm train --model` takes.

    \b
    Examples:
      xdm models
      xdm models --settings
    """
    from xdm.models.presets import PRESET_SUMMARIES
    from xdm.models.registry import MODELS

    if as_json:
        of_models = {name: dict(_described("model", entry.config)) for name, entry in MODELS.items()}
        click.echo(json.dumps({"models": PRESET_SUMMARIES, "settings": dict(_settings()), "model_settings": of_models}))
        return
    width = max(map(len, PRESET_SUMMARIES))
    for name, summary in PRESET_SUMMARIES.items():
        click.echo(f"{name:<{width}}  {summary}")
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
    """Every setting of one section; the model's name, which ``--model`` chooses, has no description."""
    return [
        (f"{section}.{name}", (field.default, field.description))
        for name, field in kind.model_fields.items()
        if field.description
    ]
