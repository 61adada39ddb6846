"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "m3": {"width": 8},
}  # fmt: skip
SWITCHES = {
    "m3 convolution": {"name": "m3", "short": "convolution", "window": 3},
    "m3 with contexts": {"name": "m3", "context_width": 3, "feature_width": 3},
    "m3 tied": {"name": "m3", "tie_item_embedding": True},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "m3": {
        "width": ({}, 10),
        "short": ({}, "convolution"),
        "window": ({"short": "convolution"}, 3),
        "context_width": ({}, 3),
        "dropout": ({}, 0.4),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, True),
    },
}  # fmt: skip
