"""`xdm prepare` against a plain polars script that reads the same file, maps the ids, sorts by (user, time) and writes.

    python benchmarks/prepare.py                    20 million rows, ids as text and as integers
    python benchmarks/prepare.py --rows 200000      a quick look

A log is generated (500 thousand users of log-normal activity and 1 million heavy-tailed items at 20 million rows, 5 %
clicks, in order of time, zstd Parquet). Each side runs in a process of its own, three times, in turn; printed are the
medians of wall time and peak resident memory, imports included. `xdm prepare` runs once on a small log before, since
numba compiles its kernels on the first run after an install and keeps them.

The polars script does less: it checks nothing, finds no duplicates, counts nothing and writes no checksum.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH = 1_000_000
START, DAYS = 1_700_000_000, 30

POLARS_TEXT = """
import sys
import polars as pl
(
    pl.read_parquet(sys.argv[1])
    .with_columns(pl.col("user_id", "item_id").cast(pl.Categorical).to_physical())
    .sort("user_id", "timestamp", maintain_order=True)
    .write_parquet(sys.argv[2] + ".parquet")
)
"""
# polars has no Categorical of integers; of its other ways (rank("dense") and this join) this is the quicker one.
POLARS_INTEGER = """
import sys
import polars as pl
log = pl.read_parquet(sys.argv[1])
for column in ("user_id", "item_id"):
    codes = log.select(pl.col(column).unique()).with_row_index("code")
    log = log.join(codes, on=column, how="left", maintain_order="left").drop(column).rename({"code": column})
log.sort("user_id", "timestamp", maintain_order=True).write_parquet(sys.argv[2] + ".parquet")
"""
XDM = """
import sys
from xdm.cli import main
sys.argv = ["xdm", "prepare", sys.argv[1], "--out", sys.argv[2], "--overwrite"]
main()
"""


@dataclass(frozen=True)
class Run:
    """Wall time in seconds and peak resident memory in MiB of one process."""

    seconds: float
    mebibytes: float


def write_log(path: Path, rows: int, *, text: bool, seed: int = 7) -> None:
    """A log of ``rows`` exposures in order of time, written a million rows at a time."""
    rng = np.random.default_rng(seed)
    users, items = max(10, rows // 40), max(10, rows // 20)
    activity = np.cumsum(rng.lognormal(0.0, 1.2, users))
    user_ids = pa.array(rng.permutation(users) * 3 + 100_000)
    item_ids = pa.array(rng.permutation(items) * 7 + 1_000_000)
    if text:
        user_ids = pc.binary_join_element_wise("u", user_ids.cast(pa.string()), "")
        item_ids = pc.binary_join_element_wise("item-", item_ids.cast(pa.string()), "")
    writer = None
    for first in range(0, rows, BATCH):
        count = min(BATCH, rows - first)
        user = np.searchsorted(activity, rng.random(count) * activity[-1]).clip(0, users - 1)
        # 60 % of a user's exposures come from 30 items of the user's own, the others from a heavy-tailed catalogue
        own = (user.astype(np.int64) * 2_654_435_761 + rng.integers(0, 30, count) * 40_503) % items
        any_item = (items * rng.random(count) ** 3).astype(np.int64)
        item = np.where(rng.random(count) < 0.6, own, any_item)
        batch = pa.table(
            {
                "user_id": user_ids.take(pa.array(user)),
                "item_id": item_ids.take(pa.array(item)),
                "timestamp": START + (first + np.arange(count)) * (DAYS * 86_400) // rows,
                "clicked": rng.random(count) < 0.05,
            }
        )
        writer = writer or pq.ParquetWriter(path, batch.schema, compression="zstd")
        writer.write_table(batch)
    if writer:
        writer.close()


def run(script: str, *arguments: str) -> Run:
    """Run a Python script in a process of its own and wait for it."""
    started = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", script, *arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    if status != 0:
        raise SystemExit(f"a side ended with status {os.waitstatus_to_exitcode(status)}")
    return Run(seconds, usage.ru_maxrss / 1024)


def median(runs: list[Run]) -> Run:
    return Run(statistics.median(one.seconds for one in runs), statistics.median(one.mebibytes for one in runs))


@click.command()
@click.option("--rows", default=20_000_000, show_default=True, type=click.IntRange(min=1000), help="Rows of the log.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(min=1), help="Runs of each side.")
@click.option("--ids", type=click.Choice(["text", "integer", "both"]), default="both", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work.  [default: a temporary folder]")
def main(rows: int, runs: int, ids: str, folder: Path | None) -> None:
    """Measure both sides and print a table."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        write_log(work / "small.parquet", 1000, text=True)
        run(XDM, str(work / "small.parquet"), str(work / "small"))
        click.echo(f"{rows:,} rows, median of {runs}, {os.cpu_count()} cores, other load {os.getloadavg()[0]:.1f}")
        click.echo(f"{'ids':8} {'':8} {'wall s':>8} {'peak MiB':>9}   each run, s")
        for kind, script in (("text", POLARS_TEXT), ("integer", POLARS_INTEGER)):
            if ids in (kind, "both"):
                log = work / f"{kind}.parquet"
                write_log(log, rows, text=kind == "text")
                compare(kind, script, log, work, runs)
                log.unlink()


def compare(kind: str, script: str, log: Path, work: Path, runs: int) -> None:
    sides: dict[str, list[Run]] = {"polars": [], "xdm": []}
    for _ in range(runs):
        sides["polars"].append(run(script, str(log), str(work / "polars")))
        sides["xdm"].append(run(XDM, str(log), str(work / "store")))
    for name, found in sides.items():
        middle, each = median(found), ", ".join(f"{one.seconds:.2f}" for one in found)
        click.echo(f"{kind:8} {name:8} {middle.seconds:8.2f} {middle.mebibytes:9.0f}   {each}")
    polars, xdm = median(sides["polars"]), median(sides["xdm"])
    time_ratio, memory_ratio = xdm.seconds / polars.seconds, xdm.mebibytes / polars.mebibytes
    click.echo(f"{kind:8} {'ratio':8} {time_ratio:8.2f} {memory_ratio:9.2f}   xdm / polars")


if __name__ == "__main__":
    main()
