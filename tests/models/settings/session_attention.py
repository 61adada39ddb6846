"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "narm": {"width": 8, "hidden": 6},
    "stamp": {"width": 8, "deviation": 0.1},
}  # fmt: skip
SWITCHES = {
    "narm paper's": {"name": "narm", "attention": "sum", "gate": "sigmoid"},
    "narm with features": {"name": "narm", "feature_width": 3, "tie_item_embedding": False},
    "stmp": {"name": "stamp", "memory": "mean"},
    "stamp paper's": {"name": "stamp", "add_mean": False, "bias": True, "max_norm": 0},
    "stamp with features": {"name": "stamp", "feature_width": 3, "tie_item_embedding": False},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "narm": {
        "width": ({}, 10),
        "hidden": ({}, 5),
        "attention": ({}, "sum"),
        "gate": ({}, "sigmoid"),
        "input_dropout": ({}, 0.4),
        "dropout": ({}, 0.2),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, False),
    },
    "stamp": {
        "width": ({}, 10),
        "memory": ({}, "mean"),
        "add_mean": ({}, False),
        "bias": ({}, True),
        "max_norm": ({}, 0.001),
        "deviation": ({}, 0.01),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, False),
    },
}  # fmt: skip
