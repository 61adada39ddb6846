"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "cml": {"width": 8},
    "transrec": {"width": 8},
    "lrml": {"width": 8, "slots": 5, "deviation": 0.5, "negatives": 10, "margin": 2.0},
}  # fmt: skip
SWITCHES = {
    "cml with covariances": {"name": "cml", "covariance": 10.0},
    "transrec with a penalty": {"name": "transrec", "l2": 0.1},
    "lrml own relations": {"name": "lrml", "negative_relation": "own"},
    "lrml of any length": {"name": "lrml", "unit_ball": False},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "cml": {
        "width": ({}, 10),
        "radius": ({}, 0.5),
        "covariance": ({}, 1.0),
    },
    "transrec": {
        "width": ({}, 10),
        "l2": ({}, 0.1),
    },
    "lrml": {
        "width": ({}, 10),
        "slots": ({}, 4),
        "deviation": ({}, 0.2),
        "unit_ball": ({"deviation": 2.0}, False),
        "negatives": ({}, 2),
        "margin": ({}, 0.5),
        "negative_relation": ({}, "own"),
    },
}  # fmt: skip
