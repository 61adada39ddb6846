"""Fixtures that several folders share. Each is made on first use, once in a whole run of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a simulated log: 200 users, six days, item features and profiles, in two parts."""
    from xdm.log.preparing import prepare_log
    from xdm.log.settings import PrepareSettings
    from xdm.simulation.world import World
    from xdm.simulation.writing import EXPOSURES, ITEMS, USERS, write_world

    folder = tmp_path_factory.mktemp("simulated")
    write_world(World(users=200, days=6, clusters=2, topics=6, items_per_topic=5, seed=3), folder / "world")
    world = folder / "world"
    prepare_log(
        world / EXPOSURES, folder / "store", items=world / ITEMS, users=world / USERS,
        settings=PrepareSettings(partitions=2),
    )  # fmt: skip
    return folder / "store"


@pytest.fixture(scope="session")
def trained(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a small XDM trained on `simulated`, with its run folder beside it."""
    from tests.learning import SMALL
    from xdm.log.store import Store
    from xdm.training.config import load_config
    from xdm.training.run import Run

    out = tmp_path_factory.mktemp("trained") / "bundle"
    Run(Store(simulated), load_config("xdm", None, SMALL), out).train()
    return out
