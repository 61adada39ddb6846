"""``xdm train``: a model from a store."""

from __future__ import annotations

import json
from pathlib import Path

import click

from xdm.cli.options import PATH


@click.command(context_settings={"show_default": True})
@click.argument("store", type=PATH)
@click.option("--out", required=True, type=PATH, help="The bundle to write.")
@click.option(
    "--model", default=None, help="Model or preset: `xdm models` lists them.  [default: xdm, or the config file's]"
)
@click.option("--config", "file", type=PATH, help="Settings as YAML; `preset:` names a model.")
@click.option("--set", "assignments", multiple=True, metavar="KEY.KEY=VALUE", help="One setting, over file and preset.")
@click.option("--seed", type=int, default=None, help="Short for --set training.seed=SEED.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the run beside OUT.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle and the run that are there.")
@click.option("--show-config", is_flag=True, help="Print the whole configuration as YAML and stop.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@click.option("--json", "as_json", is_flag=True, help="What happened, as JSON on standard output.")
def train(
    store: Path, out: Path, model: str | None, file: Path | None, assignments: tuple[str, ...], seed: int | None,
    resume: bool, overwrite: bool, show_config: bool, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Train a model on STORE and write its bundle.

    The log is split by time: the model learns from the clicks before the validation part, the validation part says
    when to stop and which epoch is kept, and the test part is left for `xdm evaluate`. Beside the bundle OUT the
    folder OUT.run holds the configuration, the figures of every step and the checkpoints: a run that was killed goes
    on with --resume, to the same bits.

    \b
    Examples:
      xdm train store --model xdm --out bundle
      xdm train store --model sdm --out sdm --set training.epochs=5 --set model.width=32
      xdm train store --config run.yaml --out bundle --resume
    """
    import yaml

    from xdm.console import Progress
    from xdm.log.store import Store
    from xdm.training.config import load_config

    if seed is not None:
        assignments = (*assignments, f"training.seed={seed}")
    config = load_config(model or (None if file else "xdm"), file, assignments)
    if show_config:
        click.echo(yaml.safe_dump(config.to_dict(), sort_keys=False), nl=False)
        return
    from xdm.training.run import Run

    run = Run(Store(store), config, out, overwrite=overwrite)
    result = run.train(resume=resume, progress=Progress(quiet=quiet))
    if as_json:
        click.echo(json.dumps(result))
        return
    monitor = config.training.monitor
    click.echo(
        f"{result['model']}: best of {result['epochs']} epochs is epoch {result['best_epoch']}, "
        f"validation {monitor} {result[monitor]:.4f}\nbundle: {out}"
    )
