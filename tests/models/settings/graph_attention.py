"""What the contract suite switches in GC-SAN."""

from __future__ import annotations

SMALL = {"gcsan": {"width": 8}}
SWITCHES = {
    "gcsan deep": {"name": "gcsan", "steps": 2, "blocks": 3, "window": 6},
    "gcsan with features": {"name": "gcsan", "feature_width": 3, "tie_item_embedding": False},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "gcsan": {
        "width": ({}, 10), "steps": ({}, 2), "blocks": ({}, 2), "weight": ({}, 0.4), "dropout": ({}, 0.4), "window": ({}, 3),
        "feature_width": ({}, 4), "tie_item_embedding": ({}, False),
    },
}  # fmt: skip
