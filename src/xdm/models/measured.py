"""What each model has reached here: figures that were measured with this package, none from a paper.

Commands, settings, seeds and intervals stand on the page that is named. Figures of different logs or protocols cannot be compared.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """One figure: ``value`` of ``metric`` on ``log``, told in full on the page ``page`` of the repository."""

    log: str
    metric: str
    value: float
    page: str = "experiments/RESULTS.md"

    def __str__(self) -> str:
        return f"{self.metric} {self.value:.4f} on {self.log}"


SIMULATED = "a simulated log, 30,000 users"
NEWS = "EB-NeRD demo, rolling"
VIDEOS = "KuaiRand-Pure"
VIDEOS_SOON = "KuaiRand-Pure, 30 CPU seconds of training"
FILMS = "ML-1M, last click, 3,416 items"
FEW_FILMS = "ML-100K, last click but one"
SHOP = "Diginetica, latest {} sessions"


def _soon(recall: float) -> Measured:
    return Measured(VIDEOS_SOON, "recall@50", recall, "docs/models.md")


MEASURED: dict[str, tuple[Measured, ...]] = {
    "sdm": (
        Measured(SIMULATED, "recall@50", 0.7442),
        Measured(NEWS, "hr@50", 0.3607),
        Measured(VIDEOS, "recall@50", 0.1922),
    ),
    "xdm": (
        Measured(SIMULATED, "recall@50", 0.8540),
        Measured(NEWS, "hr@50", 0.3716),
        Measured(VIDEOS, "recall@50", 0.1944),
    ),
    "sdm_actions": (Measured(NEWS, "hr@50", 0.3932), Measured(VIDEOS, "recall@50", 0.1912)),
    "gru4rec": (Measured(f"{SHOP.format('20,000')}, 192 units", "recall@20", 0.4363, "docs/models/gru4rec.md"),),
    "srgnn": (Measured("Diginetica, all sessions", "recall@20", 0.5082, "docs/models/srgnn.md"),),
    "sasrec": (
        Measured(f"{FILMS}, full softmax", "ndcg@10", 0.1737, "docs/models/sasrec.md"),
        Measured(f"{FILMS}, 300 CPU seconds of training", "ndcg@10", 0.1456, "docs/speed.md"),
    ),
    "caser": (Measured("ML-1M, last fifth, five epochs", "map", 0.1599, "docs/models/caser.md"),),
    "cml": (Measured(FILMS, "ndcg@10", 0.0447, "docs/models/cml.md"),),
    "lrml": (
        _soon(0.1443),
        Measured(f"{FILMS}, 5 negatives, margin 0.5", "ndcg@10", 0.0217, "docs/models/lrml.md"),
        Measured(f"{FILMS}, 5 negatives, margin 0.5, negative_relation=own", "ndcg@10", 0.0381, "docs/models/lrml.md"),
    ),
    "transrec": (Measured(FILMS, "ndcg@10", 0.0626, "docs/models/transrec.md"),),
    "tdm": (
        Measured("ML-1M, last click but one", "recall@50", 0.3710, "docs/models/tdm.md"),
        Measured("ML-1M, last click but one, tree_epochs=0", "recall@50", 0.3960, "docs/models/tdm.md"),
    ),
    "comirec": (Measured(FEW_FILMS, "recall@50", 0.2210, "docs/models/comirec.md"),),
    "comirec_dr": (Measured(FEW_FILMS, "recall@50", 0.2340, "docs/models/comirec.md"),),
    "mind": (_soon(0.1907), Measured(FEW_FILMS, "recall@50", 0.2400, "docs/models/comirec.md")),
    "itemknn": (
        Measured(FILMS, "ndcg@10", 0.0355, "docs/models/itemknn.md"),
        Measured(f"{FILMS}, half_life=1", "ndcg@10", 0.0919, "docs/models/itemknn.md"),
    ),
    "ease": (Measured(FILMS, "ndcg@10", 0.0544, "docs/models/ease.md"),),
    "binn": (_soon(0.1826),),
    "youtubednn": (_soon(0.1806),),
    "ligr": (_soon(0.1770),),
    "gcsan": (_soon(0.1762),),
    "hgn": (_soon(0.1754),),
    "hstu": (_soon(0.1740),),
    "slirec": (_soon(0.1726),),
    "mdr": (_soon(0.1717),),
    "m3c": (_soon(0.1683),),
    "m3": (_soon(0.1662),),
    "bert4rec": (
        _soon(0.1654),
        Measured(f"{FILMS}, last_share=0.2, length_groups=4", "ndcg@10", 0.1555, "docs/models/bert4rec.md"),
    ),
    "shan": (_soon(0.1649),),
    "stamp": (_soon(0.1625),),
    "triplet": (_soon(0.1625),),
    "hiertcn": (_soon(0.1616),),
    "narm": (_soon(0.1548),),
    "masr": (_soon(0.1519),),
    "metas": (_soon(0.1508),),
    "prme": (_soon(0.1245),),
    "rrn": (_soon(0.1188),),
    "mrmn": (_soon(0.0999),),
    "hrnn": (_soon(0.0884),),
}
