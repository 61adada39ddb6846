"""Giving a bundle an approximate index, measured against the exact search on questions of real users, or taking it off again."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xdm.bundle.format import EXACT, FORMAT, INDEX, IVF
from xdm.bundle.reading import BundleRecommender, load_recommender, read_manifest, require_faiss
from xdm.folders import MANIFEST, file_sha256, new_folder, write_json
from xdm.log.store import Events, Store
from xdm.retrieval.exact import ExactRetriever
from xdm.retrieval.types import Points, Retriever
from xdm.schema import BundleError, UsageError

SEED = 7
USERS_AT_ONCE = 256
TIMED = 200  # questions whose time is taken, each alone


@dataclass(frozen=True)
class Measured:
    """What an index was built with and what it reaches. ``recall`` is the share of the exact search's ``k`` best items that the index
    finds, over ``queries`` users of the store; times are medians for one question alone, by one thread, in milliseconds."""

    lists: int
    nprobe: int
    k: int
    queries: int
    recall: float
    index_ms: float
    exact_ms: float


def add_ivf(path: Path, store: Store, *, min_recall: float = 0.99, k: int = 100, queries: int = 1000) -> Measured:
    """Write an inverted file (`xdm.retrieval.ann`) into the bundle at ``path``, whole or not at all, and name it in the manifest.

    The questions that it is measured with are those of at most ``queries`` users of ``store`` after the log's last second.

    Raises:
        BundleError: no bundle, or one that is not searched by inner product.
        UsageError: no user of the store has a click that the model knows, or no index finds ``min_recall``.
    """
    require_faiss("an index of the kind 'ivf' is to be built")
    from threadpoolctl import threadpool_limits

    from xdm.retrieval.ann import build_ivf, choose_nprobe, write_ivf

    recommender = load_recommender(path, threads=1, exact=True)
    if not isinstance(recommender.retriever, ExactRetriever):
        kind = recommender.manifest["index"]
        raise BundleError(
            f"{path} is searched by its index {kind!r}: the model {recommender.manifest['model']!r} makes no scores that are inner "
            "products of vectors, which is all that an index of the kind 'ivf' can search"
        )
    asked = sample_queries(recommender, store, queries)
    vectors = recommender.retriever.item_vectors
    k = min(k, len(vectors))
    with threadpool_limits(1):
        index = build_ivf(vectors)
        retriever, tried = choose_nprobe(vectors, index, asked, k, min_recall)
        if retriever is None:
            reached = ", ".join(f"{recall:.4f} with {nprobe}" for nprobe, recall in tried.items()) or "there is one list alone"
            raise UsageError(
                f"no index is written: of the {k} best items for {len(asked):,} users of {store.path}, none finds {min_recall:g}. "
                f"Recall by lists looked into, of {index.nlist}: {reached}. Search exactly, or ask for a lower --min-recall"
            )
        index_ms, exact_ms = in_turns([retriever, recommender.retriever], asked[:TIMED], k)
    measured = Measured(index.nlist, retriever.nprobe, k, len(asked), tried[retriever.nprobe], index_ms, exact_ms)
    _rewrite(path, {"index": IVF, IVF: asdict(measured)}, lambda folder: write_ivf(index, folder / INDEX))
    return measured


def remove_ivf(path: Path) -> bool:
    """Take the approximate index off the bundle at ``path``, whole or not at all; False where it has none.

    Raises:
        BundleError: no bundle, or one that is not searched by inner product.
    """
    recommender = load_recommender(path, threads=1, exact=True)
    if not isinstance(recommender.retriever, ExactRetriever):
        raise BundleError(f"{path} is searched by its index {recommender.manifest['index']!r}, the only way that its model has")
    if recommender.manifest.get("index", EXACT) == EXACT:
        return False
    _rewrite(path, {"index": EXACT}, lambda folder: None)
    return True


def sample_queries(recommender: BundleRecommender, store: Store, n: int) -> np.ndarray:
    """The queries ``[Q, K, d]`` of at most ``n`` users of ``store``, drawn at random, as the model asks for them after the log's end.

    Raises:
        UsageError: no user has a click on an item that the model knows.
    """
    mapping = np.concatenate([[0], recommender.catalogue.indices(store.items.vocabulary.ids)])
    ids = store.users.vocabulary.ids
    known = recommender.users.indices(ids)
    drawn = np.random.default_rng(SEED).permutation(len(ids))
    found: list[np.ndarray] = []
    for first in range(0, len(drawn), USERS_AT_ONCE):
        rows = drawn[first : first + USERS_AT_ONCE]
        events = Events.joined([store.user_events(int(row) + 1).in_catalogue(mapping) for row in rows])
        n_users = len(rows)
        points = Points(events, np.arange(n_users), known[rows], np.full(n_users, store.time_range[1] + 1, np.int64))
        behaviours = recommender.behaviours(points)
        with_clicks = np.flatnonzero(behaviours.session >= 0)[: n - len(found)]
        if len(with_clicks):
            found += list(recommender.queries(behaviours, with_clicks, points))
        if len(found) == n:
            break
    if not found:
        raise UsageError(f"no user of {store.path} has a click on an item of the bundle; give the store that it was trained on")
    return np.stack(found)


def in_turns(retrievers: list[Retriever], queries: np.ndarray, k: int) -> list[float]:
    """The median milliseconds of each retriever for one of ``queries`` ``[Q, K, d]`` alone, retrievers taking turns."""
    for retriever in retrievers:
        retriever.top_k(queries[:1], k)  # compiled before the clock starts
    times: list[list[float]] = [[] for _ in retrievers]
    for query in queries:
        for retriever, taken in zip(retrievers, times, strict=True):
            start = time.perf_counter()
            retriever.top_k(query[None], k)
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) * 1e3 for taken in times]


def _rewrite(path: Path, index: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Put a folder in the bundle's place that differs by its index alone; who has opened the old one keeps its files."""
    with new_folder(path, FORMAT, overwrite=True) as folder:
        # Linked, not copied: the item vectors of a large bundle are most of a disk.
        shutil.copytree(path, folder, copy_function=_link, dirs_exist_ok=True)
        manifest = read_manifest(folder)
        for name in (MANIFEST, INDEX):
            (folder / name).unlink(missing_ok=True)  # never written through a link: that would change the old bundle too
        write(folder)
        files = {name: digest for name, digest in manifest["files"].items() if name != INDEX}
        if (folder / INDEX).exists():
            files[INDEX] = file_sha256(folder / INDEX)
        kept = {key: value for key, value in manifest.items() if key not in (IVF, "files")}
        write_json(folder / MANIFEST, kept | index | {"files": dict(sorted(files.items()))})


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
