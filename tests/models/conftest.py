from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Batches of a few sessions are slower on several threads, and sums must be rounded alike."""
    torch.set_num_threads(1)
