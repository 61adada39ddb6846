"""Checkpoints that survive ``kill -9``: each is a folder that appears whole; the newest whole one is what counts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from xdm.folders import MANIFEST, new_folder, write_json
from xdm.schema import UsageError

MODEL, BEST, OPTIMIZER = "model.safetensors", "best.safetensors", "optimizer.safetensors"
CARRIED = "carried.safetensors"
FORMAT = "xdm-checkpoint"


def save_checkpoint(
    folder: Path,
    state: dict[str, Any],
    model: torch.nn.Module,
    best: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    carried: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write checkpoint ``state["step"]`` below ``folder`` and remove the ones before it; ``carried``: what the order of training
    carries from step to step."""
    path = folder / f"step-{state['step']:09d}"
    with new_folder(path, FORMAT, overwrite=True) as partial:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, partial / MODEL)
        save_file(best, partial / BEST)
        slots = optimizer.state_dict()["state"]
        flat = {
            f"{number}.{name}": torch.as_tensor(value) for number, slot in slots.items() for name, value in slot.items()
        }
        save_file(flat, partial / OPTIMIZER)
        if carried is not None:
            save_file(carried, partial / CARRIED)
        write_json(partial / MANIFEST, {"format": FORMAT, **state})
    for other in folder.glob("step-*"):
        if other.name < path.name:
            shutil.rmtree(other, ignore_errors=True)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint below ``folder``."""
    return max((path for path in folder.glob("step-*") if (path / MANIFEST).is_file()), default=None)


def read_state(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as state."""
    try:
        return json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}); remove it and resume from the one before, or start anew"
        ) from None


def load_carried(path: Path) -> dict[str, torch.Tensor]:
    """What `save_checkpoint` was given as ``carried``."""
    return load_file(path / CARRIED)


def load_checkpoint(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Put weights and optimiser state back as they were; returns the best weights so far (empty if none yet)."""
    model.load_state_dict(load_file(path / MODEL))
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(path / OPTIMIZER).items():
        number, name = key.split(".", 1)
        slots.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return load_file(path / BEST)
