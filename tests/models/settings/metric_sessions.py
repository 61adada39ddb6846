"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "prme": {"width": 6, "tau": 40},
    "triplet": {"width": 8, "hidden": 12, "window": 4},
    "mdr": {"width": 8},
    "masr": {"width": 6, "members": 5},
}  # fmt: skip
SWITCHES = {
    "prme without a sequence": {"name": "prme", "tau": 0},
    "mdr of users": {"name": "mdr", "session": False},
    "mass": {"name": "masr", "parts": "mass", "activation": "tanh"},
    "masr of users": {"name": "masr", "session": False, "beta": 0.3, "activation": "none"},
    "triplet-facenet": {"name": "triplet", "loss": "hinge", "margin": 1.0, "unit": True, "mining": "semi_hard"},
    "triplet of what was left": {"name": "triplet", "negative": "unclicked", "loss": "soft_margin", "swap": True},
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
    "triplet": {
        "width": ({}, 10),
        "hidden": ({}, 10),
        "window": ({}, 3),
        "unit": ({}, True),
        "loss": ({}, "soft_margin"),
        "margin": ({"loss": "hinge"}, 0.5),
        "swap": ({}, True),
        "negatives": ({}, 5),
        "negative": ({}, "unclicked"),
        "mining": ({}, "semi_hard"),
    },
    "mdr": {
        "width": ({}, 10),
        "session": ({}, False),
    },
    "masr": {
        "width": ({}, 10),
        "parts": ({}, "mass"),
        "members": ({}, 4),
        "beta": ({}, 0.3),
        "session": ({}, False),
        "activation": ({}, "tanh"),
        "dropout": ({}, 0.0),
    },
}  # fmt: skip
