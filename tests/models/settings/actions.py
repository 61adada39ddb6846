"""What the contract suite switches in the models of clicks and skips."""

from __future__ import annotations

SMALL = {
    "mrmn": {"width": 8, "slots": 5, "deviation": 0.5, "negatives": 10, "skips": 2, "margin": 2.0, "skipped_margin": 1.0},
    "metas": {"width": 8, "dropout": 0.2, "candidates": 20, "skips": 2},
}  # fmt: skip
SWITCHES = {
    "mrmn softmax": {"name": "mrmn", "weights": "softmax"},
    "mrmn own relations": {"name": "mrmn", "negative_relation": "own"},
    "mrmn relations of the type": {"name": "mrmn", "negative_relation": "positive"},
    "mrmn of any length": {"name": "mrmn", "unit_ball": False},
    "mrmn skips as negatives": {"name": "mrmn", "skipped_as": "negative"},
    "mrmn of clicks alone": {"name": "mrmn", "skips": 0},
    "metas two layers": {"name": "metas", "layers": 2},
    "metas three layers": {"name": "metas", "layers": 3, "dropout": 0.0},
    "metas without strangers": {"name": "metas", "strangers": 0.0},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "mrmn": {
        "width": ({}, 10),
        "slots": ({}, 4),
        "weights": ({}, "softmax"),
        "deviation": ({}, 0.2),
        "unit_ball": ({"deviation": 2.0}, False),
        "negative_relation": ({}, "own"),
        "negatives": ({}, 2),
        "skips": ({}, 1),
        "skipped_as": ({}, "negative"),
        "margin": ({}, 0.5),
        "skipped_margin": ({}, 0.3),
    },
    "metas": {
        "width": ({}, 10),
        "layers": ({}, 2),
        "dropout": ({}, 0.4),
        "margin": ({}, 1.0),
        "candidates": ({}, 10),
        "negatives": ({}, 1),
        "skips": ({}, 1),
        "strangers": ({}, 0.5),
    },
}  # fmt: skip
