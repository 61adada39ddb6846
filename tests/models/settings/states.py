"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "rrn": {"width": 6, "stationary": 4, "hidden": 8, "item_width": 7, "items_a_step": 20},
}  # fmt: skip
SWITCHES = {
    "rrn static items": {"name": "rrn", "items": "static"},
    "rrn without stationary vectors": {"name": "rrn", "stationary": 0},
    "rrn with features": {"name": "rrn", "feature_width": 3},
    "rrn sampled": {"name": "rrn", "negatives": 6, "period": 7200},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "rrn": {
        "width": ({}, 10),
        "stationary": ({}, 0),
        "hidden": ({}, 6),
        "item_width": ({}, 8),
        "feature_width": ({}, 3),
        "items": ({}, "static"),
        "period": ({}, 3600),
        "items_a_step": ({}, 2),
        "negatives": ({}, 6),
    },
}  # fmt: skip
