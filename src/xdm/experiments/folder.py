"""The experiment's folder: where things lie, whose it is, and the logs that are simulated into it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xdm.console import Progress
from xdm.experiments.file import ExperimentFile
from xdm.experiments.grid import Variant, flat
from xdm.experiments.task import RUN_FILE
from xdm.log.store import Store, read_manifest
from xdm.schema import UsageError
from xdm.simulation.world import World

FORMAT, FORMAT_VERSION = "xdm-experiment", 1
IDENTITY = "experiment.json"  # what the runs of a folder were made by
LOCK = ".lock"
NAMED = ("logs", "variants")  # parts of the identity that may grow


def run_folder(out: Path, log: str, variant: str, seed: int | None) -> Path:
    """Of one run; ``seed`` None for what is not trained."""
    return out / "runs" / log / variant / ("once" if seed is None else f"seed-{seed}")


def search_folder(out: Path, log: str, variant: str) -> Path:
    """Of one search: the study and its trials."""
    return out / "search" / log / variant


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold ``out`` for this process; the lock ends with the process, however that ends.

    Raises:
        UsageError: another process holds it, or it is a folder of others.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / IDENTITY).exists() and not (out / LOCK).exists())):
        raise UsageError(f"{out} exists and holds no {IDENTITY}, so it is no experiment's; choose another with --out")
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"another `xdm experiment` is at work in {out}; wait for it, or choose another --out") from None
        yield


def checked_identity(out: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """``identity`` joined with the one that ``out`` holds: logs, variants and seeds may be added; what finished runs or
    trials were made by may not change.

    Raises:
        UsageError: something differs; the message names each key with what it was and what it is.
    """
    path = out / IDENTITY
    if not path.exists():
        return identity
    try:
        held = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); choose another --out") from None
    if not isinstance(held, dict) or held.get("format") != FORMAT or held.get("format_version", 0) > FORMAT_VERSION:
        raise UsageError(f"{path} is not of a format that this version reads; choose another --out")
    differing = _differences(held, identity, _begun(out))
    if differing:
        raise UsageError(
            f"{out} holds runs that were made otherwise: " + "; ".join(differing)
            + ". Put that back, give the changed variant a new name, or choose another --out"
        )  # fmt: skip
    return identity | {part: held[part] | identity[part] for part in NAMED}


def _begun(out: Path) -> set[str]:
    """The variants of which a run is done or a search has begun."""
    runs, searches = out.glob(f"runs/*/*/*/{RUN_FILE}"), out.glob("search/*/*")
    return {path.parts[-3] for path in runs} | {path.name for path in searches}


def _differences(held: dict[str, Any], asked: dict[str, Any], begun: set[str]) -> list[str]:
    """``key: held -> asked`` wherever both have the log, or the variant that is ``begun``, and the rest of it differs."""
    shared = {part: set(held[part]) & set(asked[part]) for part in NAMED}
    shared["variants"] &= begun
    sides = []
    for side in (held, asked):
        kept = {part: {name: side[part][name] for name in sorted(shared[part])} for part in NAMED}
        side = side | kept if begun else kept
        sides.append(flat(json.loads(json.dumps(side))))
    left, right = sides
    keys = [*left, *(key for key in right if key not in left)]
    return [f"{key}: {left.get(key)!r} -> {right.get(key)!r}" for key in keys if left.get(key) != right.get(key)]


def identity_of(
    file: ExperimentFile, variants: list[Variant], configs: dict[str, dict[str, Any] | None], stores: dict[str, Path]
) -> dict[str, Any]:
    """What decides the runs of a file: plain values. ``configs``: by variant, the whole configuration."""
    logs = {}
    for name, entry in file.logs.items():
        world = {} if entry.world is None else {"world": entry.world.model_dump(mode="json")}
        logs[name] = world if entry.store is None else world | {"store": _fingerprint(stores[name])}
        own = entry.model_dump(mode="json", include={"protocol", "exclude_seen", "unclicked_k"}, exclude_none=True)
        logs[name] |= own | ({"settings": flat(entry.settings)} if entry.settings else {})
    described = {}
    for variant in variants:
        described[variant.name] = {"model": variant.model, "config": configs[variant.name]}
        described[variant.name] |= {"like": variant.like} if variant.like else {}
        if variant.spaces:
            spaces = {key: space.model_dump(mode="json") for key, space in variant.spaces.items()}
            spaces = {key: {k: v for k, v in space.items() if k != "first" or v is not None} for key, space in spaces.items()}
            # Another search would choose another winner, after the test part was read.
            described[variant.name] |= {"spaces": json.dumps(spaces), "search": file.search.model_dump(mode="json")}
    common = file.model_dump(mode="json", include={"protocol", "ks", "exclude_seen", "unclicked_k", "keep"})
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **common, "logs": logs, "variants": described}


def _fingerprint(store: Path) -> str:
    return hashlib.sha256(json.dumps(read_manifest(store)["fingerprint"], sort_keys=True).encode()).hexdigest()[:12]


def store_paths(file: ExperimentFile, out: Path) -> dict[str, Path]:
    """Where each log's store lies, or will lie.

    Raises:
        StoreError: a store that the file names cannot be opened.
    """
    paths = {name: entry.store or out / "logs" / name / "store" for name, entry in file.logs.items()}
    for name, entry in file.logs.items():
        if entry.store is not None:
            Store(paths[name])
    return paths


def simulate_logs(file: ExperimentFile, out: Path, progress: Progress) -> None:
    """Simulate and prepare each log that is a world, unless its store is there."""
    for name, entry in file.logs.items():
        if entry.store is None and entry.world is not None and not (out / "logs" / name / "store").exists():
            progress.say(f"log {name}: simulating {entry.world.users:,} users, preparing the store ...")
            simulate_log(entry.world, out / "logs" / name)


def simulate_log(world: World, folder: Path) -> None:
    """``world`` and ``store`` in ``folder``; what was there stays where it is whole."""
    from xdm.log.preparing import prepare_log
    from xdm.simulation.writing import EXPOSURES, ITEMS, USERS, write_world

    written = folder / "world"
    write_world(world, written, overwrite=True)
    prepare_log(written / EXPOSURES, folder / "store", items=written / ITEMS, users=written / USERS)
