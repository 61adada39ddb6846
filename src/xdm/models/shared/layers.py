"""Layers that several models share: masked attention, residual recurrent stacks, initialisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xdm.models.shared.gru import ResetBefore

HIDDEN_SCORE = -1e9  # for masked positions: finite, so that a row without any position gives zeros instead of NaN


def linear(width_in: int, width_out: int, *, bias: bool = True, orthogonal: bool = False) -> nn.Linear:
    """A dense layer, glorot-uniform (or orthogonal) with zero bias."""
    layer = nn.Linear(width_in, width_out, bias=bias)
    (nn.init.orthogonal_ if orthogonal else nn.init.xavier_uniform_)(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def to_width(width_in: int, width_out: int) -> nn.Module:
    """A dense layer without bias between widths that differ; nothing between equal ones."""
    return nn.Identity() if width_in == width_out else linear(width_in, width_out, bias=False)


def masked_softmax(scores: Tensor, visible: Tensor) -> Tensor:
    """Softmax over the last dimension among ``visible`` (bool, same shape); a row with none visible is all zeros."""
    weights = torch.softmax(scores.masked_fill(~visible, HIDDEN_SCORE), dim=-1)
    return weights * visible.to(weights.dtype)


def causal(width: int, device: torch.device) -> Tensor:
    """``[width, width]`` bool: place t (row) sees places up to t."""
    places = torch.arange(width, device=device)
    return places[None, :] <= places[:, None]


class Dropout(nn.Module):
    """`nn.Dropout`, three times as fast on a CPU, where drawing a number for each element is most of its time.

    A draw of 64 bits serves four elements; what is dropped is thus a multiple of 1/65536 next to ``share``.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = round(share * 2**16)  # of 65536

    def forward(self, x: Tensor) -> Tensor:
        """In training each element of ``x`` (any shape) times 1 / (1 - share) or, at random, 0; otherwise ``x``."""
        if not self.training or not self.dropped:
            return x
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= self.dropped - 2**15  # of -2**15 .. 2**15 - 1
        return x * kept.to(x.dtype).mul_(2**16 / (2**16 - self.dropped))


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention with an output layer, residual and LayerNorm after (post-norm)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.qkv, self.out = linear(width, 3 * width), linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-8)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """``x`` ``[B, T, d]``; ``visible`` bool ``[B, T, T]``, row t says which places t may see. Returns ``[B, T, d]``."""
        batch, length, width = x.shape
        parts = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, heads, T, d / heads]
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5  # [B, heads, T, T]
        weights = self.dropout(masked_softmax(scores, visible[:, None].expand_as(scores)))
        mixed = (weights @ v).transpose(1, 2).reshape(batch, length, width)  # [B, T, d]
        return self.norm(x + self.dropout(self.out(mixed)))


class RecurrentStack(nn.Module):
    """LSTM or GRU layers with dropout before each; the last ``residual`` of them add to their input.

    ``kind``: ``lstm``; ``gru``, torch's, whose reset gate acts after the recurrent matrix; ``gru_reset_before``, the first
    paper's and TensorFlow's, where it acts on the state before that matrix.
    """

    def __init__(self, kind: str, width_in: int, width: int, layers: int, dropout: float, residual: int) -> None:
        """``residual`` is below ``layers``: the first layer's input has another width."""
        super().__init__()
        self.plain = layers - residual
        widths = [width_in if i == 0 else width for i in range(layers)]
        self.dropout = nn.Dropout(dropout)
        if kind == "gru_reset_before":
            cells = [ResetBefore(below, width) for below in widths]
            for layer in cells:
                draw_as_tensorflow(layer)
            self.layers = nn.ModuleList(cells)
            return
        cell = {"lstm": nn.LSTM, "gru": nn.GRU}[kind]
        self.layers = nn.ModuleList(cell(below, width, batch_first=True) for below in widths)
        for name, weight in self.layers.named_parameters():
            if "weight" in name:
                for gate in range(len(weight) // width):
                    nn.init.orthogonal_(weight.data[gate * width : (gate + 1) * width])
            else:
                nn.init.zeros_(weight)
            if (
                kind == "lstm" and "bias_ih" in name
            ):  # the forget gate starts open; of torch's two biases one carries the 1
                weight.data[width : 2 * width] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, width_in]`` to ``[B, T, width]``; position t depends on positions up to t, so right padding is harmless."""
        for i, layer in enumerate(self.layers):
            hidden = states(layer, self.dropout(x))
            x = hidden if i < self.plain else x + hidden
        return x


def states(layer: nn.Module, x: Tensor) -> Tensor:
    """The states ``[B, T, width]`` of one recurrent layer after each of ``x`` ``[B, T, width_in]``, starting from zeros."""
    if isinstance(layer, ResetBefore):
        return layer(x, x.new_zeros((x.shape[0], layer.width)), 0.0)
    return layer(x)[0]


def draw_as_tensorflow(layer: ResetBefore) -> None:
    """First weights as TensorFlow's GRU cell draws them with an orthogonal initialiser: one matrix for both gates, over input and
    state, and one for the candidate; the gates start open for the state, with biases of 1. (z here is 1 less theirs.)"""
    d = layer.width
    assert layer.input is not None
    both = torch.cat([layer.input.data, layer.recurrent.data], dim=1)  # [3 d, width_in + d]
    nn.init.orthogonal_(both[: 2 * d])
    nn.init.orthogonal_(both[2 * d :])
    layer.input.data, layer.recurrent.data = (part.clone() for part in both.split([both.shape[1] - d, d], dim=1))
    layer.bias.data[:d], layer.bias.data[d : 2 * d] = 1.0, -1.0
