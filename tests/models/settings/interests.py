"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "comirec": {"width": 8},
    "comirec_dr": {"width": 8},
    "mind": {"width": 8},
}  # fmt: skip
SWITCHES = {
    "comirec one interest": {"name": "comirec", "interests": 1},
    "comirec with features": {"name": "comirec", "feature_width": 3},
    "comirec not tied": {"name": "comirec", "tie_item_embedding": False},
    "comirec_dr with features": {"name": "comirec_dr", "feature_width": 3},
    "comirec_dr one": {"name": "comirec_dr", "interests": 1},
    "mind of interests alone": {"name": "mind", "layers": 0, "adaptive": False},
    "mind two layers": {"name": "mind", "layers": 2},
    "mind soft": {"name": "mind", "power": 1.0, "user_width": 4},
    "mind with features": {"name": "mind", "feature_width": 3},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "comirec": {
        "width": ({}, 10),
        "interests": ({}, 2),
        "hidden": ({}, 3),
        "length": ({}, 60),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, False),
    },
    "comirec_dr": {
        "width": ({}, 10),
        "interests": ({}, 2),
        "length": ({}, 60),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, False),
    },
    "mind": {
        "width": ({}, 10),
        "interests": ({}, 2),
        "adaptive": ({}, False),
        "deviation": ({}, 2.0),
        "power": ({}, 1.0),
        "layers": ({}, 2),
        "length": ({}, 60),
        "feature_width": ({}, 4),
        "user_width": ({}, 4),
        "field_width": ({}, 3),
        "tie_item_embedding": ({}, False),
    },
}  # fmt: skip
