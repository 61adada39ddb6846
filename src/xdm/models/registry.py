"""The models by name. A model's file registers one class here; nothing else in the package knows its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from xdm.models.actions import ActionSDM, ActionSDMConfig
from xdm.models.bert4rec import BERT4Rec, BERT4RecConfig
from xdm.models.caser import Caser, CaserConfig
from xdm.models.cml import CML, CMLConfig
from xdm.models.comirec import ComiRec, ComiRecConfig, ComiRecDR, ComiRecDRConfig
from xdm.models.encoder import Encoder
from xdm.models.gru4rec import GRU4Rec, GRU4RecConfig
from xdm.models.hstu import HSTU, HSTUConfig
from xdm.models.ligr import LiGR, LiGRConfig
from xdm.models.lrml import LRML, LRMLConfig
from xdm.models.mind import MIND, MINDConfig
from xdm.models.sasrec import SASRec, SASRecConfig
from xdm.models.sdm import SDM, SDMConfig
from xdm.models.srgnn import SRGNN, SRGNNConfig
from xdm.models.tdm import TDM, TDMConfig
from xdm.models.transrec import TransRec, TransRecConfig
from xdm.schema import ConfigError, nearest

Retrieved = Literal["inner product", "scoring every pair", "beam search over a tree"]


@dataclass(frozen=True)
class ModelEntry:
    """An encoder and its settings."""

    encoder: type[Encoder]  # made of (config, sizes, codes)
    config: type[BaseModel]
    summary: str
    paper: str = ""  # authors, where and when it was published, arXiv number
    needs: tuple[str, ...] = ()  # of "user", "times", "sessions", "features", "exposures": beyond the clicked items in order
    retrieved: Retrieved = "inner product"  # how its items are found; a test holds it against the bundle's index


MODELS = {
    "sdm": ModelEntry(
        SDM, SDMConfig, "SDM (CIKM 2019): session by LSTM and attention, long-term lists, gate",
        paper="Lv et al., CIKM 2019, arXiv 1909.00385", needs=("sessions", "features"),
    ),
    "sdm_actions": ModelEntry(
        ActionSDM, ActionSDMConfig, "SDM over one sequence of clicks and skips with action embeddings",
        needs=("exposures", "features"),
    ),
    "gru4rec": ModelEntry(
        GRU4Rec, GRU4RecConfig, "GRU4Rec (ICLR 2016, CIKM 2018): the session through a GRU, in session-parallel steps",
        paper="Hidasi et al., ICLR 2016, arXiv 1511.06939; Hidasi and Karatzoglou, CIKM 2018, arXiv 1706.03847", needs=("sessions",),
    ),
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
        paper="Tay et al., WWW 2018, arXiv 1707.05176", needs=("user",), retrieved="scoring every pair",
    ),
    "tdm": ModelEntry(
        TDM, TDMConfig, "TDM (KDD 2018): a tree over the items, learned in turn with the network and searched level by level",
        paper="Zhu et al., KDD 2018, arXiv 1801.02294", retrieved="beam search over a tree",
    ),
}


def model_config(settings: Any) -> BaseModel:
    """The typed settings of one model from ``{"name": …, …}``."""
    name = settings.get("name", "sdm") if isinstance(settings, dict) else None
    if not isinstance(name, str) or name not in MODELS:
        raise ConfigError(
            f"model.name: there is no model {name!r}.{nearest(str(name), MODELS)} Models: {', '.join(MODELS)}"
        )
    return MODELS[name].config.model_validate(settings)
