"""Writing a bundle from a trained model."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from xdm import __version__
from xdm.bundle import format as bundle_format
from xdm.bundle.format import (
    ITEM_TOWER_INPUT,
    ITEM_TOWER_OUTPUT,
    SCORER_INPUTS,
    SCORER_OUTPUT,
    TOWER_INPUTS,
    TOWER_OUTPUT,
)
from xdm.data.batches import Batch
from xdm.data.catalogue import Catalogue
from xdm.folders import MANIFEST, file_sha256, new_folder, write_json
from xdm.log.store import write_entities
from xdm.models.retrieval_model import RetrievalModel
from xdm.retrieval.exact import ExactRetriever
from xdm.retrieval.scoring import FullScoring
from xdm.retrieval.tree import TreeRetriever, recall
from xdm.retrieval.types import Retriever
from xdm.training.config import Config


class PointTower(nn.Module):
    """The model at one point a row: the graph that is exported."""

    def __init__(self, model: RetrievalModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        short: Tensor,
        short_time: Tensor,
        short_session: Tensor,
        short_length: Tensor,
        long: Tensor,
        user: Tensor,
        profile: Tensor,
        unclicked: Tensor,
        unclicked_of: Tensor,
        time: Tensor,
        stream: Tensor,
        stream_action: Tensor,
        stream_position: Tensor,
    ) -> Tensor:
        """Tensors as in `Batch`; queries ``[B, K, d']``."""
        rows = torch.arange(short.shape[0], device=short.device)
        batch = Batch(
            short=short, short_time=short_time, short_session=short_session, short_length=short_length, long=long,
            user=user, profile=profile, unclicked=unclicked, unclicked_of=unclicked_of,
            unclicked_owner=rows, row=rows, position=short_length - 1, time=time, unclicked_row=rows,
            stream=stream, stream_action=stream_action, stream_owner=rows, stream_row=rows, stream_position=stream_position,
        )  # fmt: skip
        return self.model(batch).query


def torch_tower(model: RetrievalModel, batch: Batch) -> np.ndarray:
    """Queries of a batch of arrays, by the model itself: the tower of a model in training."""
    training = model.training
    model.eval()
    with torch.inference_mode():
        queries = model(batch.map(torch.from_numpy)).query.numpy()
    model.train(training)
    return queries


def export_tower(model: RetrievalModel, path: Path) -> None:
    """Write the model's user tower as an ONNX graph with free batch size and list lengths."""
    sizes = model.sizes
    # Two rows of unequal length, so that nothing of the example is taken for a constant of the model.
    example = (
        torch.tensor([[1, 1, 1], [1, 0, 0]]), torch.tensor([[1, 2, 3], [1, 0, 0]]), torch.tensor([[1, 1, 2], [1, 0, 0]]),
        torch.tensor([3, 1]),
        torch.ones((2, 1 + len(sizes.features), 2), dtype=torch.long), torch.zeros(2, dtype=torch.long),
        torch.zeros((2, len(sizes.profile)), dtype=torch.long), torch.ones(3, dtype=torch.long), torch.zeros(3, dtype=torch.long),
        torch.tensor([4, 2]),
        torch.tensor([[1, 1, 1], [1, 0, 0]]), torch.tensor([[1, 2, 1], [2, 0, 0]]), torch.tensor([2, 0]),
    )  # fmt: skip
    axes = {name: {0: "batch"} for name in (*TOWER_INPUTS, TOWER_OUTPUT)}
    axes["short"][1] = axes["short_time"][1] = axes["short_session"][1] = "clicks"
    axes["long"][2] = "long"
    axes["stream"][1] = axes["stream_action"][1] = "exposures"
    axes["unclicked"][0] = axes["unclicked_of"][0] = "unclicked"
    model.eval()
    _export(PointTower(model), example, path, TOWER_INPUTS, TOWER_OUTPUT, axes)


def export_scorer(model: RetrievalModel, path: Path) -> None:
    """Write the scores of pairs as an ONNX graph: queries ``[Q, K, d']`` and item vectors ``[N, d']`` to scores ``[Q, N]``."""
    width = model.encoder.width + model.scoring.bias  # d'
    example = (torch.randn(2, max(2, model.encoder.interests), width), torch.randn(3, width))
    axes = {"queries": {0: "queries", 1: "interests"}, "vectors": {0: "items"}, SCORER_OUTPUT: {0: "queries", 1: "items"}}
    model.eval()
    _export(PairScores(model), example, path, SCORER_INPUTS, SCORER_OUTPUT, axes)


class PairScores(nn.Module):
    """The score of every query with every item vector: the graph that is exported."""

    def __init__(self, model: RetrievalModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, queries: Tensor, vectors: Tensor) -> Tensor:
        """``[Q, N]`` from ``[Q, K, d]`` and ``[N, d]``."""
        return self.model.score(queries, vectors)


class ItemTower(nn.Module):
    """Vectors of items of which only the features are known: the graph that is exported."""

    def __init__(self, model: RetrievalModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, codes: Tensor) -> Tensor:
        """``[N, d']``, as they are scored, from feature codes ``[N, F]`` (0 for none), without a row and a bias of the item."""
        tables = self.model.output_features
        vectors = torch.stack([table(codes[:, f]) for f, table in enumerate(tables)]).sum(0)
        vectors = self.model.encoder.compose(vectors, torch.zeros_like(codes[:, 0]))
        return self.model.scoring.items(vectors, vectors.new_zeros(vectors.shape[0]) if self.model.scoring.bias else None)


def export_item_tower(model: RetrievalModel, path: Path) -> None:
    """Write what the features of a model's item vectors add up to as an ONNX graph: codes ``[N, F]`` to vectors ``[N, d']``."""
    example = (torch.ones((2, len(model.output_features)), dtype=torch.long),)
    axes = {ITEM_TOWER_INPUT: {0: "items"}, ITEM_TOWER_OUTPUT: {0: "items"}}
    model.eval()
    _export(ItemTower(model), example, path, (ITEM_TOWER_INPUT,), ITEM_TOWER_OUTPUT, axes)


def _export(
    module: nn.Module, example: tuple[Tensor, ...], path: Path, inputs: tuple[str, ...], output: str, axes: dict[str, dict[int, str]]
) -> None:
    with warnings.catch_warnings():
        # The tracing exporter takes 0.3 s where the newer one takes 10; its warnings concern exporters, not this graph,
        # whose answers the tests compare with the model's at several batch sizes and lengths.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, example, str(path), dynamo=False, input_names=list(inputs), output_names=[output], dynamic_axes=axes
        )


def torch_retriever(model: RetrievalModel, *, exhaustive: bool = False) -> Retriever:
    """The retriever over a model's item vectors as they stand: that of a model in training. ``exhaustive``: one that
    scores every item, whatever the model searches by."""
    vectors = model.item_vectors().detach().numpy().astype(np.float32, order="C", copy=True)

    def pairs(queries: np.ndarray, some: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model.score(torch.from_numpy(queries), torch.from_numpy(some)).numpy()

    scorer = None if model.scoring.foldable else pairs
    tree = None if exhaustive else model.encoder.item_tree()
    if tree is not None:
        return TreeRetriever(vectors, tree, scorer)
    return ExactRetriever(vectors) if scorer is None else FullScoring(scorer, vectors)


def search_recall(model: RetrievalModel, batch: Batch, k: int) -> float | None:
    """How much of the ``k`` best items the model's own search finds, for the questions of ``batch`` (arrays); None where it
    scores every item anyway."""
    if model.encoder.item_tree() is None:
        return None
    queries = torch_tower(model, batch)
    training = model.training
    model.eval()
    found, wanted = (torch_retriever(model, exhaustive=every).top_k(queries, k)[1] for every in (False, True))
    model.train(training)
    return recall(found, wanted)


def write_index(model: RetrievalModel, folder: Path) -> dict[str, Any]:
    """Write what `read_index` needs into ``folder``; returns what it needs of the manifest."""
    vectors = model.item_vectors().detach().numpy().astype(np.float32)
    np.save(folder / bundle_format.ITEM_VECTORS, np.ascontiguousarray(vectors), allow_pickle=False)
    if not model.scoring.foldable:
        export_scorer(model, folder / bundle_format.SCORER)
    if len(model.output_features):
        export_item_tower(model, folder / bundle_format.ITEM_TOWER)
    tree = model.encoder.item_tree()
    if tree is None:
        return {"index": bundle_format.EXACT if model.scoring.foldable else bundle_format.SCORED}
    np.save(folder / bundle_format.TREE_NODES, tree.node_vectors, allow_pickle=False)
    np.save(folder / bundle_format.TREE_LEAVES, tree.leaves, allow_pickle=False)
    return {"index": bundle_format.TREE, "beam": tree.beam}


def write_bundle(
    path: Path, model: RetrievalModel, catalogue: Catalogue, config: Config, facts: dict[str, Any],
    history: list[dict[str, Any]], steps: bytes, *, overwrite: bool,
) -> None:  # fmt: skip
    """Write ``model`` as the bundle ``path``, whole or not at all; ``facts`` go into the manifest as they are."""
    with new_folder(path, bundle_format.FORMAT, overwrite=overwrite) as folder:
        (folder / bundle_format.CONFIG).write_text(yaml.safe_dump(config.to_dict(), sort_keys=False), encoding="utf-8")
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, folder / bundle_format.WEIGHTS)
        export_tower(model, folder / bundle_format.TOWER)
        index = write_index(model, folder)
        write_entities(folder / bundle_format.ITEMS, catalogue.items.table)
        write_entities(folder / bundle_format.USERS, catalogue.users.table)
        write_json(folder / bundle_format.METRICS, {"validation": history})
        (folder / bundle_format.STEPS).write_bytes(steps)
        write_json(folder / MANIFEST, {
            "format": bundle_format.FORMAT, "format_version": bundle_format.FORMAT_VERSION, "xdm": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "items": catalogue.n_items, "candidates": catalogue.n_candidates, "users": catalogue.n_users,
            "width": model.encoder.width, "interests": model.encoder.interests, **index,
            "scoring": {"kind": model.scoring.kind, "bias": model.scoring.bias},
            "behaviours": config.behaviours.model_dump(), "unclicked_source": config.data.unclicked_source, **facts,
            "files": {file.name: file_sha256(file) for file in sorted(folder.iterdir())},
        })  # fmt: skip
