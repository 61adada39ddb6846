"""GRU layers in the two forms that papers and libraries have: the reset gate acts after the recurrent matrix, or before it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResetAfter(nn.Module):
    """A GRU layer whose reset gate acts on the product with the recurrent matrix: torch's form, with two biases a gate.

    ``r, z = σ(W x + b + U h + c)``, ``n = tanh(W x + b + r ⊙ (U h + c))``, ``h' = (1 - z) ⊙ n + z ⊙ h``.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.input, self.recurrent = gates(width, width_in), gates(width, width)  # rows: r, z, n
        self.input_bias = nn.Parameter(torch.zeros(3 * width))
        self.recurrent_bias = nn.Parameter(torch.zeros(3 * width))

    def forward(self, x: Tensor, state: Tensor, dropout: float) -> Tensor:
        """``[B, T, width_in]`` after ``state`` ``[B, width]`` to ``[B, T, width]``."""
        if not dropout:  # one kernel for all clicks, in training and in the exported graph
            weights: list[Tensor] = [self.input, self.recurrent, self.input_bias, self.recurrent_bias]
            return torch.gru(x, state[None], weights, True, 1, 0.0, False, False, True)[0]
        inputs = F.linear(x, self.input, self.input_bias)  # [B, T, 3 width]
        kept = dropped(inputs, self.width, dropout)  # [B, T, width]
        after = []
        for t in range(x.shape[1]):
            r, z, n = inputs[:, t].chunk(3, dim=1)  # each [B, width]
            of_r, of_z, of_n = F.linear(state, self.recurrent, self.recurrent_bias).chunk(3, dim=1)  # each [B, width]
            update = torch.sigmoid(z + of_z)
            candidate = torch.tanh(n + torch.sigmoid(r + of_r) * of_n)
            state = torch.lerp(candidate, state, update) * kept[:, t]  # [B, width]
            after.append(state)
        return torch.stack(after, dim=1)


class ResetBefore(nn.Module):
    """A GRU layer whose reset gate acts on the state: the papers' form, with one bias a gate.

    ``r, z = σ(W x + b + U h)``, ``n = tanh(W x + b + U (r ⊙ h))``, ``h' = (1 - z) ⊙ h + z ⊙ n``: beside torch's form z and
    1 - z have changed places. Without a ``width_in`` the inputs are the products ``W x`` themselves, ``[B, T, 3 width]``.
    ``hard``: σ of the gates is Theano's `hard_sigmoid`.
    """

    def __init__(self, width_in: int | None, width: int, *, hard: bool = False) -> None:
        super().__init__()
        self.width, self.hard = width, hard
        self.input = None if width_in is None else gates(width, width_in)  # rows: r, z, n
        self.recurrent = gates(width, width)
        self.bias = nn.Parameter(torch.zeros(3 * width))

    def forward(self, x: Tensor, state: Tensor, dropout: float) -> Tensor:
        """``[B, T, width_in]`` after ``state`` ``[B, width]`` to ``[B, T, width]``."""
        if torch.onnx.is_in_onnx_export():
            return self._as_operator(x, state)
        inputs = x + self.bias if self.input is None else F.linear(x, self.input, self.bias)  # [B, T, 3 width]
        return reset_before(inputs, state, self.recurrent, dropped(inputs, self.width, dropout), self.hard)

    def _as_operator(self, x: Tensor, state: Tensor) -> Tensor:
        of_input = torch.eye(3 * self.width) if self.input is None else self.input
        weights = (onnx_rows(part)[None] for part in (of_input, self.recurrent, self.bias))
        return OnnxGRU.apply(x.transpose(0, 1), state[None], *weights, self.hard)[:, 0].transpose(0, 1)


class OnnxGRU(torch.autograd.Function):
    """`ResetBefore` as the one operator that ONNX has for it: traced click by click, a graph would keep the example's length.

    The layout is that operator's: ``x`` ``[T, B, width_in]``, ``state`` ``[1, B, width]``, weights with a first dimension of 1
    for the direction and rows as `onnx_rows` has them, states ``[T, 1, B, width]``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, state: Tensor, of_input: Tensor, recurrent: Tensor, bias: Tensor, hard: bool) -> Tensor:
        inputs = F.linear(x.transpose(0, 1), own_rows(of_input[0]), own_rows(bias[0]))  # [B, T, 3 width]
        after = reset_before(inputs, state[0], own_rows(recurrent[0]), torch.ones_like(inputs[..., :1]), hard)  # [B, T, width]
        return after.transpose(0, 1)[:, None]

    @staticmethod
    def symbolic(g: Any, x: Any, state: Any, of_input: Any, recurrent: Any, bias: Any, hard: bool) -> Any:
        width = recurrent.type().sizes()[2]
        biases = g.op("Concat", bias, g.op("Constant", value_t=torch.zeros(1, 3 * width)), axis_i=1)
        no_lengths = g.op("prim::Constant")
        no_lengths.setType(torch.OptionalType.ofTensor())
        more: dict[str, Any] = {}
        if hard:
            more = {"activations_s": ["HardSigmoid", "Tanh"], "activation_alpha_f": [0.2], "activation_beta_f": [0.5]}
        return g.op(
            "GRU", x, of_input, recurrent, biases, no_lengths, state, hidden_size_i=width, linear_before_reset_i=0, outputs=2, **more
        )[0]


def onnx_rows(rows: Tensor) -> Tensor:
    """Rows r, z, n of `ResetBefore` as ONNX has them: its update gate comes first, and is the share of the old state."""
    r, z, n = rows.chunk(3)
    return torch.cat([-z, r, n])


def own_rows(rows: Tensor) -> Tensor:
    """Rows as ONNX has them as `ResetBefore` does: what `onnx_rows` was given."""
    z, r, n = rows.chunk(3)
    return torch.cat([r, -z, n])


def reset_before(inputs: Tensor, state: Tensor, recurrent: Tensor, kept: Tensor, hard: bool = False) -> Tensor:
    """The clicks of `ResetBefore` one after the other: ``inputs`` ``[B, T, 3 width]`` to states ``[B, T, width]``."""
    after: list[Tensor] = []
    for t in range(inputs.shape[1]):
        state = after_click(inputs[:, t], state, recurrent, hard) * kept[:, t]  # [B, width]
        after.append(state)
    return torch.stack(after, dim=1)


def after_click(inputs: Tensor, state: Tensor, recurrent: Tensor, hard: bool = False) -> Tensor:
    """The state ``[B, width]`` after one click of `ResetBefore`: ``inputs`` ``[B, 3 width]`` to the three gates, after ``state``."""
    width = state.shape[1]
    both = inputs[:, : 2 * width] + F.linear(state, recurrent[: 2 * width])  # [B, 2 width]
    reset, update = (hard_sigmoid(both) if hard else torch.sigmoid(both)).chunk(2, dim=1)  # each [B, width]
    candidate = torch.tanh(inputs[:, 2 * width :] + F.linear(reset * state, recurrent[2 * width :]))  # [B, width]
    return torch.lerp(state, candidate, update)


def hard_sigmoid(x: Tensor) -> Tensor:
    """Theano's, any shape: the line ``0.2 x + 0.5`` cut to [0, 1]. (`F.hardsigmoid` has a slope of 1/6.)"""
    return (0.2 * x + 0.5).clamp(0, 1)


def dropped(like: Tensor, width: int, rate: float) -> Tensor:
    """What states ``[B, T, width]`` are multiplied with: 0 with chance ``rate``, else ``1 / (1 - rate)``."""
    return F.dropout(like.new_ones((*like.shape[:2], width)), rate)


def gates(width: int, width_in: int) -> nn.Parameter:
    """The matrices of three gates, ``[3 width, width_in]``, each drawn for itself, uniform in ±sqrt(6 / (width + width_in))."""
    limit = math.sqrt(6 / (width + width_in))
    return nn.Parameter(torch.empty(3 * width, width_in).uniform_(-limit, limit))
