"""Models swapped under load: no request fails, and every answer is wholly one model's.

What each of two bundles answers to each question is found out beforehand, without a service. Then one bundle after the other is
activated over HTTP while clients ask the same questions without pause.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.serving.process import Client, in_threads, known_items, serve, small_bundle, trained

TOLERANCE = 1e-4  # of a score: questions that are answered together are summed in another order
AT = 1_800_000_000
K = 20


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser = subparsers.add_parser("swap", help="models swapped under load: no failure, no mixture")
    parser.add_argument("--bundles", type=Path, nargs=2, help="two bundles in one folder; default: made of a simulated log")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two swaps")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--users", type=int, default=100)
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    bundles: list[Path] = args.bundles or _two_bundles(args.folder)
    asked = questions(bundles[0], args.users)
    answers = {_fingerprint(bundle): answers_of(bundle, asked) for bundle in bundles}
    seen: Counter[str] = Counter()
    stop = threading.Event()
    with serve(bundles[0], args.folder, "--state", args.folder / "swap.sqlite", "--set", "deadline_ms=5000") as running:

        def ask(number: int) -> None:
            client, place = running.client(), number
            while not stop.is_set():
                place = (place + 1) % len(asked)
                seen[_verdict(client, asked[place], place, answers)] += 1

        clients = in_threads(args.clients, ask)
        swaps, slowest = _swap(running.client(), [bundle.name for bundle in bundles], args.seconds, args.every)
        stop.set()
        for client in clients:
            client.join(30)
        hanging = sum(client.is_alive() for client in clients)
    by_model = {fingerprint: seen[fingerprint] for fingerprint in answers}
    wrong = {verdict: count for verdict, count in seen.items() if verdict not in answers}
    failed = [f"{count} answers: {verdict}" for verdict, count in wrong.items()]
    failed += [f"{hanging} clients wait for an answer"] if hanging else []
    failed += [f"no answer of {fingerprint}" for fingerprint, count in by_model.items() if not count]
    return {
        "swaps": swaps, "slowest swap (s)": slowest, "answers": sum(seen.values()), "by model": list(by_model.values()),
        "failed requests and mixtures": sum(wrong.values()), "failed": failed,
    }  # fmt: skip


def questions(bundle: Path, users: int) -> list[dict[str, Any]]:
    """Questions about users with a few clicks each; all of their events come with the question."""
    rng, items = np.random.default_rng(3), known_items(bundle)
    return [
        {"user_id": f"somebody {user}", "k": K, "timestamp": AT, "events": [
            {"item_id": items[int(rng.integers(len(items)))], "timestamp": AT - 500 + 30 * n, "clicked": n % 3 != 2} for n in range(9)
        ]} for user in range(users)
    ]  # fmt: skip


def answers_of(bundle: Path, asked: list[dict[str, Any]]) -> list[dict[Any, float]]:
    """The scores of the items that a bundle answers to each question, asked without a service."""
    from xdm.bundle.reading import load_recommender
    from xdm.serving.messages.recommend import InlineEvent
    from xdm.serving.service import Service

    service = Service.of(load_recommender(bundle, threads=1))
    found = []
    for one in asked:
        events = [InlineEvent(**event) for event in one["events"]]
        answer = service.recommend(one["user_id"], k=K, at=AT, events=events)
        found.append({item.item_id: item.score for item in answer.items})
    return found


def _verdict(client: Client, question: dict[str, Any], place: int, answers: dict[str, list[dict[Any, float]]]) -> str:
    """The fingerprint of the model whose answer it is from the first item to the last; else what is wrong with it."""
    try:
        reply = client.post("/v1/recommend", question)
    except Exception as error:
        return f"no answer: {error!r}"
    if reply.status != 200:
        return f"status {reply.status}"
    if reply.body["fallback"] is not None:
        return f"fallback {reply.body['fallback']}"
    fingerprint = reply.body["model"]["fingerprint"]
    scores = {item["item_id"]: item["score"] for item in reply.body["items"]}
    if fingerprint not in answers:
        return f"an answer of {fingerprint}, which is neither model"
    wanted = answers[fingerprint][place]
    if len(scores) != len(wanted) or any(abs(scores.get(item, np.inf) - score) > TOLERANCE for item, score in wanted.items()):
        return f"not the answer of {fingerprint}, which it names"
    return fingerprint


def _swap(client: Client, names: list[str], seconds: float, every: float) -> tuple[int, float]:
    """Activate one after the other; how often, and the longest that it took."""
    began, swaps, slowest = time.monotonic(), 0, 0.0
    while time.monotonic() - began < seconds:
        time.sleep(max(0.0, began + (swaps + 1) * every - time.monotonic()))
        before = time.monotonic()
        reply = client.post(f"/v1/models/{names[(swaps + 1) % 2]}/activate", {})
        if reply.status != 200:
            raise RuntimeError(f"the swap failed: {reply}")
        swaps, slowest = swaps + 1, max(slowest, time.monotonic() - before)
    return swaps, slowest


def _fingerprint(bundle: Path) -> str:
    from xdm.bundle.reading import read_manifest
    from xdm.serving.service import model_info

    return model_info(read_manifest(bundle)).fingerprint


def _two_bundles(folder: Path) -> list[Path]:
    first = small_bundle(folder)
    return [first, trained(folder / "store", first.with_name("other"), epochs=2)]
