"""`benchmarks/serve.py` on a small scale."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "serve.py"


def run_part(name: str, *options: object) -> dict[str, Any]:
    """The figures of a part, in which nothing failed."""
    command = [sys.executable, str(SCRIPT), name, "--json", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
