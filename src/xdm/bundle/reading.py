"""Opening a bundle: checked against its manifest, then ready to recommend. Needs neither torch nor the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime

from xdm.behaviours.rules import BehaviourRules
from xdm.bundle.format import (
    EXACT,
    FORMAT,
    FORMAT_VERSION,
    INDEX,
    ITEM_TOWER,
    ITEM_TOWER_INPUT,
    ITEM_VECTORS,
    ITEMS,
    IVF,
    SCORED,
    SCORER,
    SCORER_INPUTS,
    TOWER,
    TOWER_INPUTS,
    TREE,
    TREE_LEAVES,
    TREE_NODES,
    USERS,
)
from xdm.data.batches import Batch
from xdm.data.controls import Control, UnclickedSource
from xdm.folders import MANIFEST, file_sha256
from xdm.log.store import EntityTable
from xdm.retrieval.exact import ExactRetriever
from xdm.retrieval.recommender import TowerRecommender
from xdm.retrieval.scoring import FullScoring
from xdm.retrieval.tree import ItemTree, TreeRetriever
from xdm.retrieval.types import Retriever
from xdm.schema import ITEM_ID, USER_ID, BundleError


def open_graph(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """The ONNX graph of the file ``path``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class of their own
        raise BundleError(f"{path} cannot be loaded ({error}); train the model again") from None


class OnnxTower:
    """The exported user tower in ONNX Runtime. Safe to call from several threads."""

    def __init__(self, path: Path, threads: int) -> None:
        self._session = open_graph(path, threads)
        self._inputs = {node.name for node in self._session.get_inputs()}

    def __call__(self, batch: Batch) -> np.ndarray:
        """Queries float32 ``[P, K, d]``."""
        # A graph has no input for what the model does not read (the unclicked sequence of SDM, say).
        inputs = {name: getattr(batch, name) for name in TOWER_INPUTS if name in self._inputs}
        return self._session.run(None, inputs)[0]


class OnnxScorer:
    """The exported score of pairs in ONNX Runtime. Safe to call from several threads."""

    def __init__(self, path: Path, threads: int) -> None:
        self._session = open_graph(path, threads)

    def __call__(self, queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Scores float32 ``[Q, N]`` of ``queries`` ``[Q, K, d]`` with ``vectors`` ``[N, d]``."""
        return self._session.run(None, dict(zip(SCORER_INPUTS, (queries, vectors), strict=True)))[0]


def read_index(path: Path, manifest: dict[str, Any], threads: int, *, exact: bool = False) -> Retriever:
    """The retriever of the bundle at ``path``, as its manifest names it; ``exact`` goes round an approximate index.

    Raises:
        BundleError: a kind of index that this version does not know, or one that cannot be read.
    """

    def vectors(name: str) -> np.ndarray:
        return np.load(path / name, mmap_mode="r", allow_pickle=False)

    kind, items = manifest.get("index", EXACT), vectors(ITEM_VECTORS)
    scorer = OnnxScorer(path / SCORER, threads) if SCORER in manifest["files"] else None
    if kind == EXACT or (kind == IVF and exact):
        return ExactRetriever(items)
    if kind == IVF:
        require_faiss(f"{path} has an index of the kind 'ivf'", "or go round it with the setting index=exact")
        from xdm.retrieval.ann import AnnRetriever, read_ivf

        return AnnRetriever(items, read_ivf(path / INDEX), manifest["ivf"]["nprobe"], manifest["ivf"]["k"])
    if kind == SCORED and scorer is not None:
        return FullScoring(scorer, items)
    if kind == TREE:
        return TreeRetriever(items, ItemTree(vectors(TREE_NODES), vectors(TREE_LEAVES), manifest["beam"]), scorer)
    raise BundleError(f"{path} has an index of the kind {kind!r}, which this version of xdm does not know; upgrade xdm")


def require_faiss(what: str, otherwise: str = "") -> None:
    """
    Raises:
        BundleError: ``what`` needs faiss, which is not installed; ``otherwise`` says what to do else.
    """
    try:
        import faiss  # noqa: F401
    except ImportError as error:
        install = "pip install '.[ann]' in a checkout of xdm"
        raise BundleError(f"{what}, which needs {error.name}: {install}{otherwise and f', {otherwise}'}") from None


class BundleRecommender(TowerRecommender):
    """A bundle, ready to recommend. ``manifest`` is its manifest."""

    def __init__(
        self, path: Path, manifest: dict[str, Any], *, threads: int, exact: bool = False, control: Control | None = None
    ) -> None:
        self.path, self.manifest = path, manifest
        self._item_tower = open_graph(path / ITEM_TOWER, threads) if ITEM_TOWER in manifest["files"] else None
        items = EntityTable.read(path / ITEMS, ITEM_ID)
        super().__init__(
            OnnxTower(path / TOWER, threads),
            read_index(path, manifest, threads, exact=exact),
            items,
            EntityTable.read(path / USERS, USER_ID),
            BehaviourRules(**manifest["behaviours"]),
            control or _control(path, manifest.get("unclicked_source", "own"), len(items)),
        )

    def new_item_vectors(self, codes: np.ndarray) -> np.ndarray | None:
        """Vectors float32 ``[N, d']``, as they are scored, of new items by their features' ``codes`` ``[N, F]`` (the features of
        ``items`` in their order, 0 for none); None where the model makes no vectors of features."""
        if self._item_tower is None:
            return None
        return self._item_tower.run(None, {ITEM_TOWER_INPUT: np.ascontiguousarray(codes, np.int64)})[0]


def load_recommender(
    path: Path | str, *, verify: bool = True, threads: int = 0, exact: bool = False, control: Control | None = None
) -> BundleRecommender:
    """Open the bundle at ``path``; ``verify`` compares every file with the manifest's hash; ``threads`` 0 means all cores;
    ``exact`` scores every item even where the bundle has an approximate index; ``control`` is for bundles whose control needs
    the log beside it.

    Raises:
        BundleError: no bundle, a newer format, or files that are not the ones that were written.
    """
    path = Path(path)
    manifest = read_manifest(path)
    if verify:
        _verify(path, manifest)
    return BundleRecommender(path, manifest, threads=threads, exact=exact, control=control)


def read_manifest(path: Path | str) -> dict[str, Any]:
    """The manifest of the bundle at ``path``, checked for kind and format version."""
    path = Path(path)
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            f"{path} holds no {MANIFEST}: it is no bundle; make one with: xdm train STORE --out {path}"
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path / MANIFEST} cannot be read ({error}); train the model again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise BundleError(f"{path} is no bundle (its manifest names the format {found!r})")
    lacking = [key for key in ("format_version", "files", "behaviours") if key not in manifest]
    if lacking:
        raise BundleError(f"{path / MANIFEST} lacks {', '.join(lacking)}; copy the whole folder again, or train again")
    if manifest["format_version"] > FORMAT_VERSION:
        raise BundleError(
            f"{path} has bundle format {manifest['format_version']}, newer than {FORMAT_VERSION}, the newest that this "
            "version of xdm reads; upgrade xdm, or train the model again with this version"
        )
    return manifest


def _control(path: Path, source: str, n_items: int) -> Control | None:
    if source == "own":
        return None
    if source not in ("shuffled", "random"):
        raise BundleError(
            f"{path} was trained with data.unclicked_source={source}, a control that needs the log beside it; "
            "judge it with xdm rolling or xdm experiment"
        )
    return Control(cast(UnclickedSource, source), n_items)


def _verify(path: Path, manifest: dict[str, Any]) -> None:
    for name, wanted in manifest["files"].items():
        file = path / name
        if Path(name).name != name:
            raise BundleError(f"{path / MANIFEST} names the file {name!r}, which lies outside of the bundle")
        if not file.is_file():
            raise BundleError(f"{path} lacks {name}, which its manifest names; copy the whole folder, or train again")
        if file_sha256(file) != wanted:
            raise BundleError(
                f"{file} is not the file that was written (its hash differs); copy it again, or train again"
            )
