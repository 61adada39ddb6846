"""The demo's steps: each is a command of the command line, run as a user would run it."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from pathlib import Path

import click

from xdm.cli import group
from xdm.demo.person import choose_user, describe_user
from xdm.folders import write_json
from xdm.reports.comparison import draw_comparison
from xdm.schema import UsageError

MARKER = "demo.json"  # says that a folder is a demo's, so that --overwrite removes nothing else
KS = (10, 20, 50)
METRICS = ("recall@10", "recall@20", "ndcg@20", "hr@20")


def walk(out: Path, *, users: int, seed: int, epochs: int, overwrite: bool) -> None:
    """Fill ``out``: log/, store/, the bundles sdm/ and xdm/, results/, report.md and figure.png.

    Raises:
        UsageError: ``out`` exists and is no demo's, or ``overwrite`` is not given.
    """
    began = time.monotonic()
    _clear(out, overwrite)
    log, store, results = out / "log", out / "store", out / "results"
    _say("A simulated exposure log whose skips mean something")
    _run("simulate", "--out", log, "--users", users, "--seed", seed)
    _say("From the raw log to the event store")
    _run(
        "prepare",
        log / "exposures.parquet",
        "--items",
        log / "items.parquet",
        "--users",
        log / "users.parquet",
        "--out",
        store,
    )
    for model in ("sdm", "xdm"):
        _say(f"Training {model.upper()}" + (": SDM plus the unclicked sequence" if model == "xdm" else ""))
        _run("train", store, "--model", model, "--out", out / model, "--set", "training.monitor=recall@20",
             "--set", f"training.epochs={epochs}", "--seed", seed)  # fmt: skip
    for model in ("sdm", "xdm"):
        _say(f"Judging {model.upper()} on the test part, beside two baselines")
        lists = [part for k in KS for part in ("--k", str(k))]
        _run("evaluate", out / model, store, "--exclude-seen", *lists, "--out", results / model)
    _say("Is the difference more than chance? Paired by user, against SDM")
    chosen = [part for metric in METRICS for part in ("--metric", metric)]
    _run("compare", results / "sdm", results / "xdm", *chosen)
    _say("One user: what was clicked, what was skipped, and the two lists")
    user = choose_user(results)
    person = describe_user(user, store, out / "sdm", out / "xdm", results)
    click.echo(person)
    figure = draw_comparison(
        {"SDM": results / "sdm", "XDM": results / "xdm"}, METRICS, out / "figure.png", "Simulated log"
    )
    _write_report(out, results, person, users, seed)
    write_json(out / MARKER, {"users": users, "seed": seed, "finished": True})
    _say(f"Done in {time.monotonic() - began:.0f} s. Figure: {figure}, report: {out / 'report.md'}. Serve it:")
    body = json.dumps({"user_id": user, "k": 5, "timestamp": _cut_off(results), "exclude_clicked": True})
    click.echo(f"xdm serve {out / 'xdm'} --history {store}")
    click.echo(f"curl -s localhost:8000/v1/recommend -H 'content-type: application/json' -d '{body}'")


def _clear(out: Path, overwrite: bool) -> None:
    if out.exists() and any(out.iterdir()):
        if not (out / MARKER).exists():
            raise UsageError(f"{out} exists and is no demo's (it holds no {MARKER}); choose another folder with --out")
        if not overwrite:
            raise UsageError(f"{out} holds an earlier demo; choose another folder with --out, or pass --overwrite")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / MARKER, {"finished": False})


def _say(line: str) -> None:
    click.secho(f"\n{line}", bold=True)


def _run(*words: object) -> None:
    """Print a command and run it, in this process."""
    arguments = [str(word) for word in words]
    click.secho("$ xdm " + shlex.join(arguments), fg="cyan")
    began = time.monotonic()
    group.main(arguments, standalone_mode=False)
    click.echo(f"({time.monotonic() - began:.1f} s)")


def _cut_off(results: Path) -> int:
    return int(json.loads((results / "xdm" / "metrics.json").read_text())["split"]["cut_off"])


def _write_report(out: Path, results: Path, person: str, users: int, seed: int) -> None:
    judged = {model.upper(): json.loads((results / model / "metrics.json").read_text()) for model in ("sdm", "xdm")}
    columns = {
        "popularity": judged["SDM"]["baselines"]["popularity"],
        "recent popularity": judged["SDM"]["baselines"]["recent_popularity"],
        **judged,
    }
    rows = ["| metric | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for metric in METRICS:
        rows.append(f"| {metric} | " + " | ".join(f"{figures[metric]:.4f}" for figures in columns.values()) + " |")
    (out / "report.md").write_text(
        f"# Demo\n\nA **simulated** log: {users} users, seed {seed}. One seed of training: run it again with another "
        "`--seed` before you believe a small difference.\n\n" + "\n".join(rows)
        + f"\n\n![Differences](figure.png)\n\n```\n{person}\n```\n",
        encoding="utf-8",
    )  # fmt: skip
