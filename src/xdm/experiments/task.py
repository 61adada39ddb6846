"""What one process does: train and judge one variant with one seed on one log, or one trial of a search."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from xdm.experiments.file import Kept, LeaveLastOutProtocol, RollingProtocol, TimeProtocol
from xdm.folders import new_folder, write_json
from xdm.schema import InternalError, UsageError
from xdm.simulation.world import World

RUN_FILE, TRIAL_FILE = "run.json", "trial.json"
RESULTS = "results"  # below a run's folder: what `xdm evaluate` writes
BUNDLE = "bundle"


class Task(BaseModel):
    """One run or one trial, as it is handed to its process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["run", "trial"]
    out: Path
    log: str
    variant: str
    model: str
    trained: bool
    seed: int | None
    words: tuple[str, ...]  # assignments as `--set` takes them
    store: Path
    world: World | None
    protocol: TimeProtocol | LeaveLastOutProtocol | RollingProtocol = Field(discriminator="kind")
    ks: tuple[int, ...]
    exclude_seen: bool
    unclicked_k: int
    keep: tuple[Kept, ...]
    trial: int | None = None  # its number in the search
    values: dict[str, Any] = {}  # what a search gave: of this trial, or the winner's

    @property
    def title(self) -> str:
        seed = f", trial {self.trial}" if self.kind == "trial" else "" if self.seed is None else f", seed {self.seed}"
        return f"{self.log}, {self.variant}{seed}"

    @property
    def done(self) -> bool:
        return (self.out / (TRIAL_FILE if self.kind == "trial" else RUN_FILE)).exists()


def carry_out(task: Task) -> None:
    """Do ``task``; its folder appears whole or not at all.

    Raises:
        XdmError: as training and evaluation raise it.
    """
    from xdm.experiments.judging import run, trial

    kind = RUN_FILE if task.kind == "run" else TRIAL_FILE
    began, cpu_began = time.monotonic(), time.process_time()
    with new_folder(task.out, kind, overwrite=True) as folder:
        found = run(task, folder) if task.kind == "run" else trial(task, folder)
        described = task.model_dump(mode="json", include={"log", "variant", "model", "seed", "trial", "values"})
        measured = {
            "seconds": round(time.monotonic() - began, 2), "cpu_seconds": round(time.process_time() - cpu_began, 2),
            "peak_memory_mb": round(peak_memory_mb(), 1),
        }  # fmt: skip
        write_json(folder / kind, described | found | measured)


def read_record(task: Task) -> dict[str, Any]:
    """What a finished task says of itself.

    Raises:
        UsageError: it cannot be read.
    """
    path = task.out / (TRIAL_FILE if task.kind == "trial" else RUN_FILE)
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); remove {task.out} and run the experiment again") from None
    if not isinstance(record, dict):
        raise InternalError(f"{path} holds no record")
    return record


def peak_memory_mb(status: Path = Path("/proc/self/status")) -> float:
    """The largest resident memory of a process so far, in MB (2²⁰ bytes).

    ``ru_maxrss`` alone would count the parent too, whose size a new process has before it starts its own program.
    """
    try:
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
