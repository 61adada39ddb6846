"""The models by name. A model's file registers one class here; nothing else in the package knows its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from xdm.behaviours.points import FeatureTable
from xdm.data.batches import Batch
from xdm.data.catalogue import Catalogue
from xdm.models.actions import ActionSDM, ActionSDMConfig
from xdm.models.bert4rec import BERT4Rec, BERT4RecConfig
from xdm.models.caser import Caser, CaserConfig
from xdm.models.cml import CML, CMLConfig
from xdm.models.comirec import ComiRec, ComiRecConfig, ComiRecDR, ComiRecDRConfig
from xdm.models.encoder import Encoder
from xdm.models.gru4rec import GRU4Rec, GRU4RecConfig
from xdm.models.hstu import HSTU, HSTUConfig
from xdm.models.inputs import Sizes
from xdm.models.ligr import LiGR, LiGRConfig
from xdm.models.lrml import LRML, LRMLConfig
from xdm.models.mind import MIND, MINDConfig
from xdm.models.sasrec import SASRec, SASRecConfig
from xdm.models.scoring import PairScoring, Scoring
from xdm.models.sdm import SDM, SDMConfig
from xdm.models.srgnn import SRGNN, SRGNNConfig
from xdm.models.tdm import TDM, TDMConfig
from xdm.models.transrec import TransRec, TransRecConfig
from xdm.models.unclicked import Queries, UnclickedConfig, UnclickedExtension
from xdm.schema import ConfigError, nearest


@dataclass(frozen=True)
class ModelEntry:
    """An encoder and its settings."""

    encoder: type[Encoder]  # made of (config, sizes, codes)
    config: type[BaseModel]
    summary: str
    paper: str = ""  # authors, where and when it was published, arXiv number
    needs: tuple[str, ...] = ()  # of "user", "times", "sessions", "features", "exposures": beyond the clicked items in order


MODELS = {
    "sdm": ModelEntry(SDM, SDMConfig, "SDM (CIKM 2019): session by LSTM and attention, long-term lists, gate"),
    "sdm_actions": ModelEntry(
        ActionSDM, ActionSDMConfig, "SDM over one sequence of clicks and skips with action embeddings"
    ),
    "gru4rec": ModelEntry(GRU4Rec, GRU4RecConfig, "GRU4Rec (ICLR 2016): the session through a GRU"),
    "sasrec": ModelEntry(
        SASRec, SASRecConfig, "SASRec (ICDM 2018): the clicks through causal self-attention blocks",
        paper="Kang and McAuley, ICDM 2018, arXiv 1808.09781",
    ),
    "ligr": ModelEntry(
        LiGR, LiGRConfig, "LiGR (2025): causal self-attention in gated blocks, the network of eSASRec",
        paper="Borisyuk et al., 2025, arXiv 2502.03417; Tikhonovich et al., RecSys 2025, arXiv 2508.06450",
    ),
    "hstu": ModelEntry(
        HSTU, HSTUConfig, "HSTU (ICML 2024): gated attention without a softmax, by places and times",
        paper="Zhai et al., ICML 2024, arXiv 2402.17152", needs=("times",),
    ),
    "bert4rec": ModelEntry(
        BERT4Rec, BERT4RecConfig, "BERT4Rec (CIKM 2019): clicks and a mask behind them, through bidirectional self-attention",
        paper="Sun et al., CIKM 2019, arXiv 1904.06690",
    ),
    "caser": ModelEntry(
        Caser, CaserConfig, "Caser (WSDM 2018): convolutions over the last five clicks, beside a vector of the user",
        paper="Tang and Wang, WSDM 2018, arXiv 1809.07426", needs=("user",),
    ),
    "srgnn": ModelEntry(
        SRGNN, SRGNNConfig, "SR-GNN (AAAI 2019): the session as a graph of its items, through a gated graph network",
        paper="Wu et al., AAAI 2019, arXiv 1811.00855", needs=("sessions",),
    ),
    "comirec": ModelEntry(
        ComiRec, ComiRecConfig, "ComiRec-SA (KDD 2020): several interests, each its own pooling of the clicks",
        paper="Cen et al., KDD 2020, arXiv 2005.09347",
    ),
    "comirec_dr": ModelEntry(
        ComiRecDR, ComiRecDRConfig, "ComiRec-DR (KDD 2020): several interests, capsules that the clicks are routed to",
        paper="Cen et al., KDD 2020, arXiv 2005.09347",
    ),
    "mind": ModelEntry(
        MIND, MINDConfig, "MIND (CIKM 2019): capsules under one map, as many as there are clicks for, joined with the profile",
        paper="Li et al., CIKM 2019, arXiv 1904.08030",
    ),
    "cml": ModelEntry(
        CML, CMLConfig, "CML (WWW 2017): users and items as points of one space, no order of clicks",
        paper="Hsieh et al., WWW 2017, doi 10.1145/3038912.3052639", needs=("user",),
    ),
    "transrec": ModelEntry(
        TransRec, TransRecConfig, "TransRec (RecSys 2017): a user is a translation from the last item to the next",
        paper="He et al., RecSys 2017, arXiv 1707.02410", needs=("user",),
    ),
    "lrml": ModelEntry(
        LRML, LRMLConfig, "LRML (WWW 2018): a relation of each user and item from a memory; scored pair by pair",
        paper="Tay et al., WWW 2018, arXiv 1707.05176", needs=("user",),
    ),
    "tdm": ModelEntry(
        TDM, TDMConfig, "TDM (KDD 2018): a tree over the items, learned in turn with the network and searched level by level",
        paper="Zhu et al., KDD 2018, arXiv 1801.02294",
    ),
}

# What `--model NAME` stands for: settings of the whole configuration, over its defaults.
PRESETS: dict[str, dict[str, Any]] = {name: {"model": {"name": name}} for name in MODELS}
PRESET_SUMMARIES = {name: entry.summary for name, entry in MODELS.items()}

# SDM by its paper's offline setting and by the defaults of the authors' code; what neither states is the package's own.
_SDM_PAPER_MODEL = {
    "name": "sdm", "cell": "lstm", "layers": 2, "user_width": 64, "user_attention": "dot", "user_residual": False,
    "long_score": "dot", "init": "orthogonal",
}  # fmt: skip
_SDM_TRAINING = {"batch_size": 256, "learning_rate": 1e-3, "clip_norm": 5.0}
_SDM_CODE = {
    "model": {"name": "sdm", "cell": "gru", "layers": 1, "residual_layers": 0, "user_width": 64},
    "data": {"label_scope": "session", "n_targets": 5},
    "item_vectors": {"features": False}, "objective": {"negatives": 2000, "split": 1},
    "training": {**_SDM_TRAINING, "optimizer": "adagrad", "epochs": 10},
}


def _sdm_paper(n_targets: int = 1, **model: Any) -> dict[str, Any]:
    return {
        "model": {**_SDM_PAPER_MODEL, **model}, "data": {"label_scope": "session", "n_targets": n_targets},
        "item_vectors": {"features": False}, "training": {**_SDM_TRAINING, "optimizer": "adam"},
    }  # fmt: skip


for _name, (_settings, _summary) in {
    "sdm-paper": (_sdm_paper(), "SDM by its paper (PSDMMAL): two residual LSTM layers, inner products, Adam 1e-3"),
    "sdm-code": (_SDM_CODE, "SDM by the authors' code: one GRU layer, the next 5 clicks, Adagrad 1e-3"),
    "sdmma": (
        _sdm_paper(user_attention="none", long_term=False),
        "SDM's ablation: recurrent layers and self-attention alone",
    ),
    "psdmma": (_sdm_paper(long_term=False), "SDM's ablation: with user attention, without the long term"),
    "psdmmal-n": (_sdm_paper(n_targets=5), "SDM by its paper with the next 5 clicks for targets"),
    "psdmmal-nos": (_sdm_paper(feature_width=0, field_width=0), "SDM by its paper without side information: ids alone"),
}.items():
    PRESETS[_name], PRESET_SUMMARIES[_name] = _settings, _summary


def _xdm(summary: str, **settings: dict[str, Any]) -> tuple[dict[str, Any], str]:
    return {"model": {"name": "sdm"}, "unclicked": {"enabled": True}, **settings}, summary


PRESETS["sdm_actions"]["behaviours"] = {"stream_max": 50}
for _name in ("gru4rec", "sasrec", "ligr", "hstu", "bert4rec", "comirec"):
    PRESETS[_name]["item_vectors"] = {"features": False}  # as their papers have it
PRESETS["caser"] |= {
    "item_vectors": {"features": False}, "behaviours": {"history_max": 50}, "data": {"n_targets": 3},
    "objective": {"name": "bce", "negatives": 1, "negatives_for": "label"},
    # The authors' 512 windows are the clicks of some 10 rows.
    "training": {"learning_rate": 1e-3, "batch_size": 10, "weight_decay": 1e-6, "epochs": 50},
}
PRESETS["srgnn"] |= {
    "item_vectors": {"features": False}, "data": {"label_scope": "session"}, "objective": {"name": "softmax"},
    # The authors' 100 rows are the prefixes of some 25 sessions.
    "training": {"learning_rate": 1e-3, "batch_size": 25, "weight_decay": 1e-5, "decay": 0.1, "decay_epochs": 3},
}
for _name in ("ligr", "hstu", "bert4rec"):
    PRESETS[_name]["behaviours"] = {"history_max": 200}
PRESETS["bert4rec"]["objective"] = {"name": "softmax"}
for _name in ("comirec_dr", "mind"):
    PRESETS[_name] |= {"item_vectors": {"features": False}, "behaviours": {"history_max": 50}}
PRESETS["comirec_dr"]["training"] = {"learning_rate": 5e-3}
PRESETS["cml"] |= {
    "item_vectors": {"features": False},
    "objective": {"name": "warp", "ranking_margin": 1.9, "sampler": "uniform", "negatives": 20, "negatives_for": "label"},
    "training": {"optimizer": "adagrad", "learning_rate": 0.1},
}
PRESETS["transrec"] |= {
    "item_vectors": {"features": False},
    "objective": {"name": "bpr", "sampler": "uniform", "negatives": 1, "negatives_for": "label"},
}
PRESETS["lrml"] |= {  # the objective is that of model.negative_relation own; the authors' is the model's
    "item_vectors": {"features": False},
    "objective": {"name": "hinge", "ranking_margin": 0.2, "sampler": "uniform", "negatives": 1, "negatives_for": "label"},
}
# 69 clicks are those of TDM's time windows; its authors take some 60 labels a step, a row of 69 clicks alone.
PRESETS["tdm"] |= {
    "item_vectors": {"features": False}, "behaviours": {"history_max": 69}, "training": {"batch_size": 16},
}  # fmt: skip
PRESETS["tdm-attention"] = {**PRESETS["tdm"], "model": {"name": "tdm", "variant": "attention"}}
PRESET_SUMMARIES["tdm-attention"] = "TDM with attention: behaviours weighed by each node; hundreds of times the work"


def _last_200(model: dict[str, Any], epochs: int, patience: int, **objective: Any) -> dict[str, Any]:
    """A transformer as its authors train it on ML-1M: the user's last 200 clicks, Adam 1e-3, 128 rows a step."""
    return {
        "model": model, "item_vectors": {"features": False}, "behaviours": {"history_max": 200}, "objective": objective,
        "training": {"learning_rate": 1e-3, "batch_size": 128, "epochs": epochs, "patience": patience, "monitor": "ndcg@10"},
    }  # fmt: skip


_OWN_NEGATIVES = {"sampler": "uniform", "negatives_for": "label"}
_SASREC = {"name": "sasrec", "length": 200, "norm": "original"}
_HSTU = {"name": "hstu", "time_bias": "request"}
_HSTU_LARGE = {**_HSTU, "blocks": 8, "heads": 2, "key_width": 25, "value_width": 25}
for _name, (_settings, _summary) in {
    "sasrec-bce": (
        _last_200({**_SASREC, "dropout": 0.2, "positions": "from_end"}, 201, 20, name="bce", negatives=1, **_OWN_NEGATIVES),
        "SASRec by its authors' code: binary cross-entropy with one negative",
    ),
    "gsasrec": (
        _last_200(
            {**_SASREC, "width": 128, "positions": "from_end", "scale_inputs": False, "norm_eps": 1e-5, "tie_item_embedding": False},
            1000, 20, name="gbce", negatives=256, t=0.75, mask_hits=False, **_OWN_NEGATIVES,
        ),
        "gSASRec (RecSys 2023): SASRec with 256 negatives and a calibrated binary cross-entropy",
    ),
    "sasrec-softmax": (
        _last_200({**_SASREC, "width": 64, "dropout": 0.1, "attention_output": True}, 100, 10, name="softmax"),
        "SASRec with the full softmax (RecSys 2023, arXiv 2309.07602)",
    ),
    "ligr-esasrec": (
        _last_200(
            {"name": "ligr", "positions": "from_end"}, 200, 50,
            name="sampled_softmax", negatives=256, logq="none", mask_hits=False, **_OWN_NEGATIVES,
        ),
        "eSASRec (RecSys 2025): LiGR blocks and a softmax over 256 negatives",
    ),
    "hstu-paper": (
        _last_200(_HSTU, 101, 101, name="sampled_softmax", negatives=128, logq="none", **_OWN_NEGATIVES),
        "HSTU by its authors' code: told the time of the question, which in training is the label's",
    ),
    "hstu-large": (
        _last_200(_HSTU_LARGE, 101, 101, name="sampled_softmax", negatives=128, logq="none", **_OWN_NEGATIVES),
        "HSTU-large by its authors' code: eight blocks of two heads",
    ),
}.items():
    PRESETS[_name], PRESET_SUMMARIES[_name] = _settings, _summary

# XDM and the variants of its paper, by the paper's names; then the controls that stand in every table of results.
for _name, (_settings, _summary) in {
    "xdm": _xdm("XDM (DASFAA 2022): SDM with the unclicked sequence, symmetric triplet and confidence fusion"),
    "xdm-no-sym": _xdm("XDM w/o sym: the ordinary triplet, with the label as its only anchor", objective={"metric": "asymmetric"}),
    "xdm-no-metric": _xdm("XDM w/o metric: the fusion without a metric loss", objective={"metric": "none"}),
    "xdm-unclk-lab": _xdm("XDM (unclk&lab): the pair loss that pushes n from the label", objective={"metric": "unclicked_label"}),
    "xdm-lab-clk": _xdm("XDM (lab&clk): the pair loss that pulls h to the label", objective={"metric": "label_clicked"}),
    "xdm-unclk-clk": _xdm("XDM (unclk&clk): the pair loss that pushes n from h", objective={"metric": "unclicked_clicked"}),
    "xdm-shuffled": _xdm(
        "control: XDM with another user's unclicked sequences", data={"unclicked_source": "shuffled"}
    ),
    "xdm-random": _xdm("control: XDM with random items for unclicked ones", data={"unclicked_source": "random"}),
    "xdm-shown": _xdm("control: XDM told what was shown, clicked or not", behaviours={"keep_clicked": True}),
    "xdm-live": _xdm("control: XDM told what is clicked by anyone now", data={"unclicked_source": "live"}),
    "sdm-ntr": (
        {"model": {"name": "sdm"}, "objective": {"not_to_recommend": 0.1}},
        "SDM with the not-to-recommend loss (RecSys 2023) over unclicked items",
    ),
}.items():
    PRESETS[_name], PRESET_SUMMARIES[_name] = _settings, _summary


def preset(name: str) -> dict[str, Any]:
    """The settings that ``--model name`` stands for."""
    if name not in PRESETS:
        raise ConfigError(f"there is no model '{name}'.{nearest(name, PRESETS)} Models: {', '.join(PRESETS)}")
    return PRESETS[name]


def model_config(settings: Any) -> BaseModel:
    """The typed settings of one model from ``{"name": …, …}``."""
    name = settings.get("name", "sdm") if isinstance(settings, dict) else None
    if not isinstance(name, str) or name not in MODELS:
        raise ConfigError(
            f"model.name: there is no model {name!r}.{nearest(str(name), MODELS)} Models: {', '.join(MODELS)}"
        )
    return MODELS[name].config.model_validate(settings)


class RetrievalModel(nn.Module):
    """An encoder, the unclicked extension where it is enabled, and the item vectors that are scored."""

    def __init__(
        self, model: BaseModel, unclicked: UnclickedConfig, sizes: Sizes, codes: np.ndarray, item_features: bool = False
    ) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`; ``item_features``: item vectors are sums with their features'."""
        super().__init__()
        self.sizes = sizes
        self.encoder: Encoder = MODELS[model.name].encoder(model, sizes, codes)  # type: ignore[attr-defined, call-arg]
        if unclicked.enabled and unclicked.user_query and not self.encoder.users.width:
            raise ConfigError(
                "unclicked.user_query: this encoder reads nothing of the user that a query could be made of"
            )
        # V of the papers: one row a candidate; row 0 is the padding row of index 0. See `scored`.
        if not model.tie_item_embedding:  # type: ignore[attr-defined]
            self.output = scored_table(sizes.n_candidates, self.encoder.width)
            self.encoder.draw_scored(self.output)
        features = sizes.features.values() if item_features else ()
        self.output_features = nn.ModuleList(scored_table(n, self.encoder.width) for n in features)
        if self.scoring.bias:
            self.output_bias = nn.Embedding(sizes.n_candidates + 1, 1, padding_idx=0)
            nn.init.zeros_(self.output_bias.weight)
        self.unclicked = UnclickedExtension(unclicked, self.encoder) if unclicked.enabled else None

    def forward(self, batch: Batch, h: Tensor | None = None) -> Queries:
        """Queries at every point of ``batch`` (tensors); ``h`` ``[P, K, d]`` are the encoder's, where it was asked already."""
        h = self.encoder.encode(batch) if h is None else h  # [P, K, d]
        if self.unclicked is not None:
            return self.unclicked(h, self.encoder, batch, self.vectors)
        return Queries(self.scoring.queries(h), h, h)

    @property
    def scoring(self) -> Scoring:
        """How queries and item vectors make scores."""
        return self.encoder.scoring

    def score(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """``[P, S]``: the scores of ``queries`` ``[P, K, d']`` with ``vectors`` ``[S, d']``, the same for all points, or
        ``[P, S, d']``, each point's own; of K interests the best."""
        if isinstance(self.scoring, PairScoring):
            return self.scoring.scores(queries, vectors)
        if vectors.dim() == 3 and queries.shape[1] == 1:  # a product of vectors: faster than one of matrices of one row
            return (queries * vectors).sum(-1)
        scores = queries @ (vectors.T if vectors.dim() == 2 else vectors.transpose(1, 2))  # [P, K, S]
        return scores[:, 0] if queries.shape[1] == 1 else scores.amax(dim=1)

    @property
    def item_table(self) -> nn.Embedding:
        """The table of item vectors, of at least ``n_candidates + 1`` rows: the input table of items where the two are tied."""
        table = self.output if hasattr(self, "output") else self.encoder.items.tables[0]
        assert isinstance(table, nn.Embedding)
        return table

    def vectors(self, items: Tensor) -> Tensor:
        """Item vectors of ``items`` (any shape): ``[..., d]``; of what cannot be recommended, zeros."""
        items = torch.where(items <= self.sizes.n_candidates, items, 0)
        vectors = self.item_table(items)
        for table, codes in zip(self.output_features, self.encoder.items.codes[1:], strict=False):
            vectors = vectors + table(codes[items])
        return vectors

    def scored(self, items: Tensor) -> Tensor:
        """Item vectors of ``items`` (any shape) as they are scored: ``[..., d']``."""
        bias = None
        if self.scoring.bias:
            bias = self.output_bias(torch.where(items <= self.sizes.n_candidates, items, 0)).squeeze(-1)
        return self.scoring.items(self.vectors(items), bias)

    def item_vectors(self) -> Tensor:
        """All that can be recommended, as it is scored: ``[n_candidates, d']``; row i belongs to index i + 1."""
        rows = slice(1, self.sizes.n_candidates + 1)
        vectors = self.item_table.weight[rows]
        for table, codes in zip(self.output_features, self.encoder.items.codes[1:], strict=False):
            vectors = vectors + table(codes[rows])
        return self.scoring.items(vectors, self.output_bias.weight[rows, 0] if self.scoring.bias else None)


def scored_table(rows: int, width: int) -> nn.Embedding:
    """A table whose rows are scored, or sums of which are; uniform in ±0.1 as in SDM's code, zeros for padding."""
    table = nn.Embedding(rows + 1, width, padding_idx=0)
    nn.init.uniform_(table.weight, -0.1, 0.1)
    with torch.no_grad():
        table.weight[0] = 0
    return table


def sizes_of(catalogue: Catalogue) -> Sizes:
    """The sizes of a catalogue."""
    return Sizes(
        catalogue.n_items, catalogue.n_candidates, catalogue.n_users,
        {name: feature.size for name, feature in catalogue.items.features.items()},
        {name: feature.size for name, feature in catalogue.users.features.items()},
    )  # fmt: skip


def build_model(
    model: BaseModel, unclicked: UnclickedConfig, catalogue: Catalogue, seed: int, item_features: bool = False
) -> RetrievalModel:
    """A model with fresh weights. The extension's are drawn last, so that XDM starts from the very SDM of the same seed."""
    torch.manual_seed(seed)
    codes = FeatureTable.of(catalogue.n_items, catalogue.items.features).codes
    return RetrievalModel(model, unclicked, sizes_of(catalogue), codes, item_features)
