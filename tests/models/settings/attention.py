"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "sasrec": {"width": 8, "heads": 2},
    "ligr": {"width": 8, "heads": 2},
    "hstu": {"width": 8, "heads": 2, "key_width": 3, "value_width": 5},
    "bert4rec": {"width": 8, "inner": 12},
}  # fmt: skip
SWITCHES = {
    "sasrec original": {"name": "sasrec", "norm": "original"},
    "sasrec one block": {"name": "sasrec", "blocks": 1},
    "sasrec with features": {"name": "sasrec", "feature_width": 3, "tie_item_embedding": False},
    "sasrec post": {"name": "sasrec", "norm": "post", "attention_output": True},
    "sasrec from the end": {"name": "sasrec", "positions": "from_end"},
    "gsasrec": {"name": "sasrec", "norm": "original", "scale_inputs": False, "norm_eps": 1e-05, "tie_item_embedding": False},
    "ligr with features": {"name": "ligr", "feature_width": 3},
    "ligr from the end": {"name": "ligr", "positions": "from_end"},
    "hstu of the request": {"name": "hstu", "time_bias": "request"},
    "hstu of no time": {"name": "hstu", "time_bias": "none"},
    "hstu with features": {"name": "hstu", "feature_width": 3, "tie_item_embedding": False},
    "bert4rec with features": {"name": "bert4rec", "feature_width": 3, "tie_item_embedding": False},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "sasrec": {
        "width": ({}, 10),
        "blocks": ({}, 1),
        "heads": ({}, 4),
        "dropout": ({}, 0.4),
        "length": ({}, 60),
        "positions": ({}, "from_end"),
        "norm": ({}, "original"),
        "norm_eps": ({}, 0.001),
        "scale_inputs": ({}, False),
        "attention_output": ({}, True),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, False),
    },
    "ligr": {
        "width": ({}, 10),
        "blocks": ({}, 1),
        "heads": ({}, 4),
        "dropout": ({}, 0.4),
        "inner": ({}, 3),
        "length": ({}, 60),
        "positions": ({}, "from_end"),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, False),
    },
    "hstu": {
        "width": ({}, 10),
        "blocks": ({}, 1),
        "heads": ({}, 1),
        "key_width": ({}, 4),
        "value_width": ({}, 4),
        "dropout": ({}, 0.4),
        "length": ({}, 60),
        "time_bias": ({}, "request"),
        "temperature": ({}, 0.1),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, False),
    },
    "bert4rec": {
        "width": ({}, 10),
        "blocks": ({}, 1),
        "heads": ({}, 4),
        "inner": ({}, 10),
        "head": ({}, False),
        "dropout": ({}, 0.4),
        "attention_dropout": ({}, 0.4),
        "length": ({}, 60),
        "mask_share": ({}, 0.5),
        "last_share": ({}, 0.3),
        "feature_width": ({}, 4),
        "tie_item_embedding": ({}, False),
    },
}  # fmt: skip
