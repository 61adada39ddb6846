"""The demo's steps: each is a command of the command line, printed and run as a user would run it."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from xdm.cli import group
from xdm.demo.person import choose_user, describe_user
from xdm.demo.telling import report_text, table, verdict
from xdm.evaluation.comparing import compare
from xdm.evaluation.records import METRICS_FILE
from xdm.folders import write_bytes, write_json
from xdm.reports.comparison import draw_comparison
from xdm.schema import UsageError

MARKER = "demo.json"  # says that a folder is a demo's
FIGURE, REPORT = "figure.png", "report.md"
FOLDERS = ("log", "store", "sdm", "sdm.run", "xdm", "xdm.run", "results")  # all that the commands write
MODELS = ("sdm", "xdm")
KS = (10, 20)
METRICS = ("recall@10", "recall@20", "ndcg@20", "hr@20")


def walk(out: Path, *, users: int, seed: int, epochs: int, overwrite: bool) -> None:
    """Fill ``out``: log/, store/, the bundles sdm/ and xdm/ with their runs, results/, report.md, figure.png and demo.json.

    Raises:
        UsageError: ``out`` holds files of others, or an earlier demo and ``overwrite`` is not given.
    """
    began = time.monotonic()
    _clear(out, overwrite)
    store, results = out / "store", out / "results"
    _make_store(out, users, seed)
    for model in MODELS:
        _say(f"Train {model.upper()}" + (": SDM and the unclicked sequence" if model == "xdm" else ""))
        # The epoch is chosen by what is compared below.
        wanted = ("--set", "training.monitor=recall@20", "--set", f"training.epochs={epochs}", "--seed", seed)
        _run("train", store, "--model", model, "--out", out / model, *wanted)
    for model in MODELS:
        _say(f"Judge {model.upper()} on the last hours of the log, beside two baselines")
        lists = [part for k in KS for part in ("--k", k)]
        _run("evaluate", out / model, store, "--exclude-seen", *lists, "--out", results / model)
    judged = {model: json.loads((results / model / METRICS_FILE).read_text()) for model in MODELS}
    _say("Side by side (simulated log)")
    _print(table(judged, METRICS))
    _say("Is the difference more than chance? Paired by user, against SDM")
    folders = [results / model for model in MODELS]
    _run("compare", *folders, *(part for metric in METRICS for part in ("--metric", metric)))
    differences, _, _ = compare(folders, METRICS)  # the same figures again: the bootstrap has a seed
    click.echo(verdict(differences))
    _say("One user: what was clicked, what was skipped, and the two lists")
    user = choose_user(results)
    person = describe_user(user, store, out / "sdm", out / "xdm", results)
    click.echo(person)
    runs = {model.upper(): results / model for model in MODELS}
    draw_comparison(runs, differences, out / FIGURE, f"Simulated log, {users:,} users, seed {seed}")
    report = report_text(judged, differences, METRICS, person, users=users, seed=seed, figure=FIGURE)
    write_bytes(out / REPORT, report.encode())
    cut_off = judged["xdm"]["split"]["cut_off"]
    write_json(out / MARKER, {"users": users, "seed": seed, "epochs": epochs, "user_id": user, "finished": True})
    _say(f"Done in {time.monotonic() - began:.0f} s: {out / REPORT} and {out / FIGURE}. To serve the model, and to ask it:")
    body = json.dumps({"user_id": user, "k": 5, "timestamp": cut_off, "exclude_clicked": True})
    click.echo(f"xdm serve {shlex.join([str(out / 'xdm'), '--history', str(store)])}")
    click.echo(f"curl -s http://127.0.0.1:8000/v1/recommend -H 'Content-Type: application/json' -d {shlex.quote(body)}")


def _make_store(out: Path, users: int, seed: int) -> None:
    log = out / "log"
    _say("Simulate an exposure log whose skips mean something")
    _run("simulate", "--out", log, "--users", users, "--seed", seed)
    _say("Prepare it: from the raw log to an event store")
    tables = ("--items", log / "items.parquet", "--users", log / "users.parquet")
    _run("prepare", log / "exposures.parquet", *tables, "--out", out / "store")


def _clear(out: Path, overwrite: bool) -> None:
    """Make ``out`` ready: an earlier demo's own files go, anything else in the folder stays."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} exists and is not a folder; choose another with --out")
    if out.exists() and any(out.iterdir()):
        if not (out / MARKER).exists():
            raise UsageError(f"{out} holds no {MARKER}, so it is not a demo's and is left alone; choose another with --out")
        if not overwrite:
            raise UsageError(f"{out} holds an earlier demo; pass --overwrite, or choose another folder with --out")
        for name in FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (FIGURE, REPORT):
            (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / MARKER, {"finished": False})


def _say(line: str) -> None:
    click.secho(f"\n{line}", bold=True)


def _run(*words: object) -> None:
    """Print a command, run it in this process, and print how long it took."""
    arguments = [str(word) for word in words]
    click.secho("$ xdm " + shlex.join(arguments), fg="cyan")
    began = time.monotonic()
    # Not standalone: the errors reach the `xdm demo` that runs, which knows how to end.
    group.main(arguments, standalone_mode=False)
    click.echo(f"({time.monotonic() - began:.1f} s)")


def _print(printed: Any) -> None:
    from rich.console import Console

    Console(file=sys.stdout, width=100).print(printed)
