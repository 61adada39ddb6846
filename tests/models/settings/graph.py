"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "srgnn": {"width": 8},
}  # fmt: skip
SWITCHES = {
    "srgnn two steps": {"name": "srgnn", "steps": 2, "window": 6},
    "srgnn not hybrid": {"name": "srgnn", "hybrid": False},
    "srgnn with features": {"name": "srgnn", "feature_width": 3, "tie_item_embedding": False},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "srgnn": {
        "width": ({}, 10),
        "steps": ({}, 2),
        "window": ({}, 3),
        "hybrid": ({}, False),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, False),
    },
}  # fmt: skip
