"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "m3": {"width": 8},
    "hrnn": {"width": 8, "user_width": 6},
    "hiertcn": {"width": 8, "user_width": 6, "channels": [8, 8], "kernel": 3},
}  # fmt: skip
SWITCHES = {
    "m3 convolution": {"name": "m3", "short": "convolution", "window": 3},
    "m3 with contexts": {"name": "m3", "context_width": 3, "feature_width": 3},
    "m3 tied": {"name": "m3", "tie_item_embedding": True},
    "hrnn init": {"name": "hrnn", "variant": "init"},
    "hrnn separate": {"name": "hrnn", "item_width": 5, "bias": False},
    "hrnn tied": {"name": "hrnn", "tie_item_embedding": True},
    "hrnn with features": {"name": "hrnn", "feature_width": 3},
    "hiertcn pinterest": {"name": "hiertcn", "form": "pinterest", "channels": [8, 6, 6], "dropout": 0.2},
    "hiertcn one layer": {"name": "hiertcn", "user_layers": 1, "kernel": 5, "feature_width": 3},
    "hiertcn tied": {"name": "hiertcn", "tie_item_embedding": True},
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
    "hrnn": {
        "variant": ({}, "init"),
        "width": ({}, 10),
        "user_width": ({}, 7),
        "session_dropout": ({}, 0.4),
        "user_dropout": ({}, 0.4),
        "begin_dropout": ({}, 0.4),
        "item_width": ({}, 5),
        "feature_width": ({}, 4),
        "bias": ({}, False),
        "tie_item_embedding": ({}, True),
    },
    "hiertcn": {
        "form": ({}, "pinterest"),
        "width": ({}, 10),
        "channels": ({}, [8, 6]),
        "kernel": ({}, 2),
        "user_width": ({}, 7),
        "user_layers": ({}, 1),
        "dropout": ({}, 0.4),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, True),
    },
}  # fmt: skip
