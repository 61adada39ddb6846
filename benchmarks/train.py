"""Training time of XDM against SDM's, per label, where unclicked lists are as long as they get. Run: python benchmarks/train.py

The rival is SDM, the same encoder without the branch: same log, labels, batches, loss and thread. Steps are taken in
turn, so that whatever else the machine does hits both. Reading, rows and batches are part of a step as in training.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xdm.data.catalogue import build_catalogue
from xdm.log.preparing import prepare_log
from xdm.log.store import Store
from xdm.training.config import load_config
from xdm.training.loop import Loop, new_model, set_threads, training_rows

DAY = 86_400
LONG = 90  # items; the cut is at 100


def write_log(folder: Path, users: int, items: int, seed: int = 1) -> Path:
    """Users who see the same 150 items of their own again and again for three days and click 3 % of what they see."""
    rng = np.random.default_rng(seed)
    each = 600
    user = np.repeat(np.arange(users), each)
    pool = (items * rng.random((users, 150)) ** 2).astype(np.int64)
    item = pool[user, rng.integers(0, 150, users * each)]
    table = pa.table({
        "user_id": user, "item_id": item, "timestamp": 1_700_000_000 + rng.integers(0, 3 * DAY, users * each),
        "clicked": rng.random(users * each) < 0.03,
    })  # fmt: skip
    pq.write_table(table, folder / "log.parquet")
    prepare_log(folder / "log.parquet", folder / "store")
    return folder / "store"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--variant", action="append", default=[], metavar="PRESET[,KEY=VALUE…]", help="more rivals of SDM")
    arguments = parser.parse_args()
    set_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(write_log(Path(folder), arguments.users, arguments.items))
        until = store.time_range[1] + 1
        catalogue = build_catalogue(store, until)
        loops = {}
        for name in ("sdm", "xdm", "xdm,data.unclicked_at=session", *arguments.variant):
            model, *settings = name.split(",")
            config = load_config(model, None, settings)
            loops[name] = Loop(new_model(config, catalogue), training_rows(store, catalogue, config, until=until), config)
        rows = loops["xdm"].rows
        lengths = np.diff(rows._lists[0])[rows._list_of]
        full = np.flatnonzero(lengths[rows._first[:-1]] >= LONG)  # sessions whose lists are as long as they get
        print(
            f"{len(full):,} of {rows.n_rows:,} sessions, with unclicked lists of "
            f"{lengths[rows._first[full]].mean():.0f} items in the mean; {catalogue.n_candidates:,} candidates"
        )
        spent = {name: [] for name in loops}
        order = np.random.default_rng(0).permutation(full)
        size = load_config("sdm").training.batch_size
        for step in range(arguments.steps):
            begin = step * size % (len(order) - size)
            for name, loop in loops.items():
                began = time.perf_counter()
                record = loop._step(order[begin : begin + size])
                spent[name].append((time.perf_counter() - began) / record["labels"])
                loop.step += 1
        warm = {name: np.array(seconds[5:]) for name, seconds in spent.items()}
        for name, seconds in warm.items():
            ratio = seconds / warm["sdm"]
            print(f"{name:32s} {np.median(seconds) * 1e6:8.0f} µs a label, {np.median(ratio):.2f} x SDM")


if __name__ == "__main__":
    main()
