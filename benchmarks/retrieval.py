"""Exact top-K: `ExactRetriever` against plain NumPy (matmul + argpartition) and plain torch (matmul + topk).

    python benchmarks/retrieval.py [--items 1000000] [--d 64] [--k 100] [--batches 1 256] [--repeats 15] [--beams 100 400 1000]

The sides take turns within one process; each figure is the median of the repeats. The answers are compared first.
With ``--beams`` instead: beam search over a tree that is learned from vectors in clusters of 100, and how much of the exact
answer it finds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from xdm.retrieval.exact import ExactRetriever
from xdm.retrieval.tree import ItemTree, TreeRetriever, recall
from xdm.retrieval.tree_building import learned_leaves, node_means


def with_numpy(items: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    scores = queries @ items.T
    best = np.argpartition(-scores, k, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1) + 1


def with_torch(items: torch.Tensor, queries: np.ndarray, k: int) -> np.ndarray:
    return (torch.from_numpy(queries) @ items.T).topk(k).indices.numpy() + 1


def measure(sides: dict[str, Callable[[], np.ndarray]], repeats: int) -> dict[str, float]:
    """Median seconds of each side, sides taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def trees(n: int, d: int, k: int, beams: list[int], repeats: int) -> None:
    """Print what beam search over a learned tree takes and finds, beside the exact search, one question at a time."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((max(1, n // 100), d), np.float32)

    def near_centres(count: int) -> np.ndarray:
        return centres[rng.integers(0, len(centres), count)] + rng.standard_normal((count, d), np.float32) / 2

    items, queries = near_centres(n), near_centres(200)[:, None]
    learned_leaves(items[:99], rng)  # compiled before the clock starts
    start = time.perf_counter()
    leaves = learned_leaves(items, rng)
    nodes = node_means(leaves, items)
    print(f"{n:,} items, d = {d}, K = {k}; the tree is learned in {time.perf_counter() - start:.1f} s")
    exact = ExactRetriever(items)
    wanted = exact.top_k(queries, k)[1]
    print("| method | ms a question | share of the exact answer |\n| --- | --- | --- |")
    sides = {f"beam {beam}": TreeRetriever(items, ItemTree(nodes, leaves, beam)) for beam in beams}
    shares = {name: recall(side.top_k(queries, k)[1], wanted) for name, side in sides.items()}
    calls = {name: lambda side=side: side.top_k(queries, k)[1] for name, side in sides.items()}
    medians = measure({**calls, "exact": lambda: [exact.top_k(query[None], k) for query in queries]}, repeats)
    for name, seconds in medians.items():
        print(f"| {name} | {seconds * 1e3 / len(queries):.2f} | {shares.get(name, 1):.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 256])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--beams", type=int, nargs="+")
    arguments = parser.parse_args()
    if arguments.beams:
        trees(arguments.items, arguments.d, arguments.k, arguments.beams, max(3, arguments.repeats // 5))
        return
    rng = np.random.default_rng(7)
    items = rng.standard_normal((arguments.items, arguments.d), np.float32)
    retriever, tensor = ExactRetriever(items), torch.from_numpy(items)
    print(f"{arguments.items:,} items, d = {arguments.d}, K = {arguments.k}, torch threads {torch.get_num_threads()}")
    print("| questions | method | ms | against ExactRetriever |\n| --- | --- | --- | --- |")
    for batch in arguments.batches:
        queries = rng.standard_normal((batch, arguments.d), np.float32)
        sides: dict[str, Callable[[], np.ndarray]] = {
            "ExactRetriever": lambda q=queries: retriever.top_k(q[:, None], arguments.k)[1],
            "numpy matmul + argpartition": lambda q=queries: with_numpy(items, q, arguments.k),
            "torch matmul + topk": lambda q=queries: with_torch(tensor, q, arguments.k),
        }
        if batch == 1:
            sides["numpy matrix-vector product alone"] = lambda q=queries: items @ q[0]
        ours, theirs = sides["ExactRetriever"](), sides["torch matmul + topk"]()
        assert np.mean(ours == theirs) > 0.999, "the two sides disagree"
        medians = measure(sides, arguments.repeats if batch == 1 else max(3, arguments.repeats // 5))
        for name, seconds in medians.items():
            print(f"| {batch} | {name} | {seconds * 1e3:.2f} | {seconds / medians['ExactRetriever']:.2f} |")


if __name__ == "__main__":
    main()
