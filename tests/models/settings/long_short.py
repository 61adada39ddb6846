"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "shan": {"width": 16},  # a small average of tied vectors learns slowly
    "slirec": {"width": 8, "item_width": 6, "feature_width": 3, "attention": 5},
    "binn": {"width": 8, "present": 4},
}  # fmt: skip
SWITCHES = {
    "shan sigmoid": {"name": "shan", "activation": "sigmoid"},
    "shan session alone": {"name": "shan", "long_term": False},
    "shan with features": {"name": "shan", "feature_width": 3, "tie_item_embedding": False},
    "shan with penalties": {"name": "shan", "l2_vectors": 0.01, "l2_attention": 0.1},
    "slirec fixed": {"name": "slirec", "fusion": "fixed"},
    "slirec short window": {"name": "slirec", "window": 3},
    "slirec ids alone": {"name": "slirec", "item_width": 8, "feature_width": 0, "tie_item_embedding": True},
    "binn of clicks": {"name": "binn", "behaviours": "clicks"},
    "binn short history": {"name": "binn", "history": 3},
    "binn with features": {"name": "binn", "feature_width": 3, "tie_item_embedding": False},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "shan": {
        "width": ({}, 10),
        "activation": ({}, "sigmoid"),
        "long_term": ({}, False),
        "l2_vectors": ({}, 0.1),
        "l2_attention": ({}, 0.1),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, False),
    },
    "slirec": {
        "width": ({}, 10),
        "item_width": ({}, 7),
        "feature_width": ({}, 0),
        "attention": ({}, 6),
        "fusion": ({}, "fixed"),
        "window": ({}, 3),
        "tie_item_embedding": ({"item_width": 8}, True),
    },
    "binn": {
        "width": ({}, 10),
        "behaviours": ({}, "clicks"),
        "present": ({}, 3),
        "history": ({}, 3),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, False),
    },
}  # fmt: skip
