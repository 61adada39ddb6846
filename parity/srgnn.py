"""SR-GNN against github:CRIPAC-DIG/SR-GNN (``pytorch_code``).

``python parity/srgnn.py --authors CHECKOUT``; their code imports networkx. Ours reads a few long rows and is asked at every click;
theirs is given one row for each such point, with the clicks up to it, and builds its graphs in NumPy. So equal scores also
say that no point sees its future. The loss is the softmax over all items. Their row 0 of the table, a node without edges
where a row is padded, has random numbers, ours zeros.
"""

from __future__ import annotations

from argparse import Namespace
from types import ModuleType
from typing import Any

import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, module_of, our_model, run
from torch import nn
from torch.nn import functional as F

from xdm.models.retrieval_model import RetrievalModel
from xdm.models.srgnn import SRGNNConfig
from xdm.objectives.softmax import full_softmax

ITEMS = 60
# Items of each row are drawn among so many, so that they come again and again, some twice in a row.
LENGTHS, AMONG = [1, 12, 4, 30, 9], [1, 5, 2, 12, 60]
OURS = {  # by their names
    "embedding.weight": "items.tables.0.weight",
    "gnn.w_ih": "cell.of_messages.weight", "gnn.b_ih": "cell.of_messages.bias",
    "gnn.w_hh": "cell.of_nodes.weight", "gnn.b_hh": "cell.of_nodes.bias",
    "gnn.b_iah": "cell.before_bias", "gnn.b_oah": "cell.after_bias",
    **{f"{theirs}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias") for theirs, ours in (
        ("gnn.linear_edge_in", "cell.from_before"), ("gnn.linear_edge_out", "cell.from_after"),
        ("linear_one", "of_last"), ("linear_two", "of_click"), ("linear_transform", "join"),
    )},
    "linear_three.weight": "weigh.weight",
}  # fmt: skip
UNUSED = {"gnn.linear_edge_f.weight", "gnn.linear_edge_f.bias"}  # their forward pass never reads these


def copy_weights(theirs: nn.Module, ours: RetrievalModel) -> dict[str, str]:
    """Put their weights into ours; returns our names by theirs."""
    without = UNUSED if ours.encoder.join is not None else UNUSED | {"linear_transform.weight", "linear_transform.bias"}
    names = {name: OURS[name] for name, _ in theirs.named_parameters() if name not in without}
    weights = dict(ours.encoder.named_parameters())
    assert set(names.values()) == weights.keys()
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if name in names:
                weights[names[name]].copy_(weight)
        weights["items.tables.0.weight"][0] = 0
    return names


def case(model: ModuleType, utils: ModuleType, settings: dict[str, Any]) -> tuple[Found, Found]:
    """Scores of every item at every point, and the gradients of every weight, ours and theirs."""
    config = SRGNNConfig(**settings)
    torch.manual_seed(1)
    opt = Namespace(hiddenSize=config.width, batchSize=100, nonhybrid=not config.hybrid, step=config.steps, lr=1e-3, l2=0.0,
                    lr_dc_step=3, lr_dc=0.1)  # fmt: skip
    theirs = model.SessionGraph(opt, ITEMS + 1)
    ours = our_model({"name": "srgnn", **settings}, ITEMS)
    weights = dict(ours.encoder.named_parameters())
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.normal_(std=0.1)
    names = copy_weights(theirs, ours)

    rows = [(torch.randint(0, among, (n,)) * 7 % ITEMS + 1).tolist() for n, among in zip(LENGTHS, AMONG, strict=True)]
    batch = batch_of(rows)
    labels = torch.randint(1, ITEMS + 1, (len(batch.row),))
    prefixes = [rows[row][: position + 1] for row, position in zip(batch.row.tolist(), batch.position.tolist(), strict=True)]
    data = utils.Data((prefixes, labels.tolist()), shuffle=False)
    _, their_scores = model.forward(theirs, list(range(len(prefixes))), data)
    query = ours(batch).query  # [P, 1, d]
    found_theirs = {"scores": their_scores.detach()}
    found_ours = {"scores": ours.score(query, ours.item_vectors()).detach()}
    found_theirs |= gradients(
        theirs.loss_function(their_scores, labels - 1), [one for one in theirs.named_parameters() if one[0] in names]
    )
    own = gradients(full_softmax(query[:, 0], labels[:, None], ours.item_vectors()), weights.items())
    found_ours |= {f"gradient of {name}": own[f"gradient of {ours_name}"] for name, ours_name in names.items()}
    found_theirs["gradient of embedding.weight"] = F.pad(found_theirs["gradient of embedding.weight"][1:], (0, 0, 1, 0))
    return found_ours, found_theirs


if __name__ == "__main__":
    asked = authors_argument("SR-GNN: our scores and gradients against the authors'")
    modules = [module_of(asked.authors / "pytorch_code", name) for name in ("model", "utils")]
    cases: dict[str, dict[str, Any]] = {
        "the authors' settings": {}, "three steps": {"steps": 3}, "not hybrid": {"hybrid": False},
    }  # fmt: skip
    run("srgnn", "github:CRIPAC-DIG/SR-GNN", asked.commit, {
        name: lambda one=one: case(*modules, one) for name, one in cases.items()
    })  # fmt: skip
