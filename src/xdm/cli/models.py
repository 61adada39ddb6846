"""``xdm models``: what can be trained, and every setting."""

from __future__ import annotations

import json

import click


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
    from xdm.models.registry import MODELS, PRESET_SUMMARIES

    if as_json:
        click.echo(json.dumps({"models": PRESET_SUMMARIES, "settings": dict(_settings())}))
        return
    width = max(map(len, PRESET_SUMMARIES))
    for name, summary in PRESET_SUMMARIES.items():
        click.echo(f"{name:<{width}}  {summary}")
    if settings:
        click.echo(f"\nSettings (model.* are those of {', '.join(MODELS)}):")
        for key, (default, description) in _settings():
            click.echo(f"  {key} = {default!r}\n      {description}")


def _settings() -> list[tuple[str, tuple[object, str]]]:
    from pydantic import BaseModel

    from xdm.training.config import Config

    found = []
    for section, value in Config():
        assert isinstance(value, BaseModel)
        for name, field in type(value).model_fields.items():
            if field.description:
                found.append((f"{section}.{name}", (field.default, field.description)))
    return found
