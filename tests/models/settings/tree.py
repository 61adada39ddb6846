"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "tdm": {"width": 8, "windows": [1, 1, 2, 4], "hidden": [12, 10], "attention_hidden": 6, "norm": "layer",
            "negatives": [6, 3, 2], "beam": 4},
}  # fmt: skip
SWITCHES = {
    "tdm attention": {"name": "tdm", "variant": "attention"},
    "tdm batch norm": {"name": "tdm", "norm": "batch"},
    "tdm with features": {"name": "tdm", "feature_width": 3},
    "tdm no hidden layer": {"name": "tdm", "hidden": []},
    "tdm not tied": {"name": "tdm", "variant": "attention", "tie_item_embedding": False},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "tdm": {
        "variant": ({}, "attention"),
        "width": ({}, 10),
        "windows": ({}, [1, 2, 2, 3]),
        "hidden": ({}, [12]),
        "attention_hidden": ({"variant": "attention"}, 7),
        "norm": ({}, "batch"),
        "negatives": ({}, [5, 3, 2]),
        "negatives_for": ({}, "label"),
        "category": ({}, "brand"),
        "tree_epochs": ({}, 2),
        "beam": ({}, 16),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, False),
    },
}  # fmt: skip
