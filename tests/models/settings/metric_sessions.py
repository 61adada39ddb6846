"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "prme": {"width": 6, "tau": 40},
}  # fmt: skip
SWITCHES = {
    "prme without a sequence": {"name": "prme", "tau": 0},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "prme": {
        "width": ({}, 5),
        "alpha": ({}, 0.4),
        "tau": ({}, 0),
        "l2": ({}, 0.1),
        "deviation": ({}, 0.2),
    },
}  # fmt: skip
