"""Loops along the clicks of a row, for recurrent cells that no library has."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def looped(loop: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """``loop(*arguments)``, which goes over the clicks one by one; in an exported graph it becomes one loop of any length.

    Traced, a Python loop would be unrolled and keep the example's length. ``loop`` is a function of a module, of tensors alone
    (annotated as such, as are its lists), in what TorchScript understands of Python; it is compiled for the export only.
    """
    if torch.onnx.is_in_onnx_export():
        return torch.jit.script(loop)(*arguments)
    return loop(*arguments)
