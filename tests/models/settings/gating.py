"""What the contract suite switches in HGN."""

from __future__ import annotations

SMALL = {"hgn": {"width": 8}}
SWITCHES = {
    "hgn long window": {"name": "hgn", "window": 9, "feature_width": 3}, "hgn max": {"name": "hgn", "pooling": "max"},
    "hgn without items": {"name": "hgn", "item_product": False}, "hgn tied": {"name": "hgn", "tie_item_embedding": True},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "hgn": {
        "width": ({}, 10), "window": ({}, 3), "pooling": ({}, "max"), "item_product": ({}, False), "feature_width": ({}, 4),
        "tie_item_embedding": ({}, True),
    },
}  # fmt: skip
