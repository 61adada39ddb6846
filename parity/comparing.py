"""What every parity proof does: import the authors' code, compare scores and gradients of the same weights, keep the result.

A proof runs on demand with a checkout of the authors' repository, which is no part of this one:
``python parity/sasrec.py --authors CHECKOUT``. It fails with exit code 1 where anything differs by more than `TOLERANCE`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xdm.models.registry import model_config
from xdm.models.retrieval_model import RetrievalModel
from xdm.models.shared.inputs import Sizes
from xdm.models.unclicked import UnclickedConfig

TOLERANCE = 1e-5
RESULTS = Path(__file__).parent / "results"

# Tensors under names that both sides share: "scores", and after a step "gradient of …".
Found = dict[str, Tensor]


def authors_argument(description: str, **more: str) -> argparse.Namespace:
    """``--authors`` (a folder) and ``--commit`` (found by git where the folder is a clone) from the command line, and ``more``
    options by name with what each is."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--authors", type=Path, required=True, help="a checkout of the authors' repository")
    parser.add_argument("--commit", help="its commit; found by git where the folder is a clone")
    for name, text in more.items():
        parser.add_argument(f"--{name}", required=True, help=text)
    asked = parser.parse_args()
    if not asked.commit:
        ran = subprocess.run(["git", "-C", asked.authors, "rev-parse", "HEAD"], capture_output=True, text=True)
        if ran.returncode:
            parser.error(f"{asked.authors} is no git clone: name the commit with --commit")
        asked.commit = ran.stdout.strip()
    return asked


def module_of(folder: Path, name: str) -> ModuleType:
    """Import ``name`` with ``folder`` first on the path, so that the authors' own imports find their files."""
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def our_model(settings: dict[str, Any], n_items: int, n_users: int = 1) -> RetrievalModel:
    """Our model by its settings, with random weights, without dropout, for ``n_items`` items without features."""
    sizes = Sizes(n_items, n_items, n_users)
    return RetrievalModel(model_config(settings), UnclickedConfig(), sizes, np.arange(n_items + 1)[None]).eval()


def load(model: RetrievalModel, weights: Found) -> None:
    """Put the authors' ``weights`` under our names into ``model``; every parameter must be among them."""
    named = dict(model.named_parameters())
    if named.keys() != weights.keys():
        raise ValueError(f"weights {sorted(named.keys() ^ weights.keys())} are on one side alone")
    with torch.no_grad():
        for name, weight in named.items():
            weight.copy_(weights[name])


def gradients(loss: Tensor, weights: Iterable[tuple[str, Tensor]]) -> Found:
    """The gradients of ``loss`` for the named ``weights``; zeros for one that the loss does not reach."""
    named = dict(weights)
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {
        f"gradient of {name}": torch.zeros_like(weight) if gradient is None else gradient
        for (name, weight), gradient in zip(named.items(), found, strict=True)
    }


def differences(ours: Found, theirs: Found) -> dict[str, float]:
    """The largest absolute difference of the scores, and that of all gradients.

    Raises:
        ValueError: the two do not hold the same names with the same shapes.
    """
    shapes = [{name: tuple(tensor.shape) for name, tensor in side.items()} for side in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"the two sides hold different tensors: {shapes[0]} and {shapes[1]}")

    def largest(tensors: Iterable[Tensor]) -> float:
        return float(torch.stack([tensor.abs().max() for tensor in tensors]).max())  # NaN, where one is

    learned = [name for name in ours if name.startswith("gradient")]
    scores = [name for name in ours if name not in learned]
    return {
        "scores": largest(ours[name] - theirs[name] for name in scores),
        "gradients": largest(ours[name] - theirs[name] for name in learned),
        "largest_score": largest(theirs[name] for name in scores),
        "largest_gradient": largest(theirs[name] for name in learned),
    }


def run(
    name: str, repository: str, commit: str, cases: dict[str, Callable[[], tuple[Found, Found]]], **more: Any
) -> None:
    """Compare every case (a function that gives ours and theirs), print, write ``results/<name>.json``, and exit.

    ``more`` is said in the result as well, e.g. what of the authors' code had to be replaced to run here.
    """
    found = {case: differences(*compare()) for case, compare in cases.items()}
    passed = all(max(one["scores"], one["gradients"]) <= TOLERANCE for one in found.values())
    for case, one in found.items():
        print(f"{case}: scores differ by {one['scores']:.1e} of {one['largest_score']:.3g}, "
              f"gradients by {one['gradients']:.1e} of {one['largest_gradient']:.3g}")  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    result = {
        "repository": repository, "commit": commit, "torch": torch.__version__,
        "precision": str(torch.get_default_dtype()), "tolerance": TOLERANCE,
        "passed": passed, **more, "cases": found,
    }  # fmt: skip
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(0 if passed else 1)
