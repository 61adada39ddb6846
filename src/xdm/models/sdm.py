"""SDM: Sequential Deep Matching.

Paper: Lv et al., "SDM: Sequential Deep Matching Model for Online Large-scale Recommender System", CIKM 2019,
arXiv 1909.00385. Section numbers below are the paper's. Differences to the original: docs/models/sdm.md.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator
from torch import Tensor, nn

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry, Preset, Settings
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes, UserInputs
from xdm.models.shared.layers import RecurrentStack, SelfAttention, causal, linear, masked_softmax, to_width

UserAttentionKind = Literal["general", "concat", "dot", "none"]
FusionKind = Literal["gated", "feature_gated", "add", "multiply", "concat"]


class SDMConfig(BaseModel):
    """SDM's settings. Defaults: the paper's offline setting, with the embedding widths of the authors' code."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["sdm"] = "sdm"
    width: int = Field(64, ge=1, description="d: hidden units and size of the user and item vectors")
    heads: int = Field(4, ge=1, description="heads of the self-attention")
    cell: Literal["lstm", "gru", "gru_reset_before"] = Field(
        "lstm", description="recurrent cell; gru is torch's, gru_reset_before that of the authors' TensorFlow"
    )
    layers: int = Field(1, ge=1, le=8, description="recurrent layers")
    residual_layers: int | None = Field(
        None, ge=0, description="how many of the last recurrent layers add to their input; not set: all but the first"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="on recurrent inputs, attention weights and attention output")
    item_width: int = Field(64, ge=1, description="input width of the item id")
    feature_width: int = Field(16, ge=0, description="input width of each side feature of an item; 0 leaves them out")
    feature_widths: dict[str, NonNegativeInt] = Field({}, description="input widths of side features by name, {shop: 32} say")
    user_width: int = Field(
        0, ge=0, description="input width of the user id; 0 leaves it out: few users have the clicks to learn one from"
    )
    field_width: int = Field(4, ge=0, description="input width of each profile field; 0 leaves them out")
    field_widths: dict[str, NonNegativeInt] = Field({}, description="input widths of profile fields by name, {age: 8} say")
    user_attention: UserAttentionKind = Field(
        "general",
        description="general: tanh(W e_u)·ĥ / sqrt(d); concat: tanh(w·[e_u; ĥ]) / sqrt(d); dot: the paper's e_u·ĥ, "
        "through W where the widths differ; none: ĥ itself",
    )
    user_residual: bool = Field(True, description="add the last position to the user attention's result, as the code does")
    long_term: bool = Field(True, description="read the long-term lists")
    long_score: Literal["concat", "dot"] = Field(
        "concat", description="concat: the code's tanh(w·[e_u; g]) / sqrt(d_f); dot: the paper's e_u·g, through W where widths differ"
    )
    fusion: FusionKind = Field(
        "gated",
        description="of short term s and long term p: gated G⊙s + (1-G)⊙p; feature_gated the same with tanh(W[s; p]) for p "
        "and a G that does not see the user; add s + p; multiply s⊙p; concat W[s; p]",
    )
    tie_item_embedding: bool = Field(False, description="score items by their input vectors; needs item_width equal to width")
    init: Literal["code", "orthogonal"] = Field(
        "code", description="of dense layers: as the authors' code draws each, or all orthogonal, as the paper says"
    )

    @model_validator(mode="after")
    def _widths_and_layers_fit(self) -> SDMConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided by {self.heads} heads")
        if self.residual_layers is not None and self.residual_layers >= self.layers:
            raise ValueError(f"residual_layers {self.residual_layers} must be below layers {self.layers}: the first has none")
        if self.tie_item_embedding and self.item_width != self.width:
            raise ValueError(f"tie_item_embedding needs item_width {self.item_width} equal to width {self.width}")
        return self


class SDM(Encoder):
    """Short-term session through LSTM and self-attention, long-term lists through attention, joined by a gate."""

    def __init__(self, config: SDMConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`."""
        super().__init__()
        d = config.width
        self.width, self.interests = d, 1
        self.items = ItemInputs(sizes, config.item_width, config.feature_width, codes, config.feature_widths)
        reads_user = config.user_attention != "none" or config.long_term
        self.users = (
            UserInputs(sizes, config.user_width, config.field_width, config.field_widths) if reads_user else NoUserInputs()
        )
        residual = config.layers - 1 if config.residual_layers is None else config.residual_layers
        self.recurrent = RecurrentStack(config.cell, self.items.width, d, config.layers, config.dropout, residual)
        self.self_attention = SelfAttention(d, config.heads, config.dropout)
        self.user_attention = UserAttention(config, self.users.width)
        self.long_term = LongTerm(config, self.items, self.users.width) if config.long_term else None
        self.fusion = Fusion(config.fusion, d, self.users.width) if config.long_term else None
        if config.init == "orthogonal":
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.orthogonal_(layer.weight)

    def encode(self, batch: Batch) -> Tensor:
        """User vectors at every point: ``[P, 1, d]``."""
        user = self.users(batch)  # [B, d_u]
        short = self.short_term(self.items(batch.short), user)  # [B, T, d]
        at = short.reshape(-1, self.width)[batch.row * short.shape[1] + batch.position]  # [P, d]
        return self.fused(at, batch, user)

    def short_term(self, x: Tensor, user: Tensor) -> Tensor:
        """``s_t`` at every position (sections 3.3.1 to 3.3.3): ``[B, T, d]``; ``x`` ``[B, T, d_in]``, ``user`` ``[B, d_u]``."""
        hidden = self.recurrent(x)  # [B, T, d]
        # Padding stands on the right, so no place that is asked for ever sees it: causality is mask enough.
        visible = causal(hidden.shape[1], hidden.device).expand(hidden.shape[0], -1, -1)  # [B, T, T]
        attended = self.self_attention(hidden, visible)  # [B, T, d]
        return self.user_attention(attended, user, visible)  # [B, T, d]

    def fused(self, at: Tensor, batch: Batch, user: Tensor) -> Tensor:
        """The short-term state ``at`` ``[P, d]`` of every point with the long term: ``[P, 1, d]``."""
        if self.long_term is None or self.fusion is None:
            return at[:, None]
        long = self.long_term(batch.long, self.items, user)[batch.row]  # [P, d]
        return self.fusion(at, long, user[batch.row])[:, None]


class UserAttention(nn.Module):
    """``s_t`` (section 3.3.3): the user's own weights over the places up to t."""

    def __init__(self, config: SDMConfig, width_user: int) -> None:
        super().__init__()
        self.kind, self.residual, d = config.user_attention, config.user_residual, config.width
        self.dropout = nn.Dropout(config.dropout)
        if self.kind in ("general", "dot"):
            self.query = to_width(width_user, d) if self.kind == "dot" else linear(width_user, d)
        elif self.kind == "concat":
            self.score = linear(width_user + d, 1)

    def forward(self, attended: Tensor, user: Tensor, visible: Tensor) -> Tensor:
        """``[B, T, d]`` from ``attended`` ``[B, T, d]``, ``user`` ``[B, d_u]`` and ``visible`` bool ``[B, T, T]``."""
        if self.kind == "none":
            return attended
        scores = self._scores(attended, user)  # [B, T]
        weights = self.dropout(masked_softmax(scores[:, None].expand_as(visible), visible))  # [B, T, T]
        mixed = weights @ attended  # [B, T, d]
        return mixed + attended if self.residual else mixed

    def _scores(self, attended: Tensor, user: Tensor) -> Tensor:
        scale = attended.shape[-1] ** -0.5
        if self.kind == "concat":
            both = torch.cat([user[:, None].expand(-1, attended.shape[1], -1), attended], dim=-1)  # [B, T, d_u + d]
            return torch.tanh(self.score(both)).squeeze(-1) * scale
        query = self.query(user)[:, :, None]  # [B, d, 1]
        if self.kind == "dot":
            return (attended @ query).squeeze(-1)
        return (attended @ torch.tanh(query)).squeeze(-1) * scale


class LongTerm(nn.Module):
    """``p`` (section 3.4): each feature's list through attention, then one dense layer over all of them."""

    def __init__(self, config: SDMConfig, items: ItemInputs, width_user: int) -> None:
        super().__init__()
        self.kind = config.long_score
        if self.kind == "concat":
            self.scores = nn.ModuleList(linear(width_user + width, 1) for width in items.widths)
            for score in self.scores:
                assert isinstance(score, nn.Linear)
                nn.init.uniform_(score.weight, -0.1, 0.1)  # inherited from its scope in the authors' code
        else:
            self.scores = nn.ModuleList(to_width(width_user, width) for width in items.widths)
        self.dropout = nn.Dropout(config.dropout)
        self.out = linear(items.width, config.width, orthogonal=True)

    def forward(self, long: Tensor, items: ItemInputs, user: Tensor) -> Tensor:
        """``[B, d]`` from the lists ``long`` ``[B, F, M]`` and ``user`` ``[B, d_u]``. An empty list counts as zeros."""
        parts = []
        for place, score in enumerate(self.scores):
            codes = long[:, items.features[place]]  # [B, M]
            g = items.of_table(place, codes)  # [B, M, w_f]
            if self.kind == "dot":
                scores = (g @ score(user)[:, :, None]).squeeze(-1)  # [B, M]
            else:
                who = user[:, None].expand(-1, g.shape[1], -1)  # [B, M, d_u]
                scores = torch.tanh(score(torch.cat([who, g], dim=-1))).squeeze(-1) * g.shape[-1] ** -0.5  # [B, M]
            weights = self.dropout(masked_softmax(scores, codes != 0))
            parts.append((weights[:, None] @ g).squeeze(1))  # [B, w_f]
        return torch.tanh(self.out(torch.cat(parts, dim=-1)))  # [B, d]


class Fusion(nn.Module):
    """``o_t`` (section 3.5) from the short term and the long term. A gate lets the short term through."""

    def __init__(self, kind: FusionKind, width: int, width_user: int) -> None:
        super().__init__()
        self.kind = kind
        reads = {"gated": 2 * width + width_user, "feature_gated": 2 * width}.get(kind)
        self.gate = linear(reads, width) if reads else None
        self.both = linear(2 * width, width) if kind in ("feature_gated", "concat") else None

    def forward(self, short: Tensor, long: Tensor, user: Tensor) -> Tensor:
        """``[P, d]`` from ``short`` ``[P, d]``, ``long`` ``[P, d]`` and ``user`` ``[P, d_u]``."""
        if self.kind == "add":
            return short + long
        if self.kind == "multiply":
            return short * long
        both = torch.cat([short, long], dim=-1)  # [P, 2 d]
        other = long if self.both is None else self.both(both)  # [P, d]
        if self.gate is None:
            return other
        if self.both is not None:
            other = torch.tanh(other)
        seen = both if self.kind == "feature_gated" else torch.cat([both, user], dim=-1)
        gate = torch.sigmoid(self.gate(seen))  # [P, d]
        return gate * short + (1 - gate) * other


# SDM by its paper's offline setting and by the defaults of the authors' code; what neither states is the package's own.
_TRAINING: Settings = {"batch_size": 256, "learning_rate": 1e-3, "clip_norm": 5.0}
_CODE: Settings = {
    "model": {"name": "sdm", "cell": "gru_reset_before", "layers": 1, "residual_layers": 0, "user_width": 64},
    "data": {"label_scope": "session", "n_targets": 5},
    **IDS_ALONE, "objective": {"negatives": 2000, "split": 1},
    "training": {**_TRAINING, "optimizer": "adagrad", "epochs": 10},
}  # fmt: skip


def _paper(n_targets: int = 1, **model: Any) -> Settings:
    plain = {
        "name": "sdm", "cell": "lstm", "layers": 2, "user_width": 64, "user_attention": "dot", "user_residual": False,
        "long_score": "dot", "init": "orthogonal",
    }  # fmt: skip
    return {
        "model": {**plain, **model}, "data": {"label_scope": "session", "n_targets": n_targets},
        **IDS_ALONE, "training": {**_TRAINING, "optimizer": "adam"},
    }  # fmt: skip


ENTRIES = {
    "sdm": ModelEntry(
        SDM, SDMConfig, "SDM (CIKM 2019): session by LSTM and attention, long-term lists, gate",
        paper="Lv et al., CIKM 2019, arXiv 1909.00385", needs=("sessions", "features"),
        presets={
            "sdm-paper": Preset("SDM by its paper (PSDMMAL): two residual LSTM layers, inner products, Adam 1e-3", _paper()),
            "sdm-code": Preset("SDM by the authors' code: one GRU layer, the next 5 clicks, Adagrad 1e-3", _CODE),
            "sdmma": Preset(
                "SDM's ablation: recurrent layers and self-attention alone", _paper(user_attention="none", long_term=False)
            ),
            "psdmma": Preset("SDM's ablation: with user attention, without the long term", _paper(long_term=False)),
            "psdmmal-n": Preset("SDM by its paper with the next 5 clicks for targets", _paper(n_targets=5)),
            "psdmmal-nos": Preset(
                "SDM by its paper without side information: ids alone", _paper(feature_width=0, field_width=0)
            ),
        },
    ),
}  # fmt: skip
