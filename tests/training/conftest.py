from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def _no_flush_to_disk() -> Iterator[None]:
    """Runs in this process need no flush to disk; the one that is killed runs in a process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> None:
    """Two threads that share a busy core wait for each other most of the time."""
    torch.set_num_threads(1)
