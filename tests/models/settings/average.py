"""What the contract suite switches in YouTubeDNN."""

from __future__ import annotations

SMALL = {"youtubednn": {"width": 8, "hidden": [12, 10], "item_width": 6, "field_width": 3}}
SWITCHES = {
    "youtubednn one layer": {"name": "youtubednn", "hidden": [], "final_activation": False, "example_age": False, "field_width": 0},
    "youtubednn with features": {"name": "youtubednn", "feature_width": 3}, "youtubednn short": {"name": "youtubednn", "window": 3},
    "youtubednn tied": {"name": "youtubednn", "item_width": 8, "tie_item_embedding": True},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "youtubednn": {
        "width": ({}, 10), "hidden": ({}, [12]), "item_width": ({}, 5), "window": ({}, 3), "feature_width": ({}, 4),
        "field_width": ({}, 4), "example_age": ({}, False), "final_activation": ({}, False),
        "tie_item_embedding": ({"item_width": 8}, True),
    },
}  # fmt: skip
