"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "caser": {"width": 8, "user_width": 4, "horizontal": 3, "vertical": 2},
}  # fmt: skip
SWITCHES = {
    "caser long window": {"name": "caser", "window": 9, "feature_width": 3},
    "caser without user": {"name": "caser", "user_width": 0},
    "caser other activations": {"name": "caser", "conv_activation": "tanh", "dense_activation": "identity"},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "caser": {
        "width": ({}, 10),
        "user_width": ({}, 5),
        "window": ({}, 3),
        "horizontal": ({}, 2),
        "vertical": ({}, 1),
        "conv_activation": ({}, "tanh"),
        "dense_activation": ({}, "sigmoid"),
        "dropout": ({}, 0.2),
        "feature_width": ({}, 4),
    },
}  # fmt: skip
