"""What a running `xdm serve` must show: each part starts one on loopback, loads it, and says what it saw.

    python benchmarks/serve.py PART [--json] [--folder DIR] [options; PART --help]

Every part ends with exit code 1 where something that must hold did not: the figures name it under ``failed``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import benchmarks.serving
from benchmarks.serving.process import table


def parts() -> list[ModuleType]:
    """The modules of `benchmarks/serving/` that are parts: those with `add_parser(subparsers)` and `run(args)`."""
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.serving.__path__))
    modules = [importlib.import_module(f"benchmarks.serving.{name}") for name in names]
    return [module for module in modules if hasattr(module, "add_parser")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subparsers = parser.add_subparsers(required=True, metavar="PART")
    for part in parts():
        made = part.add_parser(subparsers)
        made.add_argument("--json", action="store_true", help="one JSON object in place of the table")
        made.add_argument("--folder", type=Path, default=None, help="where to work; default: a temporary folder")
        made.set_defaults(run=part.run)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xdm-serve-") as temporary:
        args.folder = args.folder or Path(temporary)
        args.folder.mkdir(parents=True, exist_ok=True)
        figures = args.run(args)
    print(json.dumps(figures) if args.json else table(figures))
    return int(bool(figures.get("failed")))


if __name__ == "__main__":
    sys.exit(main())
