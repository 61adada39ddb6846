"""Worlds by name, from YAML and from a folder; the files of `experiments/worlds` are the named ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from xdm.cli.simulate import simulate
from xdm.schema import ConfigError
from xdm.simulation import World
from xdm.simulation.named import WORLDS, load_world
from xdm.simulation.writing import write_world

FILES = Path(__file__).parents[2] / "experiments" / "worlds"


def test_a_name_a_file_and_a_folder_name_a_world(tmp_path: Path) -> None:
    assert load_world("small") == World()
    (tmp_path / "mine.yaml").write_text("users: 30\ntaste_change: 0.5\n")
    world = load_world(tmp_path / "mine.yaml")
    assert world == World(users=30, taste_change=0.5)
    write_world(world, tmp_path / "log")
    assert load_world(str(tmp_path / "log")) == world


def test_the_files_are_the_named_worlds() -> None:
    assert {path.stem: load_world(path) for path in FILES.glob("*.yaml")} == {
        name: world for name, world in WORLDS.items() if name != "small"
    }


def test_the_option_lists_the_names() -> None:
    (option,) = [parameter for parameter in simulate.params if parameter.name == "source"]
    assert str(option.help).startswith("To start from: " + ", ".join(WORLDS))


def test_what_is_no_world_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no world 'referense'.*Did you mean 'reference'\?"):
        load_world("referense")
    with pytest.raises(ConfigError, match=r"is no simulated log: its manifest.json is missing"):
        load_world(tmp_path)
    for text, message in (
        ("userz: 3", r"'userz' is no setting of a world. Did you mean 'users'\?"),
        ("users: 0", "users 0: Input should be greater than or equal to 1"),
        ("[1, 2]", "holds no settings of a world"),
        ("a: [", "cannot be read as YAML"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_world(tmp_path / "bad.yaml")


def test_worlds_are_equal_whatever_was_drawn_from_them() -> None:
    one, two = World(users=5), World(users=5)
    assert len(one.catalogue.brand) == len(two.catalogue.brand) == one.n_items
    assert one == two
    assert hash(one) == hash(two)
    assert one != World(users=6)
