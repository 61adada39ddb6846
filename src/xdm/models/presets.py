"""What `--model NAME` stands for: settings of the whole configuration, over its defaults."""

from __future__ import annotations

from typing import Any

from xdm.models.registry import MODELS
from xdm.schema import ConfigError, nearest

PRESETS: dict[str, dict[str, Any]] = {name: {"model": {"name": name}} for name in MODELS}
PRESET_SUMMARIES = {name: entry.summary for name, entry in MODELS.items()}

# SDM by its paper's offline setting and by the defaults of the authors' code; what neither states is the package's own.
_SDM_PAPER_MODEL = {
    "name": "sdm", "cell": "lstm", "layers": 2, "user_width": 64, "user_attention": "dot", "user_residual": False,
    "long_score": "dot", "init": "orthogonal",
}  # fmt: skip
_SDM_TRAINING = {"batch_size": 256, "learning_rate": 1e-3, "clip_norm": 5.0}
_SDM_CODE = {
    "model": {"name": "sdm", "cell": "gru_reset_before", "layers": 1, "residual_layers": 0, "user_width": 64},
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
# GRU4Rec by its authors' parameter files for RSC15 and, with BPR-max, Diginetica; gru4rec-rows trains as other encoders do.
_GRU4REC: dict[str, Any] = {
    "behaviours": {"session_max": 10_000}, "data": {"label_scope": "session"},
    "objective": {"sampler": "mixed", "negatives": 2048, "alpha": 0.5, "mask_hits": False, "logq": "support"},
    "training": {
        "order": "session_parallel", "optimizer": "adagrad_momentum", "batch_size": 32, "learning_rate": 0.2, "momentum": 0.2,
        "epochs": 10, "clip_norm": 1e6,
    },
}  # fmt: skip
PRESETS["gru4rec-rows"] = {**PRESETS["gru4rec"]}
PRESET_SUMMARIES["gru4rec-rows"] = "GRU4Rec trained as other encoders are: whole shuffled sessions, log-uniform negatives, Adam"
PRESETS["gru4rec"] |= _GRU4REC
PRESETS["gru4rec-bpr-max"] = {
    **PRESETS["gru4rec"], "model": {"name": "gru4rec", "width": 512, "input_dropout": 0.5, "hidden_dropout": 0.3},
    "objective": {
        "name": "bpr_max", "sampler": "mixed", "negatives": 2048, "alpha": 0.3, "mask_hits": False, "bpreg": 0.9, "elu": 1.0,
    },
    "training": {**_GRU4REC["training"], "batch_size": 128, "learning_rate": 0.05, "momentum": 0.15},
}  # fmt: skip
PRESET_SUMMARIES["gru4rec-bpr-max"] = "GRU4Rec with BPR-max, by the authors' settings for Diginetica"
PRESETS["caser"] |= {
    "item_vectors": {"features": False}, "behaviours": {"history_max": 50}, "data": {"n_targets": 3},
    "objective": {"name": "bce", "negatives": 1, "negatives_for": "label"},
    "training": {"order": "points", "batch_size": 512, "learning_rate": 1e-3, "weight_decay": 1e-6, "epochs": 50},
}
PRESETS["srgnn"] |= {
    "item_vectors": {"features": False}, "data": {"label_scope": "session"}, "objective": {"name": "softmax"},
    "training": {
        "order": "points", "batch_size": 100, "learning_rate": 1e-3, "weight_decay": 1e-5, "decay": 0.1, "decay_epochs": 3,
    },
}
for _name in ("ligr", "hstu", "bert4rec"):
    PRESETS[_name]["behaviours"] = {"history_max": 200}
PRESETS["bert4rec"]["objective"] = {"name": "softmax"}
for _name in ("comirec_dr", "mind"):
    PRESETS[_name] |= {"item_vectors": {"features": False}, "behaviours": {"history_max": 50}}
PRESETS["comirec_dr"]["training"] = {"learning_rate": 5e-3}
PRESETS["cml"] |= {  # with Adam: the authors' Adagrad at 0.1 goes with the sum over 50,000 pairs, and hardly moves on a mean
    "item_vectors": {"features": False},
    "objective": {"name": "warp", "ranking_margin": 1.9, "sampler": "uniform", "negatives": 20, "negatives_for": "label"},
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
        "training": {
            "learning_rate": 1e-3, "batch_size": 128, "epochs": epochs, "patience": patience,
            "monitor": "ndcg@10", "exclude_seen": True,  # their rankings hold no item that was clicked before
        },
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
