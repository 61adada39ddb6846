"""A simulated exposure log whose skips mean something, and what a Bayes filter makes of it.

`World` describes it, `xdm.simulation.named` holds some, `xdm.simulation.writing` writes one, and
`xdm.simulation.oracle` ranks its items as one who knows its settings would.
"""

from xdm.simulation.world import World

__all__ = ["World"]
