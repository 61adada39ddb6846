"""Triplet network: one embedding network, three copies of it, for what was clicked lately, what is clicked next and what is not.

Papers: Hoffer and Ailon, "Deep Metric Learning Using Triplet Network", SIMBAD 2015, arXiv 1412.6622 (the network, the loss of
ratios); Schroff, Kalenichenko and Philbin, "FaceNet", CVPR 2015, arXiv 1503.03832 (hinge, semi-hard negatives). Both embed images;
that clicks are embedded is ours: docs/models/triplet.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from xdm.data.batches import Batch
from xdm.models.encoder import Encoder
from xdm.models.entry import IDS_ALONE, ModelEntry, Preset
from xdm.models.shared.inputs import ItemInputs, NoUserInputs, Sizes
from xdm.models.shared.layers import linear
from xdm.models.shared.prefixes import prefixes
from xdm.models.shared.scoring import SquaredDistance
from xdm.models.shared.users import draw
from xdm.objectives.triplet import l2, squared

if TYPE_CHECKING:
    from xdm.models.retrieval_model import RetrievalModel


class TripletConfig(BaseModel):
    """The triplet network's settings. Defaults: Hoffer and Ailon's loss; sizes are ours, theirs are an image's."""

    model_config = ConfigDict(extra="forbid")
    tie_item_embedding: ClassVar[bool] = True  # the copies share all weights

    name: Literal["triplet"] = "triplet"
    width: int = Field(64, ge=1, description="d: of the vectors that enter the network and of those that leave it")
    hidden: int = Field(128, ge=1, description="width of the network's hidden layer")
    window: int = Field(10, ge=1, description="how many of the last clicks make the anchor: the mean of what enters")
    unit: bool = Field(False, description="what leaves the network is cut or stretched to length 1, as FaceNet's")
    loss: Literal["ratio", "hinge", "soft_margin"] = Field(
        "ratio", description="ratio: Hoffer and Ailon's; hinge: FaceNet's, of squared distances; soft_margin: log(1 + exp(D+ - D-))"
    )
    margin: float = Field(0.2, ge=0, description="of loss hinge: by how much a negative is to be farther, squared")
    swap: bool = Field(False, description="a negative is as near as it is to anchor or positive, whichever is nearer")
    negatives: int = Field(10, ge=1, description="of each label")
    negative: Literal["drawn", "unclicked"] = Field(
        "drawn", description="what a negative is: any item, or one that was shown and left, where there is one"
    )
    mining: Literal["all", "semi_hard"] = Field(
        "all",
        description="the mean over negatives, or of each label one: the nearest that is farther than the label, else the farthest",
    )


class Triplet(Encoder):
    """``f(e) = W₂ relu(W₁ e)``, an item's vector ``f(e_i)``, the query f of the mean of the last clicks' e; the score is
    ``-|f(anchor) - f(e_i)|²``.

    No biases: one inside shifts what the table learns anyway, one at the end cancels in every distance. And f(0) = 0.
    """

    def __init__(self, config: TripletConfig, sizes: Sizes, codes: np.ndarray) -> None:
        """``codes`` int ``[F, items + 1]``: see `ItemInputs`; ids alone are read."""
        super().__init__()
        d = config.width
        self.config, self.width, self.interests = config, d, 1
        self.items = ItemInputs(sizes, d, 0, codes)
        self.users = NoUserInputs()
        self.inner, self.outer = linear(d, config.hidden, bias=False), linear(config.hidden, d, bias=False)
        self.scoring = SquaredDistance()
        table = self.items.tables[0]
        assert isinstance(table, nn.Embedding)
        draw(table, d**-0.5)

    def embed(self, x: Tensor) -> Tensor:
        """f: ``[..., d]`` of ``x`` ``[..., d]``."""
        return self.sized(self.outer(torch.relu(self.inner(x))))

    def sized(self, vectors: Tensor) -> Tensor:
        """``vectors`` ``[..., d]``, of length 1 where ``unit`` says so; zeros stay zeros."""
        return F.normalize(vectors, dim=-1, eps=1e-6) if self.config.unit else vectors

    def compose(self, vectors: Tensor, items: Tensor) -> Tensor:
        return self.embed(vectors)

    def encode(self, batch: Batch) -> Tensor:
        """The anchor at every point: ``[P, 1, d]``."""
        items, _ = prefixes(batch, self.config.window)  # [P, L]
        clicks = (items > 0).sum(dim=1, keepdim=True).clamp(min=1)  # [P, 1]
        return self.embed(self.items(items).sum(dim=1) / clicks)[:, None]  # [P, 1, d]

    def own_loss(
        self, queries: Tensor, targets: Tensor, batch: Batch, model: RetrievalModel, rng: np.random.Generator
    ) -> Tensor | None:
        """The mean over points of the loss of their triplets. Only the first target counts."""
        config, labels = self.config, targets[:, 0]  # [P]
        negatives = self.negatives(labels, batch, model.sizes.n_candidates, rng)  # [P, S]
        anchor, positive = self.sized(queries), model.vectors(labels)[:, None]  # [P, 1, d] each
        others = model.vectors(negatives)  # [P, S, d]
        distance = squared if config.loss == "hinge" else l2
        near, far = distance(anchor, positive), distance(anchor, others)  # [P, 1], [P, S]
        if config.swap:
            far = torch.minimum(far, distance(positive, others))
        valid = negatives != labels[:, None]  # [P, S]
        if config.mining == "semi_hard":
            valid = valid & semi_hard(near, far, valid)
        losses = triplet_loss(near, far, config.loss, config.margin) * valid  # [P, S]
        return (losses.sum(dim=1) / valid.sum(dim=1).clamp(min=1)).mean()

    def negatives(self, labels: Tensor, batch: Batch, n: int, rng: np.random.Generator) -> Tensor:
        """int64 ``[P, S]``: uniform among the ``n`` candidates; or, where a point has an unclicked sequence, uniform among that, but
        for what cannot be recommended or is the label."""
        shape = len(labels), self.config.negatives
        drawn = torch.from_numpy(rng.integers(1, n + 1, shape)).to(labels.device)
        if self.config.negative == "drawn" or not len(batch.unclicked):
            return drawn
        lengths = torch.bincount(batch.unclicked_of, minlength=len(batch.unclicked_owner))  # [U]
        starts, own = (lengths.cumsum(0) - lengths)[batch.unclicked_row], lengths[batch.unclicked_row]  # [P] each
        share = torch.from_numpy(rng.random(shape)).to(labels.device)
        place = starts[:, None] + (share * own[:, None]).long()  # [P, S]
        left = batch.unclicked[place.clamp(max=len(batch.unclicked) - 1)]  # [P, S]
        taken = (own[:, None] > 0) & (left <= n) & (left != labels[:, None])
        return torch.where(taken, left, drawn)


def triplet_loss(near: Tensor, far: Tensor, loss: str, margin: float) -> Tensor:
    """``[P, S]`` of the distances D+ ``near`` ``[P, 1]`` and D- ``far`` ``[P, S]``:

    - ``ratio``: ``|(s₊, s₋) - (0, 1)|²`` of ``(s₊, s₋) = softmax(D+, D-)``, which is ``2 σ(D+ - D-)²``
    - ``hinge``: ``[D+ - D- + margin]+``
    - ``soft_margin``: ``log(1 + exp(D+ - D-))``
    """
    if loss == "ratio":
        return 2 * torch.sigmoid(near - far).square()
    return torch.relu(near - far + margin) if loss == "hinge" else F.softplus(near - far)


def semi_hard(near: Tensor, far: Tensor, valid: Tensor) -> Tensor:
    """bool ``[P, S]``, one of each point: among ``valid`` ones the nearest that is farther than ``near`` ``[P, 1]``; where none is,
    the farthest."""
    with torch.no_grad():
        beyond = valid & (far > near)
        nearest = far.masked_fill(~beyond, torch.inf).argmin(dim=1)  # [P]
        farthest = far.masked_fill(~valid, -torch.inf).argmax(dim=1)  # [P]
        chosen = torch.where(beyond.any(dim=1), nearest, farthest)  # [P]
        return F.one_hot(chosen, far.shape[1]).bool()


_FACENET = {"name": "triplet", "loss": "hinge", "margin": 0.2, "unit": True, "mining": "semi_hard"}
ENTRIES = {
    "triplet": ModelEntry(
        Triplet, TripletConfig, "Triplet network (SIMBAD 2015): recent clicks, next click and another item, one network",
        paper="Hoffer and Ailon, SIMBAD 2015, arXiv 1412.6622", label="of clicks in the place of images",
        settings=IDS_ALONE,
        presets={
            "triplet-facenet": Preset(
                "the triplet network with FaceNet's loss (CVPR 2015): unit vectors, hinge, semi-hard negatives",
                {**IDS_ALONE, "model": _FACENET},
            ),
            "triplet-unclicked": Preset(
                "the triplet network whose negatives were shown and not clicked",
                {**IDS_ALONE, "model": {"name": "triplet", "negative": "unclicked"}},
            ),
        },
    ),
}  # fmt: skip
