"""A simulated exposure log whose skips mean something: `World` describes it, `xdm.simulation.writing` writes it."""

from xdm.simulation.world import World

__all__ = ["World"]
