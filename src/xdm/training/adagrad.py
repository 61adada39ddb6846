"""Adagrad as GRU4Rec's authors have it: sums from zero, epsilon inside the root, momentum on the scaled step.

Source: the authors' code (hidasib/GRU4Rec and hidasib/GRU4Rec_PyTorch_Official). With the gradient g of a weight w:
``s <- s + g²``, ``m <- momentum m + rate g / sqrt(s + epsilon)``, ``w <- w - m``. The first step of a weight is therefore
one of length ``rate``, whatever its gradient, where torch's and TensorFlow's Adagrad start from 0.1 and less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

EPSILON = 1e-6


class MomentumAdagrad(torch.optim.Optimizer):
    """See the module. Tables are stepped by rows: one without a gradient stays, and so does its momentum."""

    def __init__(self, weights: Iterable[nn.Parameter], tables: Iterable[nn.Parameter], lr: float, momentum: float = 0.0) -> None:
        """``tables``: weights of which a step touches few rows, ``[rows, columns]``; ``weights``: all others."""
        groups: list[dict[str, Any]] = [{"params": list(weights), "rows": False}, {"params": list(tables), "rows": True}]
        super().__init__([group for group in groups if group["params"]], {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            for weight in group["params"]:
                self.state[weight]["sum"] = torch.zeros_like(weight)
                if momentum:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step along the gradients. ``closure`` is refused: nothing here evaluates the loss again."""
        if closure is not None:
            raise ValueError("this optimiser takes no closure")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step(weight, weight.grad, group)

    def _step(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if group["rows"]:
            touched = torch.nonzero(gradient.abs().sum(dim=1)).squeeze(1)  # [R]; `any` takes three times as long
            held = {name: values[touched] for name, values in state.items()}
            weight.index_add_(0, touched, _move(held, gradient[touched], group), alpha=-1)
            for name, values in held.items():
                state[name].index_copy_(0, touched, values)
        else:
            weight.sub_(_move(state, gradient, group))


def _move(state: dict[str, Tensor], gradient: Tensor, group: dict[str, Any]) -> Tensor:
    """What is taken off the weights; ``state`` is moved on in place."""
    total = state["sum"].addcmul_(gradient, gradient)
    scaled = gradient / (total + EPSILON).sqrt_() * group["lr"]
    if not group["momentum"]:
        return scaled
    return state["momentum"].mul_(group["momentum"]).add_(scaled)
