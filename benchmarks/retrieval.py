"""Exact top-K: `ExactRetriever` against plain NumPy (matmul + argpartition) and plain torch (matmul + topk).

    python benchmarks/retrieval.py [--items 1000000] [--d 64] [--k 100] [--batches 1 256] [--repeats 15]

The sides take turns within one process; each figure is the median of the repeats. The answers are compared first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from xdm.retrieval.exact import ExactRetriever


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 256])
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
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
