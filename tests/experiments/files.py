"""What the tests of experiments share: small files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.learning import SMALL

# Width 8 and two epochs, as in the tests of training; the seed and the threads are the experiment's own.
SETTINGS = {
    key: yaml.safe_load(value)
    for key, value in (text.split("=") for text in SMALL)
    if key not in ("training.seed", "training.threads")
} | {"training.monitor": "recall@5", "split.validation": 0.2, "split.test": 0.2}

BASE: dict[str, Any] = {
    "name": "small", "settings": SETTINGS, "variants": {"sdm": {"model": "sdm"}}, "control": "sdm", "seeds": [1],
    "ks": [5, 10], "metrics": ["hr@5", "recall@10"], "workers": 2, "memory": "8GB",
}  # fmt: skip


def write_file(folder: Path, store: Path | None = None, **keys: Any) -> Path:
    """`BASE` with ``keys`` over it, as a file in ``folder``; ``store`` is its one log, named ``log``."""
    content = BASE | ({} if store is None else {"logs": {"log": {"store": str(store)}}}) | keys
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
